//! The programs that make and ask the cluster.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::CLUSTER;
use crate::workspace;

/// What is needed, and where it comes from.
const TOOLS: [(&str, &str); 3] = [
    ("docker", "install Docker Engine"),
    ("kind", "go install sigs.k8s.io/kind@latest"),
    ("kubectl", "install kubectl of the cluster's version"),
];

/// The programs, found on a path.
pub(super) struct Tools {
    pub(super) path: OsString,
}

impl Tools {
    pub(super) fn has(&self, program: &str) -> bool {
        std::env::split_paths(&self.path).any(|directory| directory.join(program).is_file())
    }

    /// One line about everything that is missing.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let missing: Vec<String> = TOOLS
            .iter()
            .filter(|(program, _)| !self.has(program))
            .map(|(program, how)| format!("{program} ({how})"))
            .collect();
        ensure!(
            missing.is_empty(),
            "missing {}; `cargo xtask e2e --local` runs the same checks without them",
            missing.join(", ")
        );
        self.output("docker", &["info", "--format", "{{.ServerVersion}}"])
            .map(|_| ())
            .context("the Docker engine does not run; start it, or use `cargo xtask e2e --local`")
    }

    pub(super) fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path);
        if program == "kubectl" {
            // First: what follows may be the command of a pod.
            command.arg(format!("--context=kind-{CLUSTER}"));
        }
        command.args(arguments);
        command
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        workspace::run(&mut self.command(program, arguments))
    }

    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(program, arguments);
        let typed = workspace::as_typed(&command);
        let output = command.output().with_context(|| format!("cannot start `{typed}`"))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{typed}` failed: {}", errors.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(super) fn feed(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> anyhow::Result<()> {
        let mut command = self.command(program, arguments);
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // When the program stops early, its exit status says why.
            let _ = stdin.write_all(input.as_bytes());
        }
        let status = child.wait()?;
        ensure!(status.success(), "{program} {arguments:?} failed: {status}");
        Ok(())
    }

    pub(super) fn apply(&self, object: &Value) -> anyhow::Result<()> {
        self.feed("kubectl", &["apply", "-f", "-"], &object.to_string())
    }

    /// Runs a shell command in the client pod.
    pub(super) fn exec(&self, shell: &str) -> anyhow::Result<String> {
        self.output("kubectl", &["exec", "client", "--", "sh", "-c", shell])
    }
}
