//! Steps that run beside the others.

use std::fs::File;
use std::io::{self, Seek as _};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::steps::{Run, Step};
use kube_proxy_testkit::say;

/// Those that were started and are not finished.
#[derive(Default)]
pub(super) struct Beside(Vec<Started>);

struct Started {
    name: &'static str,
    log: File,
    thread: JoinHandle<(anyhow::Result<()>, Duration)>,
}

impl Beside {
    /// Starts those of the steps that run beside others.
    ///
    /// # Errors
    /// When there is no file for the output.
    pub(super) fn start<'a>(
        &mut self,
        steps: impl Iterator<Item = &'a Step>,
    ) -> anyhow::Result<()> {
        for step in steps {
            let Run::Beside(run) = step.run else { continue };
            let log = tempfile::tempfile().context("cannot make a temporary file")?;
            let output = log.try_clone().context("cannot make a temporary file")?;
            let thread = thread::spawn(move || {
                let start = Instant::now();
                (run(&output), start.elapsed())
            });
            say!("\n... {} runs beside the next steps", step.name);
            self.0.push(Started { name: step.name, log, thread });
        }
        Ok(())
    }

    /// Waits for a step, shows its output, and says how it ended and how long it ran.
    pub(super) fn finish(&mut self, name: &str) -> (anyhow::Result<()>, Duration) {
        let Some(at) = self.0.iter().position(|started| started.name == name) else {
            return (Err(anyhow!("{name} was not started, as nothing was built")), Duration::ZERO);
        };
        let Started { mut log, thread, .. } = self.0.remove(at);
        let (result, took) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The output is for people: a reader that went away is no error.
        let _ = log.rewind().and_then(|()| io::copy(&mut log, &mut io::stdout().lock()));
        (result, took)
    }
}

#[cfg(test)]
mod tests;
