//! What reads the output of the programs, for fuzz targets. None may panic, whatever it reads.

use std::hint::black_box;

use kube_proxy_core::SyncError;

use super::RestoreError;
use super::listing::Listing;
use super::parse::parse_version;
use crate::words::split_words;

/// Hands over the chains and rules of a table that was listed.
pub fn listing(table: &str, text: &str, each: &mut dyn FnMut(&str)) {
    let mut listing = Listing::of(table);
    text.lines().for_each(|line| listing.take(line, each));
    black_box(listing.end());
}

/// Reads what a restore that failed wrote, and what a program says of its version.
pub fn messages(text: &str) {
    let error = RestoreError::new(SyncError::Refused(text.to_owned()), text);
    black_box((error.line, error.too_deep, error.to_string()));
    black_box(parse_version(text));
    black_box(split_words(text));
}
