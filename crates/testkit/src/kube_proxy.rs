//! A running kube-proxy, ours or another one, in a node's namespace.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;

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
    output: Arc<Output>,
}

/// Lines of standard output and standard error together, in the order they were read.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    /// How many of the two streams have ended.
    ended: usize,
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
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A child runs in the network namespace of the thread that starts it.
        let mut child = netns
            .run(|| command.spawn())
            .with_context(|| format!("cannot start {program} in {}", netns.name()))?;
        let output = Arc::new(Output::default());
        if let Some(stdout) = child.stdout.take() {
            output.collect(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.collect(stderr);
        }
        Ok(Self { child, program, output })
    }

    /// Process identifier, as inside the sandbox.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines written so far.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
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
        let mut state = self.output.lock();
        loop {
            while let Some(line) = state.lines.get(seen) {
                seen += 1;
                if fits(line) {
                    return Ok((seen, line.clone()));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended == 2 {
                let why = if state.ended == 2 { "ended" } else { "went on" };
                let last = state.lines[state.lines.len().saturating_sub(20)..].join("\n");
                bail!("{} {why} without the line waited for; it wrote:\n{last}", self.program);
            }
            let waited = self.output.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
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

    /// Waits for the end and for all output to be collected.
    ///
    /// # Errors
    /// When the guard has passed; the process then goes on.
    pub fn wait(&mut self, guard: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + guard;
        let status = loop {
            let status = self.child.try_wait().context("cannot wait for the process")?;
            if let Some(status) = status {
                break status;
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended within {guard:?}", self.program);
            }
            thread::sleep(Duration::from_millis(5));
        };
        let mut state = self.output.lock();
        while state.ended < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("{} ended, but a process it left behind holds its output", self.program);
            }
            let waited = self.output.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(status)
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end, on a thread of its own.
    fn collect(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut bytes = Vec::new();
            // A stream that cannot be read further counts as ended.
            while stream.read_until(b'\n', &mut bytes).is_ok_and(|length| length > 0) {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                output.lock().lines.push(line);
                output.changed.notify_all();
                bytes.clear();
            }
            output.lock().ended += 1;
            output.changed.notify_all();
        });
    }
}
