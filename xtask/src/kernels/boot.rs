//! An emulated machine, and what it says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use kube_proxy_testkit::say;

/// What became of the tests.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Each suite with its result, in their order.
    pub(super) suites: Vec<(String, String)>,
    /// Every suite came to its end.
    pub(super) finished: bool,
    failed: bool,
}

impl Outcome {
    /// Whether everything passed.
    pub(super) fn is_good(&self) -> bool {
        self.finished && !self.failed
    }

    /// Takes in a line of the console.
    fn read(&mut self, line: &str, summary: &mut String) {
        if let Some(result) = line.strip_prefix("test result: ") {
            result.clone_into(summary);
        }
        let Some((suite, code)) = line.strip_prefix("@@ ").and_then(|mark| mark.split_once(' '))
        else {
            return;
        };
        if suite == "end" {
            self.finished = true;
            return;
        }
        let mut result = std::mem::take(summary);
        if result.is_empty() {
            result = format!("ended with {code} before any test");
        }
        self.failed |= code != "0";
        self.suites.push((suite.to_owned(), result));
    }
}

/// Boots the kernel, and shows its console until it turns itself off.
pub(super) fn run(
    image: &Path,
    initramfs: &Path,
    cpu: &str,
    guard: Duration,
) -> anyhow::Result<Outcome> {
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-cpu", cpu, "-smp", "2", "-m", "3072"])
        .args(["-nographic", "-no-reboot", "-nic", "none"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start `qemu-system-x86_64`")?;
    let outcome = follow(&mut machine, guard);
    // It may have ended by itself.
    let _ = machine.kill();
    machine.wait().context("cannot wait for the machine")?;
    outcome
}

fn follow(machine: &mut Child, guard: Duration) -> anyhow::Result<Outcome> {
    let console = machine.stdout.take().context("the machine has a console")?;
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    let (mut outcome, mut summary) = (Outcome::default(), String::new());
    loop {
        match lines.recv_timeout(guard.saturating_sub(start.elapsed())) {
            Ok(line) => {
                say!("   | {line}");
                outcome.read(&line, &mut summary);
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(outcome),
            Err(RecvTimeoutError::Timeout) => {
                say!("   the machine is ended after {guard:?}");
                return Ok(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests;
