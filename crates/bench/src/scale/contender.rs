//! The programs that are measured.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_proxy_testkit::kube_proxy;

use super::Arguments;
use super::rules::Dataplane;
use crate::command::of_program;

/// A kube-proxy.
#[derive(Debug)]
pub(super) struct Contender {
    /// Name in tables and charts.
    pub(super) name: String,
    program: PathBuf,
    /// What else it is given.
    further: Vec<String>,
    /// A directory with `iptables` and its kin of one variant, for a program without a flag for it.
    programs: Option<tempfile::TempDir>,
}

/// Ours first, then the peers.
pub(super) fn all(arguments: &Arguments) -> anyhow::Result<Vec<Contender>> {
    let mut further = arguments.further.clone();
    let variant = arguments.variant.iptables();
    if let Some(variant) = variant {
        further.extend(["--iptables-variant".to_owned(), variant.to_string()]);
    }
    let program = kube_proxy::binary()?;
    let ours = Contender { name: "ours".to_owned(), program, further, programs: None };
    let mut contenders = vec![ours];
    for (number, path) in (1..).zip(&arguments.peer) {
        ensure!(path.is_file(), "--peer: there is no file {}", path.display());
        let program = path.canonicalize().with_context(|| path.display().to_string())?;
        let name = if arguments.peer.len() == 1 { "peer".into() } else { format!("peer-{number}") };
        let programs = variant.map(|variant| programs_of(variant.name())).transpose()?;
        let further = [&arguments.further[..], &arguments.of_peer].concat();
        contenders.push(Contender { name, program, further, programs });
    }
    Ok(contenders)
}

impl Contender {
    /// Path of the program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The command line, with what else it is given.
    pub(super) fn command(&self, variant: Dataplane, kubeconfig: &Path, node: &str) -> Command {
        let mut command = of_program(&self.program, variant.mode(), kubeconfig, node);
        command.args(&self.further);
        if let Some(programs) = &self.programs {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let directories =
                [programs.path().to_path_buf()].into_iter().chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(directories) {
                command.env("PATH", path);
            }
        }
        command
    }
}

/// A directory in which `iptables`, `ip6tables` and the rest are those of one variant.
fn programs_of(variant: &str) -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    for family in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            let target = find(&format!("{family}-{variant}{suffix}"))?;
            let link = directory.path().join(format!("{family}{suffix}"));
            symlink(&target, &link)
                .with_context(|| format!("cannot make {} for a peer", link.display()))?;
        }
    }
    Ok(directory)
}

fn find(program: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()))
        .with_context(|| format!("{program} is not on the path"))
}
