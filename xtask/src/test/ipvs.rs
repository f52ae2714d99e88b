//! The ipvs end-to-end tests in user-mode Linux, where this kernel cannot run them.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::built::{own_command, test_program};
use crate::uml::Way;
use crate::{host, workspace};

/// How many machines share the tests. Each has one processor and runs one test at a time, which waits for a good part of its time.
const MACHINES: usize = 4;
/// Which part of the end-to-end tests are to run; `tests/e2e/lib.rs` reads it.
const PART_VARIABLE: &str = "TESTKIT_PART";

/// Why the tests cannot run.
pub(super) const MISSING: &str =
    "this kernel has no ip_vs, and there is no linux.uml: apt-get install user-mode-linux";

/// Whether there is any kernel to run the tests on.
pub(super) fn has_kernel() -> bool {
    Way::of_this_host() == Way::Native || host::is_on_path(host::USER_MODE_LINUX)
}

/// Runs the tests that this kernel cannot run on one that can. All output goes to `log`.
pub(super) fn run(mut log: &File) -> anyhow::Result<()> {
    let native = Way::of_this_host() == Way::Native;
    if native && !host::is_on_path(host::USER_MODE_LINUX) {
        writeln!(
            log,
            "this kernel has ip_vs: they ran natively, but for those that turn the clock"
        )?;
        return Ok(());
    }
    if native {
        writeln!(
            log,
            "this kernel has ip_vs: they ran natively, and those that turn the clock follow"
        )?;
        return in_kernel(&[&test_program("e2e")?, "ipvs/clock/"], log);
    }
    if !has_kernel() {
        bail!(MISSING);
    }
    // First what all else depends on.
    in_kernel(&[&test_program("registers")?], log)?;
    let tests = test_program("e2e")?;
    // What the others say is shown after the first.
    let logs: io::Result<Vec<File>> = (1..MACHINES).map(|_| tempfile::tempfile()).collect();
    let mut logs = logs.context("cannot make a temporary file")?;
    let results: Vec<anyhow::Result<()>> = std::thread::scope(|scope| {
        let all = std::iter::once(log).chain(&logs).zip(1..);
        let machines: Vec<_> = all
            .map(|(log, number)| {
                let tests = &tests;
                scope.spawn(move || part_in_kernel(tests, number, log))
            })
            .collect();
        let ends = machines.into_iter().map(std::thread::ScopedJoinHandle::join);
        ends.map(|end| end.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    for other in &mut logs {
        other.rewind().and_then(|()| io::copy(other, &mut log)).context("cannot copy output")?;
    }
    results.into_iter().collect()
}

/// Runs one part of the ipvs tests, counted from 1.
fn part_in_kernel(tests: &str, number: usize, log: &File) -> anyhow::Result<()> {
    let mut command = kernel_command(&[tests, "ipvs/"], log)?;
    workspace::run(command.env(PART_VARIABLE, format!("{number}/{MACHINES}")))
}

/// Runs tests in user-mode Linux.
fn in_kernel(command: &[&str], log: &File) -> anyhow::Result<()> {
    workspace::run(&mut kernel_command(command, log)?)
}

/// The command for that.
fn kernel_command(command: &[&str], log: &File) -> anyhow::Result<Command> {
    let arguments = [&["uml", "--"], command, &["--color=never"]].concat();
    let mut command = own_command(&arguments, true)?;
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    Ok(command)
}
