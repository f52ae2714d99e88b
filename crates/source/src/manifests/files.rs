//! Which files belong to a path of manifests.

use std::collections::BTreeSet;
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// How deep directories may be nested: more is a loop.
const MAX_DEPTH: usize = 32;

/// What was found at a path.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The files, sorted.
    pub(super) files: Vec<(PathBuf, Stamp)>,
    /// Directories whose changes matter, symbolic links followed.
    pub(super) directories: BTreeSet<PathBuf>,
    /// What could not be read.
    pub(super) errors: Vec<(PathBuf, io::Error)>,
}

/// Changes whenever the content of a file may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether there is something readable at a path.
pub(super) fn check(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() { fs::read_dir(path).map(drop) } else { open(path).map(drop) }
}

/// The content of a file.
///
/// # Errors
/// It cannot be read, or it is no regular file: reading a FIFO or a terminal may never end.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    // Some devices act when they are opened.
    check_regular(&fs::metadata(path)?)?;
    // What is at the path now may be another thing: opening a FIFO would wait for its writer.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn check_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason = format!("{}, not a regular file", type_text(metadata.file_type()));
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

fn type_text(file_type: FileType) -> &'static str {
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a FIFO"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Finds the regular files: the path itself whatever its name, or what is in the directory and below.
pub(super) fn find(path: &Path) -> io::Result<Found> {
    let metadata = fs::metadata(path)?;
    let mut found = Found::default();
    if metadata.is_dir() {
        descend(path, MAX_DEPTH, &mut BTreeSet::new(), &mut found);
    } else {
        check_regular(&metadata)?;
        found.files.push((path.to_owned(), Stamp::of(&metadata)));
    }
    found.directories.extend(link_parents(path));
    found.files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

/// The directories in which a path, and what it links to, can be replaced.
pub(super) fn link_parents(path: &Path) -> Vec<PathBuf> {
    let mut parents = Vec::new();
    let own = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    parents.push(own);
    if let Ok(real) = fs::canonicalize(path) {
        parents.extend(real.parent().map(Path::to_owned));
    }
    parents
}

fn descend(directory: &Path, depth: usize, seen: &mut BTreeSet<(u64, u64)>, found: &mut Found) {
    if depth == 0 {
        let reason = format!("nested deeper than {MAX_DEPTH} directories");
        return found.errors.push((directory.to_owned(), io::Error::other(reason)));
    }
    let entries = match list(directory, seen) {
        Ok(entries) => entries,
        Err(error) => return found.errors.push((directory.to_owned(), error)),
    };
    found.directories.insert(directory.to_owned());
    for entry in entries {
        match fs::metadata(&entry) {
            Ok(metadata) if metadata.is_dir() => {
                descend(&entry, depth.saturating_sub(1), seen, found);
            }
            Ok(metadata) if is_manifest(&entry) => {
                if is_link(&entry) {
                    found.directories.extend(link_parents(&entry));
                }
                match check_regular(&metadata) {
                    Ok(()) => found.files.push((entry, Stamp::of(&metadata))),
                    Err(error) => found.errors.push((entry, error)),
                }
            }
            // It went away since it was listed, or is a link to nothing: one without such a name may have led to a directory.
            Err(error) if is_manifest(&entry) || is_link(&entry) => {
                found.errors.push((entry, error));
            }
            // What it is cannot be known, so it may be a directory.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                found.errors.push((entry, error));
            }
            _ => {}
        }
    }
}

/// The entries of a directory that are not hidden. ConfigMap mounts keep their real files in hidden directories and link to them.
fn list(directory: &Path, seen: &mut BTreeSet<(u64, u64)>) -> io::Result<Vec<PathBuf>> {
    let metadata = fs::metadata(directory)?;
    if !seen.insert((metadata.dev(), metadata.ino())) {
        // Links form a loop, or lead here twice.
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}
