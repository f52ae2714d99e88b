//! Kernels from Debian's archive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::Kernel;
use crate::workspace;
use kube_proxy_testkit::say;

/// The keys that Debian signs its releases with.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

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
        let _ = fs::remove_dir_all(&unpacked);
        let package = download(kernel, directory)?;
        workspace::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
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

/// apt with a state of its own, so that the host's stays as it is.
struct Apt<'a>(&'a Path);

impl Apt<'_> {
    fn command(&self, program: &str) -> Command {
        let path = |name: &str| self.0.join("apt").join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::State={}", path("state")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            // The directories belong to this user.
            "APT::Sandbox::User=".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.current_dir(self.0);
        command
    }

    fn output(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.command(program).args(arguments))
    }
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let typed = workspace::as_typed(command);
    let output = command.output().with_context(|| format!("cannot start `{typed}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    ensure!(output.status.success(), "`{typed}` failed: {errors}");
    Ok(text)
}

/// Fetches the package that a package of the newest build depends on.
fn download(kernel: &Kernel, directory: &Path) -> anyhow::Result<PathBuf> {
    let apt = Apt(directory);
    for name in ["apt/state/lists/partial", "apt/cache/archives/partial"] {
        fs::create_dir_all(directory.join(name))?;
    }
    fs::write(directory.join("apt/status"), "")?;
    fs::write(directory.join("apt/sources.list"), sources(kernel.release)?)?;
    apt.output("apt-get", &["--quiet", "update"])?;
    let depends = apt.output("apt-cache", &["depends", kernel.package])?;
    let package = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("{} depends on no kernel", kernel.package))?;
    apt.output("apt-get", &["--quiet", "download", package])?;
    let files = fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path());
    let start = format!("{package}_");
    let is_it = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start))
    };
    files.into_iter().find(is_it).with_context(|| format!("apt did not download {package}"))
}

/// The archives that this host uses, with another release.
fn sources(release: &str) -> anyhow::Result<String> {
    let format = ["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"];
    let targets = output(Command::new("apt-get").args(format))?;
    let mut archives: Vec<&str> =
        targets.lines().filter_map(|line| line.strip_prefix("Debian ")).collect();
    archives.sort_unstable();
    archives.dedup();
    ensure!(!archives.is_empty(), "apt knows no archive of Debian: kernels are taken from there");
    let lines = archives.iter().map(|archive| {
        let security = archive.trim_end_matches('/').ends_with("-security");
        let suite = if security { format!("{release}-security") } else { release.to_owned() };
        format!("deb [signed-by={KEYRING}] {archive} {suite} main\n")
    });
    Ok(lines.collect())
}
