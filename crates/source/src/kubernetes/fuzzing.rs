//! What reads bytes below this module, for fuzz targets.

use super::lines::Lines;
use super::{client, config};

/// Whether a kubeconfig can be used.
pub(crate) fn kubeconfig(bytes: &[u8]) -> bool {
    config::is_usable(bytes.to_vec())
}

/// Whether a certificate says what it may be used for.
pub(crate) fn certificate(bytes: &[u8]) -> bool {
    client::has_facts(bytes)
}

/// The lines of a stream that comes in chunks.
pub(crate) fn lines(bytes: &[u8], size: usize) -> Vec<Vec<u8>> {
    let (mut lines, mut all) = (Lines::default(), Vec::new());
    for chunk in bytes.chunks(size.max(1)) {
        lines.push(chunk).expect("the limit is longer than any input here");
        while let Some(line) = lines.next() {
            all.push(line.to_vec());
        }
    }
    all
}
