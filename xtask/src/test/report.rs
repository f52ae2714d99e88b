//! Which tests failed, or passed only when they were run again, and why, after everything else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use anyhow::Context as _;
use kube_proxy_testkit::harness::REPORT_VARIABLE;
use kube_proxy_testkit::say;

use crate::workspace;

/// The file to which test programs append.
fn path() -> anyhow::Result<PathBuf> {
    Ok(workspace::target_directory()?.join("test-report.txt"))
}

/// Empties the file, to which tests in a user namespace write as another user.
pub(super) fn begin() -> anyhow::Result<()> {
    let path = path()?;
    let write = || {
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Has the test programs that the command runs report.
pub(super) fn set(command: &mut Command) -> anyhow::Result<()> {
    command.env(REPORT_VARIABLE, path()?);
    Ok(())
}

/// Prints what was reported.
pub(super) fn show() -> anyhow::Result<()> {
    let path = path()?;
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    if !text.is_empty() {
        say!("\n=== tests that failed, and those that passed only when run again");
        say!("{}", text.trim_end());
    }
    Ok(())
}
