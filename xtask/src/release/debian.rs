//! What this machine lacks for another kind of machine, out of Debian's packages: a compiler with its standard library, and the programs
//! of an image. Nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::apt::{Apt, packages_in};
use kube_proxy_testkit::say;

/// The release of Debian that packages are taken from.
const RELEASE: &str = "bookworm";
/// The compiler that Debian keeps recent, for browsers.
const COMPILER: &str = "rustc-web";
/// Its standard library.
const LIBRARY: &str = "libstd-rust-web-dev";
/// What an image has of other packages.
const PROGRAMS: [&str; 2] = ["iptables", "kmod"];

/// A system of unpacked packages.
pub(super) struct Unpacked {
    pub(super) root: PathBuf,
    /// The packages themselves.
    pub(super) packages: Vec<PathBuf>,
}

/// A compiler with the standard library of a kind of machine, by Debian's name of that.
pub(super) fn compiler(target: &Path, architecture: &str) -> anyhow::Result<PathBuf> {
    let directory = target.join("debian").join(format!("compiler-for-{architecture}"));
    let program = directory.join("rustc");
    if program.is_file() {
        return Ok(program);
    }
    say!("Taking a compiler for {architecture} out of packages of Debian {RELEASE} ...");
    begin(&directory)?;
    let (own, libraries) = own_architecture()?;
    let architectures = [own, architecture];
    let apt = Apt::new(&directory, &architectures, RELEASE)?;
    let mut packages = apt.download_all(&[COMPILER])?;
    // Without what it depends on: nothing of this kind of machine is run.
    apt.output("apt-get", &["--quiet", "download", &format!("{LIBRARY}:{architecture}")])?;
    packages.extend(packages_in(&directory)?);
    unpack(&packages, &directory.join("root"))?;
    // Its own dynamic linker, so that neither this system nor the programs that it starts see its libraries.
    let script = format!(
        "#!/bin/sh\nroot=${{0%/*}}/root\nlibraries=$root/usr/lib/{libraries}\n\
         exec \"$libraries\"/ld-linux-*.so.* --library-path \"$libraries\" \"$root/usr/bin/rustc\" \"$@\"\n"
    );
    let unnamed = directory.join("rustc.new");
    fs::write(&unnamed, script)?;
    fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o755))?;
    fs::rename(&unnamed, &program).context("cannot keep the compiler")?;
    Ok(program)
}

/// The system that the lower layer of an image is made of.
pub(super) fn system(target: &Path, architecture: &str) -> anyhow::Result<Unpacked> {
    let directory = target.join("debian").join(format!("image-for-{architecture}"));
    let root = directory.join("root");
    let archives = directory.join("apt/cache/archives");
    if !root.is_dir() {
        say!("Downloading {} for {architecture} ...", PROGRAMS.join(" and "));
        begin(&directory)?;
        let packages = Apt::new(&directory, &[architecture], RELEASE)?.download_all(&PROGRAMS)?;
        unpack(&packages, &directory.join("unpacking"))?;
        fs::rename(directory.join("unpacking"), &root).context("cannot keep the packages")?;
    }
    Ok(Unpacked { root, packages: packages_in(&archives)? })
}

/// An empty directory: what an interrupted run left is removed.
fn begin(directory: &Path) -> anyhow::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    fs::create_dir_all(directory).with_context(|| directory.display().to_string())
}

/// Debian's name for the kind of machine on which this runs, and the directory of its libraries.
fn own_architecture() -> anyhow::Result<(&'static str, &'static str)> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(("amd64", "x86_64-linux-gnu")),
        "aarch64" => Ok(("arm64", "aarch64-linux-gnu")),
        other => anyhow::bail!("no compiler is taken from Debian on {other}"),
    }
}

/// Unpacks packages into one tree, in which `/lib` and the like are links to places below `/usr`, as they are on a system.
fn unpack(packages: &[PathBuf], root: &Path) -> anyhow::Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(name))?;
        std::os::unix::fs::symlink(Path::new("usr").join(name), root.join(name))?;
    }
    for package in packages {
        let what = || format!("cannot unpack {}", package.display());
        let mut read = Command::new("dpkg-deb");
        read.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
        let mut read = read.spawn().with_context(what)?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--keep-directory-symlink", "--no-same-owner", "--directory"]);
        let archive = read.stdout.take().with_context(what)?;
        let status = tar.arg(root).stdin(archive).status().with_context(what)?;
        ensure!(status.success() && read.wait()?.success(), what());
    }
    Ok(())
}
