//! What the host must have, and installing it.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use kube_proxy_testkit::sandbox::{self, Entry};

use crate::kernel;
use crate::output::say;
use crate::variant::Variant;

/// Programs that demo, tests and benchmarks start, and the Debian packages that hold them.
const PROGRAMS: &[(&str, &str)] = &[
    ("iptables-legacy", "iptables"),
    ("iptables-legacy-restore", "iptables"),
    ("ip6tables-legacy", "iptables"),
    ("iptables-nft", "iptables"),
    ("iptables-nft-restore", "iptables"),
    ("ip6tables-nft", "iptables"),
    ("ip", "iproute2"),
    ("conntrack", "conntrack"),
    ("curl", "curl"),
    ("nft", "nftables"),
    ("kmod", "kmod"),
    ("strace", "strace"),
    ("unshare", "util-linux"),
    ("prlimit", "util-linux"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("modprobe", "kmod"),
    ("ipvsadm", "ipvsadm"),
    ("ipset", "ipset"),
    (crate::uml::PROGRAM, "user-mode-linux"),
];

/// Programs that boot kernels under emulation.
pub(crate) const EMULATION: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
];

/// Where system programs are; ordinary users on Debian do not have these on their path.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Starts this program again with the directories of system programs on its path, if they are not.
///
/// # Errors
/// When the program cannot be started again.
pub(crate) fn find_system_programs() -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = env::split_paths(&path).collect();
    let missing: Vec<_> = SYSTEM_DIRECTORIES
        .iter()
        .filter(|directory| !directories.iter().any(|known| known == Path::new(directory)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    directories.extend(missing.into_iter().map(Into::into));
    let path = env::join_paths(directories).context("PATH")?;
    let own = env::current_exe().context("cannot find the path of this program")?;
    let error = Command::new(own).args(env::args_os().skip(1)).env("PATH", path).exec();
    Err(error).context("cannot start this program again with a longer PATH")
}

/// Installs what is missing and tries out the kernel.
pub(crate) fn check() -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        install_missing()?;
    }
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(_) => bail!("this host cannot run the tests"),
        Entry::Inside(sandbox) => {
            for variant in [Variant::Legacy, Variant::Nft] {
                kernel::check_iptables(variant)?;
            }
            let form = if sandbox.rootless { "rootless" } else { "as root" };
            say!("all programs are there; namespaces ({form}), iptables-legacy and -nft work");
            Ok(())
        }
    }
}

/// Installs missing programs as root on Debian and its children; elsewhere says what to do.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn install_missing() -> anyhow::Result<()> {
    install(PROGRAMS)
}

/// The same for some programs, each with its package.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn install(wanted: &[(&'static str, &'static str)]) -> anyhow::Result<()> {
    let (programs, packages) = missing(wanted);
    if packages.is_empty() {
        return Ok(());
    }
    let what = programs.join(", ");
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !is_debian() {
        bail!("install {what} with this system's package manager (on Debian: {install})");
    }
    if !is_root() {
        bail!("missing {what}; install with: sudo apt-get update && sudo {install}");
    }
    say!("Installing {} (for {what}) ...", packages.join(", "));
    quietly("apt-get update --quiet")?;
    quietly(&install)?;
    let (programs, _) = missing(wanted);
    if programs.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("still missing after the installation: {}", programs.join(", ")))
    }
}

/// Programs that are not on the path, and the packages with them, each once.
fn missing(wanted: &[(&'static str, &'static str)]) -> (Vec<&'static str>, Vec<&'static str>) {
    let missing = wanted.iter().filter(|(program, _)| !is_on_path(program));
    let (programs, mut packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    packages.sort_unstable();
    packages.dedup();
    (programs, packages)
}

/// Whether a program can be found.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Whether packages are installed with apt here.
fn is_debian() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let ids = release.lines().filter_map(|line| line.split_once('='));
    ids.filter(|(key, _)| matches!(*key, "ID" | "ID_LIKE"))
        .any(|(_, value)| value.contains("debian") || value.contains("ubuntu"))
}

/// Whether this user may install packages.
pub(crate) fn is_root() -> bool {
    // The directory belongs to the user whose process this is.
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// Runs a command whose output matters only when it fails.
fn quietly(words: &str) -> anyhow::Result<()> {
    let mut parts = words.split(' ');
    let output = Command::new(parts.next().unwrap_or_default())
        .args(parts)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{words}`"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("`{words}` failed: {}\n{}", output.status, String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}
