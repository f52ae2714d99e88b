//! Kernels from Debian's archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::Kernel;
use crate::apt::Apt;
use crate::workspace;
use kube_proxy_testkit::say;

/// An unpacked kernel.
pub(super) struct Files {
    /// What `uname -r` says.
    pub(super) release: String,
    /// The kernel itself.
    pub(super) image: PathBuf,
    /// The directory that holds `lib/modules`.
    pub(super) root: PathBuf,
}

/// Downloads and unpacks a kernel, unless it is there from an earlier run.
pub(super) fn kernel(kernel: &Kernel, directory: &Path) -> anyhow::Result<Files> {
    let root = directory.join("root");
    if !root.exists() {
        say!("Downloading {} from Debian {} ...", kernel.package, kernel.release);
        fs::create_dir_all(directory)?;
        let unpacked = directory.join("unpacking");
        let apt = Apt::new(directory, &["amd64"], kernel.release)?;
        apt.unpack(&newest(&apt, kernel)?, &unpacked)?;
        let release = only_entry(&unpacked.join("lib/modules"))?;
        workspace::run(Command::new("depmod").arg("-b").arg(&unpacked).arg(&release))?;
        fs::rename(&unpacked, &root).context("cannot keep the unpacked kernel")?;
    }
    let release = only_entry(&root.join("lib/modules"))?;
    Ok(Files { image: root.join(format!("boot/vmlinuz-{release}")), release, root })
}

fn only_entry(directory: &Path) -> anyhow::Result<String> {
    let mut entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let entry = entries.next().with_context(|| format!("{} is empty", directory.display()))??;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// Name of the package of the newest build, on which the named package depends.
fn newest(apt: &Apt, kernel: &Kernel) -> anyhow::Result<String> {
    let depends = apt.output("apt-cache", &["depends", kernel.package])?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("{} depends on no kernel", kernel.package))?;
    Ok(package.to_owned())
}
