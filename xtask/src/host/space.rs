//! Whether the disk has room for the build: a build that runs out of space ends in the middle, with a message of the linker.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::sys::statvfs::statvfs;

use crate::workspace;

/// What `cargo xtask test` writes below the target directory on an empty one, and half as much again.
const WANTED: u64 = 9 << 30;

/// Checks that the disk of the target directory has room for what is not built yet.
///
/// # Errors
/// When it has not.
pub(super) fn check() -> anyhow::Result<()> {
    let target = workspace::target_directory()?;
    fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
    enough(&target, available(&target)?, size(&target))
}

fn enough(target: &Path, available: u64, built: u64) -> anyhow::Result<()> {
    let needed = WANTED.saturating_sub(built);
    ensure!(
        available >= needed,
        "{} has {:.1} GB of free space, and the build needs {:.1}: free some, or set CARGO_TARGET_DIR to a directory of another disk",
        target.display(),
        gigabytes(available),
        gigabytes(needed)
    );
    Ok(())
}

/// Bytes that this user may still write there.
fn available(directory: &Path) -> anyhow::Result<u64> {
    let disk = statvfs(directory).with_context(|| directory.display().to_string())?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Bytes of the files in a directory and below it; what disappears meanwhile counts nothing.
fn size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{WANTED, available, enough, size};

    #[test]
    fn what_is_built_needs_no_room() {
        let target = Path::new("t");
        enough(target, WANTED, 0).unwrap();
        enough(target, 0, WANTED + 1).unwrap();
        enough(target, WANTED / 2, WANTED / 2).unwrap();
        let error = enough(target, 1_000_000_000, 0).unwrap_err().to_string();
        assert!(
            error.starts_with("t has 1.0 GB of free space, and the build needs 9.7"),
            "{error}"
        );
    }

    #[test]
    fn files_are_counted_at_every_depth() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("a/b")).unwrap();
        fs::write(directory.path().join("x"), [0; 10]).unwrap();
        fs::write(directory.path().join("a/b/y"), [0; 5]).unwrap();
        assert_eq!(size(directory.path()), 15);
        assert!(available(directory.path()).unwrap() > 0);
    }
}
