//! The kube-proxy binary that demo and benchmark run.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};

use crate::output::say;
use crate::workspace;

/// Names a kube-proxy binary to use instead of building one.
pub(crate) const VARIABLE: &str = "KUBE_PROXY_BIN";

/// Builds the binary with this cargo profile, unless [`VARIABLE`] names one.
pub(crate) fn build(profile: &str) -> anyhow::Result<()> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    say!("Building kube-proxy ...");
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--package",
        "kube-proxy",
        "--profile",
        profile,
    ]))
}

/// Path of the binary: the one [`VARIABLE`] names, or that of the same profile as this program.
pub(crate) fn path() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{VARIABLE}: there is no file {}", path.display());
        return path.canonicalize().with_context(|| format!("{VARIABLE}: {}", path.display()));
    }
    let own = env::current_exe().context("cannot find the path of this program")?;
    let path = own.with_file_name("kube-proxy");
    ensure!(path.is_file(), "there is no {}: cargo build --package kube-proxy", path.display());
    Ok(path)
}
