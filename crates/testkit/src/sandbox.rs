//! Namespaces in which a whole test program runs, so that the host is never touched.
//!
//! [`enter_or_reexec`] is the first call in `main` of a test program. The first time it starts the
//! same program again under util-linux `unshare`, in network, mount and process namespaces of its
//! own, and passes on how that ended. The second time, inside, it returns.
//!
//! Every rule, namespace, mount and process made inside vanishes with the program, however it
//! ends: the program is process 1 of its process namespace, and the kernel kills the rest with it.
//!
//! A test program that uses it has a `main` of its own (`harness = false` in its `[[test]]`):
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use kube_proxy_testkit::cluster::Cluster;
//! use kube_proxy_testkit::{harness, sandbox};
//! use libtest_mimic::Arguments;
//!
//! fn main() -> ExitCode {
//!     sandbox::enter_or_reexec();
//!     let trials = vec![harness::trial("pod_reaches_pod", pod_reaches_pod)];
//!     harness::run(&Arguments::from_args(), trials)
//! }
//!
//! fn pod_reaches_pod() -> anyhow::Result<()> {
//!     let cluster = Cluster::builder().nodes(2).build()?;
//!     let pods = cluster.add_pods(&[(0, "a"), (1, "b")])?;
//!     pods[1].serve_tcp(80)?;
//!     let address = pods[1].address(kube_proxy_core::IpFamily::V4, 80);
//!     assert_eq!(pods[0].probe().tcp(address).answer()?.pod, "b");
//!     Ok(())
//! }
//! ```
//!
//! As root the namespaces belong to the host's user namespace. Without root, or with
//! [`ROOTLESS_VARIABLE`] set, a user namespace is made as well, in which the program is root.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

/// Set to anything, this environment variable asks for the rootless form even when started as root.
pub const ROOTLESS_VARIABLE: &str = "TESTKIT_ROOTLESS";

/// Holds, inside, the name of the network namespace outside, as `/proc/self/ns/net` shows it.
const OUTSIDE_VARIABLE: &str = "TESTKIT_OUTSIDE_NETNS";

/// Passes to the program inside the form that was chosen: `root` or `rootless`.
const FORM_VARIABLE: &str = "TESTKIT_SANDBOX_FORM";

/// Directory for temporary files inside; it is on a tmpfs and vanishes with the sandbox.
const TEMPORARY: &str = "/run/tmp";

/// How many files a test program may have open, if it may choose: pods, clients and probers share one process.
const OPEN_FILES: u64 = 1 << 16;

/// How a program stands to the sandbox after [`enter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This process is inside and may make namespaces, links and rules.
    Inside(Sandbox),
    /// This process is outside; the copy that ran inside ended with this exit code.
    Finished(i32),
}

/// Facts about the sandbox this process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether root here is an ordinary user outside.
    pub rootless: bool,
}

/// Returns inside a sandbox; outside it runs the program again inside one and exits as that did.
///
/// Call it before any thread is started. When no sandbox can be made, one sentence on standard
/// error says what to do, and the exit code is 1.
pub fn enter_or_reexec() -> Sandbox {
    match enter() {
        Ok(Entry::Inside(sandbox)) => sandbox,
        Ok(Entry::Finished(code)) => std::process::exit(code),
        Err(error) => {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            std::process::exit(1);
        }
    }
}

/// Like [`enter_or_reexec`], but leaves it to the caller to exit.
///
/// # Errors
/// When the host does not let this user make the namespaces, or lacks `setpriv` or `unshare`.
pub fn enter() -> anyhow::Result<Entry> {
    if is_inside() {
        let rootless = std::env::var(FORM_VARIABLE).is_ok_and(|form| form == "rootless");
        prepare_inside(rootless)?;
        return Ok(Entry::Inside(Sandbox { rootless }));
    }
    raise_open_files();
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let form = usable_form(&program)?;
    let mut command = form.command();
    command
        .arg(&program)
        .args(std::env::args_os().skip(1))
        .env(OUTSIDE_VARIABLE, network_namespace()?)
        .env(FORM_VARIABLE, form.name())
        .env("TMPDIR", TEMPORARY);
    let child = command.spawn().map_err(|error| cannot_start(&error))?;
    supervise(child).map(Entry::Finished)
}

/// Whether this process is the one that runs inside a sandbox.
///
/// The marking variable alone does not count: the network namespace must differ from the one it
/// names, and the process must be the first of its process namespace.
pub fn is_inside() -> bool {
    let Some(outside) = std::env::var_os(OUTSIDE_VARIABLE) else {
        return false;
    };
    let named = outside.as_encoded_bytes().starts_with(b"net:[");
    named && std::process::id() == 1 && network_namespace().is_ok_and(|own| own != outside)
}

/// Raises the limit of open files of this process and its children, without root up to the hard limit. The limit then.
pub fn raise_open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    let wanted = hard.max(OPEN_FILES);
    let raised = [(wanted, wanted), (hard, hard)]
        .into_iter()
        .find(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard).is_ok());
    raised.map_or(soft, |(soft, _)| soft)
}

