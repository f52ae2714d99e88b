//! Which compiler makes the program for a platform.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::workspace;

/// A compiler that has the standard library of a platform.
#[derive(Debug)]
pub(super) enum Compiler {
    /// The one of `rust-toolchain.toml`, or of the variable `RUSTC`.
    Usual,
    /// Another one.
    Other(PathBuf),
}

impl Compiler {
    /// The program.
    pub(super) fn command(&self) -> Command {
        match self {
            Self::Usual => workspace::rustc(),
            Self::Other(path) => Command::new(path),
        }
    }

    /// Its version, such as `rustc 1.95.0 (59807616e 2026-04-14)`.
    pub(super) fn version(&self) -> anyhow::Result<String> {
        let output = self.command().arg("--version").output().context("cannot start rustc")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the compiler does not start: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether it has the standard library of a target.
    pub(super) fn is_for(&self, triple: &str) -> anyhow::Result<bool> {
        let mut command = self.command();
        command.args(["--print", "target-libdir", "--target", triple]);
        let output = command.output().context("cannot start rustc")?;
        let directory = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let entries = std::fs::read_dir(Path::new(&directory)).into_iter().flatten();
        Ok(entries.filter_map(Result::ok).any(|entry| {
            let is_std = entry.file_name().to_string_lossy().starts_with("libstd-");
            is_std && entry.path().extension().is_some_and(|end| end == "rlib")
        }))
    }
}
