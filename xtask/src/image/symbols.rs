//! The binary without its line tables, which are three quarters of it, and those in a file of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::workspace;

/// The program for this kind of machine.
pub(crate) const OBJCOPY: &str = "objcopy";

/// Copies a program to `to` without debug information, which goes to `symbols`; both directories are made.
///
/// `objcopy` is the program for the kind of machine. The names of functions stay in the program, because CPU profiles and backtraces print them.
/// The program names the file of symbols, so that debuggers and backtraces find it beside the program or below `/usr/lib/debug`.
pub(crate) fn split(
    objcopy: &str,
    program: &Path,
    to: &Path,
    symbols: &Path,
) -> anyhow::Result<()> {
    for file in [to, symbols] {
        fs::create_dir_all(file.parent().context("a directory")?)?;
    }
    let objcopy = || Command::new(objcopy);
    workspace::run(objcopy().arg("--only-keep-debug").args([program, symbols]))
        .context("objcopy comes with gcc, in Debian's package binutils")?;
    let mut link = std::ffi::OsString::from("--add-gnu-debuglink=");
    link.push(symbols);
    workspace::run(objcopy().arg("--strip-debug").arg(link).args([program, to]))
}

#[cfg(test)]
mod tests;
