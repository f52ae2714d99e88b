//! What the host must have, and installing it.

mod space;

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail, ensure};
use kube_proxy_testkit::sandbox::{self, Entry};

use kube_proxy_testkit::iptables;
use kube_proxy_testkit::iptables::Variant;
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::say;

use crate::tools;

/// The program that is a kernel.
pub(crate) const USER_MODE_LINUX: &str = "linux.uml";

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
    ("unzip", "unzip"),
    (USER_MODE_LINUX, "user-mode-linux"),
];

/// A browser without a window.
const BROWSER: (&str, &str) = ("chromium-headless-shell", "chromium-headless-shell");

/// How many files a test program has open at most, with some more.
const OPEN_FILES: u64 = 1024;

/// Programs that boot kernels under emulation.
pub(crate) const EMULATION: [(&str, &str); 13] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("strip", "binutils"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("ipset", "ipset"),
    ("ipvsadm", "ipvsadm"),
    ("nft", "nftables"),
    ("unshare", "util-linux"),
    ("xtables-legacy-multi", "iptables"),
    ("xtables-nft-multi", "iptables"),
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
        space::check()?;
        install_missing()?;
        tools::complete()?;
        install_browser();
    }
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(_) => bail!("this host cannot run the tests"),
        Entry::Inside(sandbox) => {
            let files = sandbox::raise_open_files();
            ensure!(
                files >= OPEN_FILES,
                "a process may have {files} files open, and the tests need {OPEN_FILES}: raise the hard limit (ulimit -Hn)"
            );
            for variant in Variant::ALL {
                iptables::check(variant)?;
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

/// Installs a browser for the tests of the page, 87 MB with what it needs, where Debian's packages are installed. Elsewhere it says so:
/// these tests fail without one in CI only.
fn install_browser() {
    if kube_proxy_testkit::tools::browser().is_some() {
        return;
    }
    if let Err(error) = install(&[BROWSER]) {
        complain(&error.context("the page of kube-proxy is not tested in a browser"));
    }
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
    let words =
        [&["apt-get", "install", "--yes", "--no-install-recommends"], &packages[..]].concat();
    let install = words.join(" ");
    if !is_debian() {
        bail!("install {what} with this system's package manager (on Debian: {install})");
    }
    if !is_root() {
        bail!("missing {what}; install with: sudo apt-get update && sudo {install}");
    }
    say!("Installing {} (for {what}) ...", packages.join(", "));
    quietly(&["apt-get", "update", "--quiet"])?;
    quietly(&words)?;
    let (programs, _) = missing(wanted);
    if programs.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("still missing after the installation: {}", programs.join(", ")))
    }
}

/// Programs that are not on the path, and the packages with them, each once.
pub(crate) fn missing(
    wanted: &[(&'static str, &'static str)],
) -> (Vec<&'static str>, Vec<&'static str>) {
    let missing = wanted.iter().filter(|(program, _)| !is_on_path(program));
    let (programs, mut packages): (Vec<_>, Vec<_>) = missing.copied().unzip();
    packages.sort_unstable();
    packages.dedup();
    (programs, packages)
}

/// Whether a program can be found; a file with a whole path is looked for there alone.
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
fn quietly(words: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    let words = words.join(" ");
    let output = Command::new(program)
        .args(arguments)
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
