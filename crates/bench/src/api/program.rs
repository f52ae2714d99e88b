//! A whole kube-proxy as the client: what it costs the server from its start until it is quiet, and for changes.

use std::fs::File;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::server::{NODE, Server};
use crate::command::of_program;

/// Without bytes for so long, a program has what it asked for.
const QUIET: Duration = Duration::from_secs(3);
const PERIOD: Duration = Duration::from_millis(50);
/// A program that is not quiet by then never is.
const HANG: Duration = Duration::from_mins(10);

/// Bytes and processor time of the server at one moment.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    bytes: u64,
    time: Duration,
    at: Instant,
}

impl Mark {
    fn of(server: &Server) -> anyhow::Result<Self> {
        let (bytes, time) = (server.bytes_sent(), server.processor_time()?);
        Ok(Self { bytes, time, at: Instant::now() })
    }
}

/// A running program, which ends when this is dropped.
pub(super) struct Program<'a> {
    process: Child,
    server: &'a Server,
    /// Processor time that the server takes in a second in which nothing is asked of it.
    idle: f64,
}

impl<'a> Program<'a> {
    /// Starts it and waits until it has all objects; what that cost.
    pub(super) fn start(
        path: &Path,
        server: &'a Server,
    ) -> anyhow::Result<(Self, (u64, Duration))> {
        let before = Mark::of(server)?;
        std::thread::sleep(QUIET);
        let begin = Mark::of(server)?;
        let idle = begin.time.saturating_sub(before.time).div_duration_f64(begin.at - before.at);
        let log = File::create(server.file("program.log"))?;
        let process = of_program(path, "nftables", &server.kubeconfig(true)?, NODE)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", path.display()))?;
        let mut program = Self { process, server, idle };
        let costs = program.until_quiet(begin)?;
        ensure!(costs.0 > 0, "{} asked for nothing", path.display());
        Ok((program, costs))
    }

    /// What the server has sent and worked until now.
    pub(super) fn mark(&self) -> anyhow::Result<Mark> {
        Mark::of(self.server)
    }

    /// Waits until the server has nothing more to send; what it sent and worked since then, less what it does when idle.
    pub(super) fn until_quiet(&mut self, begin: Mark) -> anyhow::Result<(u64, Duration)> {
        let mut last = begin.bytes;
        let mut since = Instant::now();
        // The first byte may take its time; later ones come at once.
        while last == begin.bytes || since.elapsed() < QUIET {
            if let Some(status) = self.process.try_wait().context("cannot wait for the program")? {
                let log = std::fs::read_to_string(self.server.file("program.log"));
                bail!("the program ended ({status}): {}", log.unwrap_or_default());
            }
            ensure!(begin.at.elapsed() < HANG, "the program is not quiet after {HANG:?}");
            std::thread::sleep(PERIOD);
            let now = self.server.bytes_sent();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        let end = self.mark()?;
        let idle = (end.at - begin.at).mul_f64(self.idle);
        Ok((end.bytes - begin.bytes, end.time.saturating_sub(begin.time).saturating_sub(idle)))
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
