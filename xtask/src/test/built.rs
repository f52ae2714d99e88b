//! Running what the build step made.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use kube_proxy_testkit::kube_proxy;

use super::report;
use crate::workspace;

/// Another command of this program; once the build step was run, of the one that it made, as the file of this one may be gone.
pub(super) fn own(arguments: &[&str], built: bool) -> anyhow::Result<Command> {
    let mut command = if built {
        let mut command = Command::new(workspace::programs("dev")?.join("xtask"));
        command.env(kube_proxy::VARIABLE, binary()?);
        report::set(&mut command)?;
        command
    } else {
        Command::new(std::env::current_exe().context("cannot find the path of this program")?)
    };
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// The kube-proxy that the build step made.
pub(super) fn binary() -> anyhow::Result<PathBuf> {
    Ok(workspace::programs("dev")?.join("kube-proxy"))
}
