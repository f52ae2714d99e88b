//! What reads bytes and is not public, for fuzz targets. None may panic, whatever it reads.

use std::hint::black_box;

use crate::{kubernetes, manifests};

/// Reads the text of a file of manifests.
pub fn manifest(text: &str) {
    black_box(manifests::parse(text));
}

/// Reads a kubeconfig, and opens none of the files that it names.
pub fn kubeconfig(bytes: &[u8]) {
    black_box(kubernetes::fuzzing::kubeconfig(bytes));
}

/// Reads the facts of a certificate.
pub fn certificate(bytes: &[u8]) {
    black_box(kubernetes::fuzzing::certificate(bytes));
}

/// Cuts a stream into lines, in chunks of some size: the lines do not depend on the size.
///
/// # Panics
/// When they do.
pub fn lines(bytes: &[u8], size: usize) {
    let is_full = |line: &&[u8]| !line.trim_ascii().is_empty();
    let (complete, _) = bytes.split_at(bytes.iter().rposition(|b| *b == b'\n').unwrap_or(0));
    let expected: Vec<&[u8]> = complete.split(|b| *b == b'\n').filter(is_full).collect();
    assert_eq!(kubernetes::fuzzing::lines(bytes, size), expected);
}
