//! A running kube-proxy, ours or another one, in a node's namespace.

use std::env;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use kube_proxy_core::IpFamily;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::netns::Netns;

/// Names a kube-proxy binary to use instead of one that was built with the program that starts it.
pub const VARIABLE: &str = "KUBE_PROXY_BIN";

/// Path of the binary: the one [`VARIABLE`] names, or the one beside this program.
///
/// # Errors
/// When there is no such file.
pub fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{VARIABLE}: there is no file {}", path.display());
        return path.canonicalize().with_context(|| format!("{VARIABLE}: {}", path.display()));
    }
    let own = env::current_exe().context("cannot find the path of this program")?;
    let path = own.with_file_name("kube-proxy");
    ensure!(path.is_file(), "there is no {}: cargo build --package kube-proxy", path.display());
    Ok(path)
}

/// Says when the last successful sync of a family was; absent before the first.
const LAST_SYNC: &str = "kubeproxy_sync_proxy_rules_last_timestamp_seconds";

/// Pause between two looks at the metrics.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the metrics are unless a flag says otherwise.
pub const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);

/// A process in a namespace whose output is collected. Dropping it kills it.
///
/// ```no_run
/// # fn example(cluster: &kube_proxy_testkit::cluster::Cluster) -> anyhow::Result<()> {
/// use std::process::Command;
/// use std::time::Duration;
///
/// use kube_proxy_testkit::kube_proxy::KubeProxy;
///
/// let mut command = Command::new("target/debug/kube-proxy");
/// command.args(["--manifests", "cluster.yaml"]).env("LOG", "debug");
/// let mut proxy = KubeProxy::start(cluster.node(0).netns(), command)?;
/// proxy.wait_for_line(Duration::from_secs(30), |line| line.contains("synced"))?;
/// proxy.terminate()?;
/// assert!(proxy.wait(Duration::from_secs(30))?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KubeProxy {
    child: Child,
    program: String,
    /// Standard output and standard error together, in the order they were written.
    output: File,
}

impl KubeProxy {
    /// Starts a program inside a namespace.
    ///
    /// The command's streams are replaced: nothing to read, and all output collected.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(netns: &Netns, mut command: Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        // A file in memory: what was written can be read at once, which is not so behind a pipe with a thread that reads it.
        let output = memfd_create("output", MFdFlags::MFD_CLOEXEC).context("cannot make a file")?;
        let output = File::from(output);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        // A child runs in the network namespace of the thread that starts it.
        let child = netns
            .run(|| command.spawn())
            .with_context(|| format!("cannot start {program} in {}", netns.name()))?;
        Ok(Self { child, program, output })
    }

    /// Process identifier, as inside the sandbox.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines that it has written until now, complete ones only.
    pub fn lines(&self) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut part = vec![0; 1 << 16];
        // At an offset of its own: the process writes at the one that it shares with the file.
        while let Ok(length @ 1..) = self.output.read_at(&mut part, bytes.len() as u64) {
            bytes.extend_from_slice(&part[..length]);
        }
        let complete = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&bytes[..complete]);
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Whether it has ended, also before anything waited for it.
    fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // An error: it was waited for.
        !matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive))
    }

    /// Waits for a line, also one written before, and returns the first that fits.
    ///
    /// # Errors
    /// When the guard has passed or the output has ended without it; the last lines are named.
    pub fn wait_for_line(
        &self,
        guard: Duration,
        fits: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<String> {
        self.wait_for_line_after(0, guard, fits).map(|(_, line)| line)
    }

    /// Like [`Self::wait_for_line`], but skips the first `skip` lines; also returns how many lines
    /// to skip to wait for the next one.
    pub fn wait_for_line_after(
        &self,
        skip: usize,
        guard: Duration,
        mut fits: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<(usize, String)> {
        let deadline = Instant::now() + guard;
        let mut seen = skip;
        loop {
            // In this order: what it wrote before its end counts.
            let has_ended = self.has_ended();
            let lines = self.lines();
            while let Some(line) = lines.get(seen) {
                seen += 1;
                if fits(line) {
                    return Ok((seen, line.clone()));
                }
            }
            if has_ended || Instant::now() >= deadline {
                bail!("{}", self.gave_up("the line waited for", has_ended, &lines));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until its metrics, at this address of its namespace, say that these families have been synced.
    ///
    /// # Errors
    /// When it has ended, with its last lines, or when the guard has passed.
    pub fn wait_until_synced(
        &self,
        netns: &Netns,
        metrics: SocketAddr,
        families: &[IpFamily],
        guard: Duration,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + guard;
        loop {
            let metrics = netns.probe().http_get(metrics, "/metrics").map(|answer| answer.body);
            let has_synced = |family: &IpFamily| {
                let sample = format!("{LAST_SYNC}{{ip_family=\"{family}\"}}");
                metrics.as_ref().is_ok_and(|text| text.contains(&sample))
            };
            if families.iter().all(has_synced) {
                return Ok(());
            }
            let has_ended = self.has_ended();
            if has_ended || Instant::now() > deadline {
                bail!("{}", self.gave_up("a first sync", has_ended, &self.lines()));
            }
            thread::sleep(PAUSE);
        }
    }

    fn gave_up(&self, missing: &str, has_ended: bool, lines: &[String]) -> String {
        let how = if has_ended { "ended" } else { "still runs" };
        let last = lines[lines.len().saturating_sub(20)..].join("\n");
        format!("{} {how} without {missing}; it wrote:\n{last}", self.program)
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.program))?;
        self.child.wait().with_context(|| format!("cannot wait for {}", self.program))?;
        Ok(())
    }

    /// Sends any signal.
    ///
    /// # Errors
    /// When the process has ended and was waited for.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into().context("process identifier")?);
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.program))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When the guard has passed; the process then still runs.
    pub fn wait(&mut self, guard: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + guard;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot wait for the process")? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended within {guard:?}", self.program);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
