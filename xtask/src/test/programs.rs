//! The test programs that cargo built, and the jobs that run them.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use kube_proxy_testkit::{kube_proxy, sandbox};
use serde_json::Value;

use super::jobs::{Job, Length};
use super::{built, report};
use crate::workspace;

/// Name of the tests of a crate that use the kernel, and wait for it.
const KERNEL: &str = "kernel";
/// Directory of the package of the end-to-end tests.
const END_TO_END: &str = "tests";

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The file.
    pub(crate) path: PathBuf,
    /// Directory of its package, in which cargo runs it.
    pub(crate) directory: PathBuf,
    /// Name of what it was built from, such as `kernel`.
    pub(crate) target: String,
    /// It consists of the unit tests of a library or binary.
    is_unit: bool,
}

/// All test programs of this workspace, which cargo is asked for once.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    listed: OnceCell<Vec<Program>>,
}

impl Programs {
    /// All of them. What is not built yet is built.
    fn all(&self) -> anyhow::Result<&[Program]> {
        if let Some(listed) = self.listed.get() {
            return Ok(listed);
        }
        let programs = list()?;
        Ok(self.listed.get_or_init(|| programs))
    }

    /// The program of a target in the package of a directory, such as `e2e` in `tests`.
    pub(crate) fn one(&self, directory: &str, target: &str) -> anyhow::Result<&Program> {
        let is_it =
            |program: &&Program| program.target == target && program.directory.ends_with(directory);
        let found = self.all()?.iter().find(is_it);
        found.with_context(|| format!("cargo built no test program {target} in {directory}"))
    }

    /// The end-to-end tests.
    pub(crate) fn end_to_end(&self) -> anyhow::Result<&Program> {
        self.one(END_TO_END, "e2e")
    }

    /// Jobs that run everything as this user: the programs, and the examples in documentation.
    pub(super) fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        let programs = self.all()?.iter().map(|program| program.job(false));
        let documentation = workspace::cargo(&["test", "--workspace", "--doc"]);
        let documentation =
            Job::of_command("examples in documentation", Length::Medium, documentation);
        programs.chain([Ok(documentation)]).collect()
    }

    /// Jobs that run the end-to-end tests in their rootless form.
    pub(super) fn rootless(&self) -> anyhow::Result<Vec<Job>> {
        let programs = self.all()?.iter().filter(|program| program.is_end_to_end());
        let jobs: Vec<Job> = programs.map(|program| program.job(true)).collect::<Result<_, _>>()?;
        if jobs.is_empty() {
            bail!("there are no end-to-end tests in {END_TO_END}");
        }
        Ok(jobs)
    }
}

/// Builds all test programs and lists them.
fn list() -> anyhow::Result<Vec<Program>> {
    let arguments =
        ["test", "--workspace", "--no-run", "--quiet", "--message-format=json-render-diagnostics"];
    let mut command = workspace::cargo(&arguments);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("`{}` failed: {}", workspace::as_typed(&command), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(read).collect())
}

/// Reads one message of cargo, if it is about a test program.
fn read(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message["executable"].as_str()?.into();
    message["profile"]["test"].as_bool().filter(|test| *test)?;
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = message["target"]["name"].as_str()?.to_owned();
    let is_unit = message["target"]["kind"][0] != "test";
    Some(Program { path, directory, target, is_unit })
}

impl Program {
    fn is_end_to_end(&self) -> bool {
        self.directory == workspace::root().join(END_TO_END)
    }

    fn job(&self, rootless: bool) -> anyhow::Result<Job> {
        let mut command = self.command()?;
        if rootless {
            command.env(sandbox::ROOTLESS_VARIABLE, "1");
        }
        let length = match self.is_unit {
            _ if self.is_end_to_end() => Length::Longest,
            _ if self.target == KERNEL => Length::Long,
            true => Length::Short,
            false => Length::Medium,
        };
        Ok(Job::of_command(self.name(), length, command))
    }

    /// Such as `crates/nftables: kernel`.
    fn name(&self) -> String {
        let root = workspace::root();
        let directory = self.directory.strip_prefix(&root).unwrap_or(&self.directory);
        let of = if self.is_unit { "unit tests of " } else { "" };
        format!("{}: {of}{}", directory.display(), self.target)
    }

    /// Runs it as cargo does, with the kube-proxy that was built.
    pub(super) fn command(&self) -> anyhow::Result<Command> {
        let mut command = workspace::command(&self.path);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command.env(kube_proxy::VARIABLE, built::binary()?).stdin(Stdio::null());
        report::set(&mut command)?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests;
