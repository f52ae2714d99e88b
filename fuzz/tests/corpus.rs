//! Every file of the corpus, through the target of its directory: what once broke a reader does not do so again.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::{fs, thread};

use kube_proxy_fuzz::TARGETS;

/// Most bytes of all files together.
const LARGEST: usize = 200 * 1024;

fn corpus() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&package).join("corpus")
}

/// The files of a directory, or directories.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn no_file_breaks_its_reader() {
    let mut sizes = BTreeMap::new();
    let mut broken = Vec::new();
    for target in &TARGETS {
        for path in entries(&corpus().join(target.name)) {
            let bytes = fs::read(&path).expect("a file");
            *sizes.entry(target.name).or_insert(0) += bytes.len();
            if catch_unwind(|| (target.read)(&bytes)).is_err() {
                broken.push(path);
            }
        }
        // A reader that is given nothing, or a directory without files, would show nothing.
        assert!(sizes.contains_key(target.name), "the corpus has no file for {}", target.name);
        thread::spawn(|| (target.read)(&[])).join().expect("nothing at all can be read");
    }
    assert!(broken.is_empty(), "these files break their readers: {broken:#?}");
    let all: usize = sizes.values().sum();
    assert!(all <= LARGEST, "the corpus is to stay small, and has {all} bytes: {sizes:?}");
}

#[test]
fn every_directory_is_that_of_a_target() {
    for path in entries(&corpus()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known = kube_proxy_fuzz::target(name).is_some();
        assert!(known, "{} is the directory of no target", path.display());
    }
}