fn network_namespace() -> anyhow::Result<OsString> {
    let link = fs::read_link("/proc/self/ns/net").context("cannot read /proc/self/ns/net")?;
    Ok(link.into_os_string())
}

/// Whose rights the sandbox is made with.
#[derive(Clone, Copy)]
enum Form {
    /// Root's own.
    Root,
    /// Those of the user who started the program, in a user namespace.
    Rootless,
    /// Those of the user `nobody`, in a user namespace: rootless although started by root.
    RootlessNobody,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Rootless | Self::RootlessNobody => "rootless",
        }
    }

    /// The command line up to and excluding the program to run.
    ///
    /// `--pdeathsig` lets `unshare` die with us, `--kill-child` lets the sandbox die with it.
    fn command(self) -> Command {
        const NOBODY: [&str; 6] =
            ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"];
        let mut command = Command::new("setpriv");
        if matches!(self, Self::RootlessNobody) {
            command.args(NOBODY);
        }
        command.args(["--pdeathsig", "KILL", "unshare"]);
        if !matches!(self, Self::Root) {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command
    }

    /// Runs nothing but a look at the program inside, to learn whether the host allows this form.
    fn try_out(self, program: &Path) -> anyhow::Result<()> {
        let output = self
            .command()
            .args(["test", "-x"])
            .arg(program)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| cannot_start(&error))?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        if stderr.is_empty() {
            bail!("{} cannot be run there", program.display());
        }
        Err(anyhow!(stderr))
    }
}

/// The first form that works here, in order of preference.
fn usable_form(program: &Path) -> anyhow::Result<Form> {
    let root = nix::unistd::geteuid().is_root();
    let forced = std::env::var_os(ROOTLESS_VARIABLE).is_some();
    let candidates: &[Form] = match (root, forced) {
        (true, true) => &[Form::RootlessNobody, Form::Rootless],
        (true, false) => &[Form::Root, Form::Rootless],
        (false, _) => &[Form::Rootless],
    };
    let mut reasons = Vec::new();
    for &form in candidates {
        match form.try_out(program) {
            Ok(()) => return Ok(form),
            Err(error) => reasons.push(format!("{error:#}")),
        }
    }
    bail!(
        "cannot make the network, mount and process namespaces that tests run in ({}): run as root \
         (in a container with --privileged), or allow user namespaces to ordinary users \
         (sysctl -w kernel.unprivileged_userns_clone=1 on Debian, \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu)",
        reasons.join("; then ")
    )
}

fn cannot_start(error: &io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        anyhow!("`setpriv` was not found: install the package util-linux")
    } else {
        anyhow!("cannot start `setpriv`: {error}")
    }
}

/// Waits for the sandbox to end; a signal that asks us to stop ends it at once.
fn supervise(mut child: Child) -> anyhow::Result<i32> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    loop {
        // An end before the block sent no SIGCHLD that could still be waited for: look first.
        if let Some(status) = child.try_wait().context("cannot wait for the sandbox")? {
            return Ok(exit_code(status));
        }
        let signal = signals.wait().context("cannot wait for signals")?;
        if signal != Signal::SIGCHLD {
            child.kill().context("cannot end the sandbox")?;
            child.wait().context("cannot wait for the sandbox")?;
            return Ok(128 + signal as i32);
        }
    }
}

/// The exit code as a shell would report it.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Makes the fresh namespaces usable; `unshare` has made all mounts private before.
fn prepare_inside(rootless: bool) -> anyhow::Result<()> {
    mount_tmpfs("/run")?;
    for directory in ["/run/netns", "/run/lock", TEMPORARY] {
        fs::create_dir(directory).with_context(|| format!("cannot make {directory}"))?;
    }
    fs::set_permissions(TEMPORARY, fs::Permissions::from_mode(0o1777))
        .with_context(|| format!("cannot set the mode of {TEMPORARY}"))?;
    if !rootless {
        protect_host_settings()?;
    }
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .context("cannot start `ip`: install the package iproute2")?;
    if !up.success() {
        bail!("`ip link set lo up` failed inside the sandbox: {up}");
    }
    Ok(())
}

fn mount_tmpfs(target: &str) -> anyhow::Result<()> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .with_context(|| format!("cannot mount a tmpfs on {target} inside the sandbox"))
}

/// Makes `/sys` and what is not of the network in `/proc/sys` read-only.
///
/// Those files are the host's even inside the namespaces; module parameters are an example.
/// The rootless form needs no such care: its root may not write them anyway.
fn protect_host_settings() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read the mounts")?;
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for target in targets.filter(|target| Path::new(target).starts_with("/sys")) {
        make_read_only(target)?;
    }
    bind_to_itself("/proc/sys")?;
    bind_to_itself("/proc/sys/net")?;
    make_read_only("/proc/sys")
}

fn bind_to_itself(path: &str) -> anyhow::Result<()> {
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot bind {path} inside the sandbox"))
}

fn make_read_only(path: &str) -> anyhow::Result<()> {
    // Within a user namespace, as when sandboxes are nested, flags already set must be repeated.
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    match mount(None::<&str>, path, None::<&str>, flags, None::<&str>) {
        // No mount there, so no settings of the host either.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => bail!("cannot make {path} read-only inside the sandbox: {errno}"),
    }
}
