//! Rules about this workspace that no compiler checks.

mod circles;
mod doors;
mod files;
mod licences;
mod logs;
mod packages;
mod texts;
mod walks;

use std::path::{Path, PathBuf};

/// Directory of the workspace's `Cargo.toml`.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&package).parent().expect("xtask is a directory of the workspace").to_path_buf()
}
