//! Connections at a steady rate, to show that something happens without anyone noticing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::probe::{Answer, Options, Outcome, Probe};

/// A machine that is too slow for the rate slows the prober down, rather than being buried under connections until some fail.
///
/// More of them make a slow machine no faster, but each connection slower: from a second on, both sides send again what is only late.
const MOST_UNDER_WAY: usize = 8;

/// Opens TCP connections in the background until [`Self::stop`].
///
/// Each attempt is on its own: a slow one delays no other, unless there are very many of them.
///
/// Unlike with [`Probe::tcp`], a connection rejected with an ICMP error often counts as refused
/// only after a second, when the SYN is repeated, as for an ordinary program; so choose a longer
/// timeout than that.
#[derive(Debug)]
pub struct Prober {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// One connection that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it was begun, since the prober was started.
    pub begun: Duration,
    /// How long it took.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// All connections that a prober tried, in the order they ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The attempts.
    pub attempts: Vec<Attempt>,
}

impl Prober {
    /// Begins to open one connection per `period`, each from the namespace and with the options
    /// of `probe`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn start(probe: &Probe<'_>, address: SocketAddr, period: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .with_context(|| format!("cannot start a prober of {address}"))?;
        let (stop, stopped) = oneshot::channel();
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let (options, list) = (probe.options(), Arc::clone(&attempts));
        let thread = probe.netns().spawn(move || {
            runtime.block_on(run(options, address, period, list, stopped));
        });
        Ok(Self { attempts, stop, thread })
    }

    /// Number of attempts that have ended.
    pub fn ended(&self) -> usize {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Begins no more connections, waits for those under way, and reports.
    pub fn stop(self) -> Report {
        // An error means that the thread has ended already.
        let _ = self.stop.send(());
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        Report { attempts: std::mem::take(&mut attempts) }
    }
}

impl Report {
    /// Number of answers by name of the pod.
    pub fn pods(&self) -> BTreeMap<&str, usize> {
        let mut pods = BTreeMap::new();
        for pod in self.attempts.iter().filter_map(|attempt| attempt.outcome.pod()) {
            *pods.entry(pod).or_default() += 1;
        }
        pods
    }

    /// Attempts without an answer.
    pub fn failures(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !attempt.outcome.is_answer())
    }

    /// The attempt that took longest; a second or more means that a SYN was lost and repeated.
    pub fn slowest(&self) -> Option<&Attempt> {
        self.attempts.iter().max_by_key(|attempt| attempt.took)
    }

    /// Checks that there were attempts and that all were answered.
    ///
    /// # Errors
    /// Names number, time and reason of the failures.
    pub fn check_no_failure(&self) -> anyhow::Result<()> {
        if self.attempts.is_empty() {
            bail!("the prober made no connection");
        }
        let failed = self.failures().count();
        if failed == 0 {
            return Ok(());
        }
        let mut text = format!("{failed} of {} connections failed:", self.attempts.len());
        for attempt in self.failures().take(10) {
            // Writing to a string cannot fail.
            let _ = write!(text, " {} at {:.3?};", attempt.outcome, attempt.begun);
        }
        bail!("{text} shown are at most 10");
    }
}

async fn run(
    options: Options,
    address: SocketAddr,
    period: Duration,
    attempts: Arc<Mutex<Vec<Attempt>>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let start = Instant::now();
    let mut ticks = interval(period);
    // After a pause of the machine, do not make up for it with a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            _ = ticks.tick(), if under_way.len() < MOST_UNDER_WAY => {
                let attempts = Arc::clone(&attempts);
                under_way.spawn(async move {
                    let begun = start.elapsed();
                    let outcome = attempt(options, address).await;
                    let took = start.elapsed().saturating_sub(begun);
                    let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
                    attempts.push(Attempt { begun, took, outcome });
                });
            }
            // Forget those that have ended, so that memory does not grow with time.
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

async fn attempt(options: Options, address: SocketAddr) -> Outcome {
    match timeout(options.timeout, connect_and_read(options, address)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::TimedOut,
    }
}

async fn connect_and_read(options: Options, address: SocketAddr) -> Outcome {
    let connect = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(source) = options.source {
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(source, options.source_port))?;
        }
        let stream = socket.connect(address).await?;
        let local = stream.local_addr()?;
        Ok((stream, local))
    };
    let (stream, local) = match connect.await {
        Ok(connected) => connected,
        Err(error) => return Outcome::from_connect_error(&error),
    };
    let mut line = String::new();
    match BufReader::new(stream).read_line(&mut line).await {
        Ok(0) => Outcome::Broken("closed by the other side".to_owned()),
        Ok(_) => match Answer::parse(&line, local) {
            Ok(answer) => Outcome::Answer(answer),
            Err(error) => Outcome::Broken(format!("{error:#}")),
        },
        Err(error) => Outcome::from_read_error(&error),
    }
}
