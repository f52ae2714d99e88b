//! `cargo xtask image`: the container image, or the file system that goes into it.
//!
//! The image holds the binary, both kinds of iptables with their extensions, and the libraries that these load; nothing else, no shell.
//! The Dockerfile runs this command inside its first stage, so what is assembled here is what an image gets.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::Args;

use crate::{host, workspace};
use kube_proxy_testkit::say;

mod symbols;
mod system;

pub(crate) use self::symbols::{OBJCOPY, split};
pub(crate) use self::system::System;

/// What to make.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Name of the image
    #[arg(long, value_name = "NAME", default_value = "kube-proxy:latest")]
    tag: String,
    /// The image with Rust on Debian to build in, where it cannot be pulled under its usual name
    #[arg(long, value_name = "NAME")]
    base: Option<String>,
    /// Assembles the image's file system in this new directory instead, without a container program; the symbols of the binary go
    /// into DIRECTORY.symbols
    #[arg(long, value_name = "DIRECTORY")]
    context: Option<PathBuf>,
    /// Profile of the binary
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
}

/// Container programs, the first that is there is taken.
const BUILDERS: [&str; 3] = ["docker", "podman", "buildah"];

/// Programs besides the binary: two multi-call programs, and what loads kernel modules.
const PROGRAMS: [&str; 3] = ["xtables-legacy-multi", "xtables-nft-multi", "kmod"];

/// Names under which the programs are started.
pub(crate) const LINKS: [(&str, &[&str]); 3] = [
    (
        "xtables-legacy-multi",
        &[
            "iptables-legacy",
            "iptables-legacy-save",
            "iptables-legacy-restore",
            "ip6tables-legacy",
            "ip6tables-legacy-save",
            "ip6tables-legacy-restore",
        ],
    ),
    (
        "xtables-nft-multi",
        &[
            "iptables-nft",
            "iptables-nft-save",
            "iptables-nft-restore",
            "ip6tables-nft",
            "ip6tables-nft-save",
            "ip6tables-nft-restore",
        ],
    ),
    ("kmod", &["modprobe"]),
];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Some(directory) = &arguments.context else {
        let image = build(&arguments.tag, arguments.base.as_deref())?;
        say!("built {image}");
        return Ok(());
    };
    host::install_missing()?;
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--locked",
        "--package",
        "kube-proxy",
        "--profile",
        &arguments.profile,
    ]))?;
    let binary = workspace::programs(&arguments.profile)?.join("kube-proxy");
    let symbols = directory.with_added_extension("symbols").join("kube-proxy.debug");
    assemble(directory, &binary, &symbols)?;
    say!("assembled {}; symbols in {}", directory.display(), symbols.display());
    Ok(())
}

/// Builds the image; its name.
pub(crate) fn build(tag: &str, base: Option<&str>) -> anyhow::Result<String> {
    let Some(builder) = BUILDERS.into_iter().find(|builder| host::is_on_path(builder)) else {
        bail!(
            "none of {} is installed; `cargo xtask image --context DIRECTORY` makes the file system of the image without them",
            BUILDERS.join(", ")
        );
    };
    let dockerfile = workspace::root().join("deploy/Dockerfile");
    let mut command = Command::new(builder);
    command.args(["build", "--tag", tag]);
    if let Some(base) = base {
        command.arg("--build-arg").arg(format!("BASE={base}"));
    }
    command.arg("--file").arg(dockerfile).arg(workspace::root());
    workspace::run(&mut command)?;
    Ok(tag.to_owned())
}

/// Puts everything that the image holds into a directory that is not there yet.
fn assemble(root: &Path, binary: &Path, symbols: &Path) -> anyhow::Result<()> {
    assemble_base(root, System::Here)?;
    split(OBJCOPY, binary, &root.join("usr/local/bin/kube-proxy"), symbols)?;
    put_libraries(root, System::Here, &System::Here.libraries_of(binary)?)
}

/// Puts everything but the binary into a directory that is not there yet.
pub(crate) fn assemble_base(root: &Path, system: System<'_>) -> anyhow::Result<()> {
    ensure!(!root.exists(), "{} exists already", root.display());
    let mut libraries = BTreeSet::new();
    for directory in
        ["etc", "proc", "sys", "dev", "run", "tmp", "lib/modules", "var/lib/kube-proxy"]
    {
        fs::create_dir_all(root.join(directory))?;
    }
    // Users and name look-up, as far as a program asks.
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/sbin/nologin\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    for program in PROGRAMS {
        let path = system.find(program)?;
        put(&path, &root.join("usr/sbin").join(program))?;
        libraries.extend(system.libraries_of(&path)?);
    }
    for (program, names) in LINKS {
        for name in names {
            symlink(program, root.join("usr/sbin").join(name))?;
        }
    }
    for extension in system.extensions()? {
        put(&extension, &root.join(system.inside(&extension)))?;
        libraries.extend(system.libraries_of(&extension)?);
    }
    put_libraries(root, system, &libraries)?;
    // What the dynamic linker and programs look for below /lib and /sbin.
    symlink("usr/sbin", root.join("sbin"))?;
    Ok(())
}

fn put_libraries(
    root: &Path,
    system: System<'_>,
    libraries: &BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    libraries.iter().try_for_each(|library| put(library, &root.join(system.inside(library))))
}

fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().context("a directory")?;
    fs::create_dir_all(parent)?;
    fs::copy(from, to)
        .map(|_| ())
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

/// The extensions of iptables on this system.
pub(crate) fn extensions() -> anyhow::Result<Vec<PathBuf>> {
    System::Here.extensions()
}

#[cfg(test)]
mod tests;
