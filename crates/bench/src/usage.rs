//! CPU time and memory of a process and its children, as `/proc` shows them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Units of CPU time in `/proc/PID/stat`; the kernel's `USER_HZ` is 100 wherever this is run.
const TICKS_PER_SECOND: u32 = 100;

/// Pause between two looks at the children.
const PERIOD: Duration = Duration::from_millis(20);

/// CPU time that counts as idle, per second.
const IDLE: Duration = Duration::from_millis(50);

/// CPU time so far, of the process and of the children it has waited for.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    let ticks = fields(&stat, 13..17).context("/proc/PID/stat is not as expected")?;
    Ok(Duration::from_secs(ticks.iter().sum()) / TICKS_PER_SECOND)
}

/// Largest resident size so far, in bytes.
pub(crate) fn peak_memory(pid: u32) -> anyhow::Result<u64> {
    kilobytes(&status(pid)?, "VmHWM")
}

/// What is resident now, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resident {
    /// All of it.
    pub(crate) all: u64,
    /// Of the program and its libraries: pages of files, which the kernel may drop and read again.
    pub(crate) files: u64,
}

/// What is resident now.
pub(crate) fn resident(pid: u32) -> anyhow::Result<Resident> {
    let status = status(pid)?;
    Ok(Resident { all: kilobytes(&status, "VmRSS")?, files: kilobytes(&status, "RssFile")? })
}

/// How often the threads that are there went to sleep so far: as often as something woke them.
pub(crate) fn wakeups(pid: u32) -> anyhow::Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")?;
    let count = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        field(&status, "voluntary_ctxt_switches")?.parse::<u64>().ok()
    };
    Ok(threads.flatten().filter_map(count).sum())
}

fn status(pid: u32) -> anyhow::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")
}

/// A size from a `status` file, in bytes.
fn kilobytes(status: &str, name: &str) -> anyhow::Result<u64> {
    let kib = field(status, name).and_then(|text| text.strip_suffix(" kB")?.trim().parse().ok());
    let kib: u64 = kib.with_context(|| format!("/proc/PID/status has no {name}"))?;
    Ok(kib * 1024)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

/// Waits until the process has hardly used the CPU for a second.
pub(crate) fn wait_until_idle(pid: u32, guard: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut before = cpu(pid)?;
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = cpu(pid)?;
        // A child at work is not in the sum yet.
        if now.saturating_sub(before) <= IDLE && children(pid).is_empty() {
            return Ok(());
        }
        if start.elapsed() > guard {
            bail!("the process is still busy after {guard:?}");
        }
        before = now;
    }
}

/// Watches the memory of the children until it is dropped.
#[derive(Debug)]
pub(crate) struct ChildWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ChildWatch {
    /// Starts to watch.
    pub(crate) fn start(pid: u32) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (found, end) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                for child in children(pid) {
                    // A child that has ended meanwhile was seen before.
                    found.fetch_max(peak_memory(child).unwrap_or(0), Ordering::Relaxed);
                }
                thread::sleep(PERIOD);
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// Largest resident size of any child so far, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for ChildWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and dropping must not.
            let _ = thread.join();
        }
    }
}

/// Processes whose parent this is.
fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| {
            let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            fields(&stat, 3..4).is_some_and(|parent| parent == [u64::from(pid)])
        })
        .collect()
}

/// Numbers from a line of `/proc/PID/stat`, counted from 0; the name before them may hold anything.
fn fields(stat: &str, range: std::ops::Range<usize>) -> Option<Vec<u64>> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(range.start.checked_sub(2)?);
    range.map(|_| fields.next()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
