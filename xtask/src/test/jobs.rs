//! The parts of steps that run beside each other.
//!
//! Tests with real packets and timers wait for most of their time, so several programs at a time keep the processors busy.
//! What a job prints is kept and shown in one piece when it ends.

use std::fs::File;
use std::io::{self, Seek as _};
use std::ops::RangeInclusive;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::say;

use crate::workspace;

/// Keeps a program that hangs from hanging everything; far beyond what any takes, and beyond the guard of user-mode Linux.
const GUARD: Duration = Duration::from_mins(45);

/// How many jobs run at a time: two for each processor, within these.
const LANES: RangeInclusive<usize> = 2..=8;

/// How many run at a time here.
pub(super) fn lanes() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (2 * processors).clamp(*LANES.start(), *LANES.end())
}

/// Something that a step consists of.
pub(super) struct Job {
    /// What of the step it is.
    name: String,
    length: Length,
    run: Box<Run>,
}

type Run = dyn FnOnce(&File) -> anyhow::Result<()> + Send;

/// How long a job takes, roughly. Longer ones are started first, so that none is left over at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Length {
    /// Many minutes.
    Longest,
    /// Minutes.
    Long,
    /// Less than a minute.
    Medium,
    /// Seconds.
    Short,
}

impl Job {
    /// `run` writes all output to the file.
    pub(super) fn new(
        name: impl Into<String>,
        length: Length,
        run: impl FnOnce(&File) -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), length, run: Box::new(run) }
    }

    /// Runs a command.
    pub(super) fn of_command(
        name: impl Into<String>,
        length: Length,
        mut command: Command,
    ) -> Self {
        Self::new(name, length, move |log| {
            workspace::run_within(print_to(log, &mut command)?, GUARD)
        })
    }
}

/// Has a command print to a file.
pub(super) fn print_to<'a>(
    log: &File,
    command: &'a mut Command,
) -> anyhow::Result<&'a mut Command> {
    let copy = || log.try_clone().context("cannot make a temporary file");
    Ok(command.stdout(copy()?).stderr(copy()?))
}

/// What became of the jobs of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// All passed.
    pub(super) passed: bool,
    /// How long they ran, one time added to the other.
    pub(super) took: Duration,
}

/// Runs the jobs of some steps, several at a time; what became of each step, in the same order.
pub(super) fn run(steps: Vec<(&'static str, Vec<Job>)>) -> Vec<Outcome> {
    let none = Outcome { passed: true, took: Duration::ZERO };
    let outcomes = Mutex::new(vec![none; steps.len()]);
    let numbered = steps.into_iter().enumerate();
    let mut jobs: Vec<_> = numbered
        .flat_map(|(number, (step, jobs))| jobs.into_iter().map(move |job| (number, step, job)))
        .collect();
    jobs.sort_by_key(|(.., job)| job.length);
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..lanes() {
            scope.spawn(|| {
                while let Some((number, step, job)) = next() {
                    let Outcome { passed, took } = attempt(step, job);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes[number].passed &= passed;
                    outcomes[number].took += took;
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a job and shows what it printed.
fn attempt(step: &str, job: Job) -> Outcome {
    let start = Instant::now();
    let Job { name, run, .. } = job;
    let log = tempfile::tempfile().context("cannot make a temporary file");
    let result = log.and_then(|log| {
        let result = run(&log);
        show(step, &name, log).and(result)
    });
    let took = start.elapsed();
    let how = if result.is_ok() { "passed" } else { "failed" };
    if let Err(error) = &result {
        complain(error);
    }
    say!("--- {step}, {name}: {how} after {:.1} s", took.as_secs_f64());
    Outcome { passed: result.is_ok(), took }
}

/// Prints a log in one piece.
fn show(step: &str, name: &str, mut log: File) -> anyhow::Result<()> {
    log.rewind().context("cannot read a temporary file")?;
    let mut stdout = io::stdout().lock();
    // The output is for people: a reader that went away is no error.
    let _ = io::Write::write_fmt(&mut stdout, format_args!("\n=== {step}, {name}\n"))
        .and_then(|()| io::copy(&mut log, &mut stdout));
    Ok(())
}

#[cfg(test)]
mod tests;
