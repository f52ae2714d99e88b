//! Checksums, in the form of `sha256sum`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes the sums of all other files of a directory into it, under this name; the names of the files.
pub(super) fn write(directory: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut names = entries
        .map(|entry| entry?.file_name().into_string().ok().context("a name that is no text"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    names.retain(|file| file != name);
    names.sort();
    let mut text = String::new();
    for file in &names {
        writeln!(text, "{}  {file}", sha256(&fs::read(directory.join(file))?))?;
    }
    fs::write(directory.join(name), text)?;
    Ok(names)
}
