//! What a process holds, and whether it grew.

use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, ensure};

/// Growth that is none: the allocator gives back pages when it likes, in KiB.
const MEMORY: u64 = 8 * 1024;
/// The same for descriptors and threads: connections to the API server and threads for blocking work come and go.
const FEW: usize = 4;
/// How often a process is looked at, and the time between.
const LOOKS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Resident memory in KiB.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

impl Held {
    /// Of the process with this number, when it does nothing: the least of several looks, as it starts programs and answers now and then.
    pub(super) fn at_rest(pid: u32) -> anyhow::Result<Self> {
        let mut least = Self::by(pid)?;
        for _ in 0..LOOKS {
            thread::sleep(PAUSE);
            let held = Self::by(pid)?;
            least.memory = least.memory.min(held.memory);
            least.descriptors = least.descriptors.min(held.descriptors);
            least.threads = least.threads.min(held.threads);
        }
        Ok(least)
    }

    fn by(pid: u32) -> anyhow::Result<Self> {
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let count = |name: &str| -> anyhow::Result<usize> {
            Ok(fs::read_dir(path(name)).with_context(|| path(name))?.count())
        };
        let status = fs::read_to_string(path("status")).with_context(|| path("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let memory = line.and_then(|line| line.split_whitespace().next()).context("VmRSS")?;
        let memory = memory.parse().with_context(|| memory.to_owned())?;
        Ok(Self { memory, descriptors: count("fd")?, threads: count("task")? })
    }

    /// Fails where a later look at the same process, with the same objects, shows more than comes and goes.
    pub(super) fn has_not_grown(self, later: Self) -> anyhow::Result<()> {
        let grown = later.memory > self.memory + MEMORY
            || later.descriptors > self.descriptors + FEW
            || later.threads > self.threads + FEW;
        ensure!(!grown, "the process grew with the same objects: {self:?}, later {later:?}");
        Ok(())
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { memory, descriptors, threads } = self;
        write!(f, "{memory} KiB, {descriptors} descriptors, {threads} threads")
    }
}
