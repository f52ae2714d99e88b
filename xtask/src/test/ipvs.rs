//! The ipvs end-to-end tests in user-mode Linux, where this kernel cannot run them.

use std::io::Write as _;
use std::process::Command;

use anyhow::bail;
use kube_proxy_testkit::harness::PART_VARIABLE;

use super::built::own;
use super::jobs::{Job, Length, lanes};
use super::programs::Programs;
use crate::host;
use crate::uml::{Package, Way};

/// Why the tests cannot run.
pub(super) const MISSING: &str =
    "this kernel has no ip_vs, and there is no linux.uml: apt-get install user-mode-linux";

/// Whether there is any kernel to run the tests on.
pub(super) fn has_kernel() -> bool {
    Way::of_this_host() == Way::Native || host::is_on_path(host::USER_MODE_LINUX)
}

/// Jobs that run the tests that this kernel cannot run on one that can.
pub(super) fn jobs(programs: &Programs) -> anyhow::Result<Vec<Job>> {
    let native = Way::of_this_host() == Way::Native;
    if native && !host::is_on_path(host::USER_MODE_LINUX) {
        let says = "this kernel has ip_vs: they ran natively, but for those that turn the clock";
        return Ok(vec![Job::new("nothing", Length::Short, move |mut log| {
            Ok(writeln!(log, "{says}")?)
        })]);
    }
    if !has_kernel() {
        bail!(MISSING);
    }
    let tests = programs.end_to_end()?.path.display().to_string();
    if native {
        let command = in_kernel(&[&tests, "ipvs/clock/"])?;
        return Ok(vec![Job::of_command("those that turn the clock", Length::Short, command)]);
    }
    // What all else depends on.
    let registers = programs.one("xtask/uml-xstate", "registers")?.path.display().to_string();
    let registers = Job::of_command("registers", Length::Short, in_kernel(&[&registers])?);
    let parts = parts(&[], &tests);
    std::iter::once(Ok(registers)).chain(parts).collect()
}

/// Jobs that run the tests on the kernel that another release of Debian has for user-mode Linux.
pub(super) fn jobs_on(programs: &Programs, release: &str) -> anyhow::Result<Vec<Job>> {
    Package::of_release(release)?;
    let tests = programs.end_to_end()?.path.display().to_string();
    parts(&["--release", release], &tests).collect()
}

/// The tests in as many parts as run at a time. Each runs in a machine of its own, which has one processor, runs one test at a time and takes
/// two seconds to start.
fn parts(options: &[&str], tests: &str) -> impl Iterator<Item = anyhow::Result<Job>> {
    let parts = lanes();
    (0..parts).map(move |number| {
        let part = format!("{}/{parts}", number + 1);
        let processor = number.to_string();
        let beside = [&["--processor", &processor], options].concat();
        let mut command = in_kernel_with(&beside, &[tests, "ipvs/"])?;
        command.env(PART_VARIABLE, &part);
        Ok(Job::of_command(format!("part {part}"), Length::Long, command))
    })
}

/// Runs tests in user-mode Linux.
fn in_kernel(command: &[&str]) -> anyhow::Result<Command> {
    in_kernel_with(&[], command)
}

/// The same with options of that command.
fn in_kernel_with(options: &[&str], command: &[&str]) -> anyhow::Result<Command> {
    own(&[&["uml"], options, &["--"], command, &["--color=never"]].concat(), true)
}
