//! Running what the build step made: this program, the tests, and the tests as another user.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use kube_proxy_testkit::{kube_proxy, sandbox};
use serde_json::Value;

use super::report;
use crate::workspace;

/// Package of the end-to-end tests.
const END_TO_END: &str = "kube-proxy-tests";

/// Runs another command of this program, as it was just built where that matters.
pub(super) fn own(arguments: &[&str], built: bool) -> anyhow::Result<()> {
    workspace::run(&mut own_command(arguments, built)?)
}

/// The command for that.
pub(super) fn own_command(arguments: &[&str], built: bool) -> anyhow::Result<Command> {
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

/// Runs tests with the binary that was built.
pub(super) fn run_tests(arguments: &[&str], rootless: bool) -> anyhow::Result<()> {
    let mut command = workspace::cargo(arguments);
    command.env(kube_proxy::VARIABLE, binary()?);
    report::set(&mut command)?;
    if rootless {
        command.env(sandbox::ROOTLESS_VARIABLE, "1");
    }
    workspace::run(&mut command)
}

/// Runs the test programs of the end-to-end package in their rootless form.
pub(super) fn rootless() -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages
        .filter(|package| package["name"] == END_TO_END)
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test");
    let names: Vec<&str> = targets.filter_map(|target| target["name"].as_str()).collect();
    if names.is_empty() {
        bail!("the package {END_TO_END} has no tests");
    }
    let mut arguments = vec!["test", "--workspace"];
    for name in names {
        arguments.extend(["--test", name]);
    }
    run_tests(&arguments, true)
}

/// A test program that the build step made.
pub(crate) fn test_program(name: &str) -> anyhow::Result<String> {
    let arguments =
        ["test", "--workspace", "--test", name, "--no-run", "--quiet", "--message-format=json"];
    let output = workspace::cargo(&arguments).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(str::to_owned));
    program.with_context(|| format!("cargo named no test program {name}"))
}

/// The kube-proxy that the build step made.
fn binary() -> anyhow::Result<PathBuf> {
    Ok(workspace::programs("dev")?.join("kube-proxy"))
}
