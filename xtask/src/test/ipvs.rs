//! The ipvs end-to-end tests in user-mode Linux, where this kernel cannot run them.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};

use anyhow::{Context as _, bail};

use super::built::{own_command, test_program};
use crate::uml::Way;
use crate::{host, workspace};

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
    // User-mode Linux has one processor: two of them use two. What the second says is shown after the first.
    let mut second = tempfile::tempfile().context("cannot make a temporary file")?;
    let (packets, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| in_kernel(&[&tests, "ipvs/", "--skip=ipvs/packets/"], &second));
        let packets = in_kernel(&[&tests, "ipvs/packets/"], log);
        (packets, rest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    second.rewind().and_then(|()| io::copy(&mut second, &mut log)).context("cannot copy output")?;
    packets.and(rest)
}

/// Runs tests in user-mode Linux.
fn in_kernel(command: &[&str], log: &File) -> anyhow::Result<()> {
    let arguments = [&["uml", "--"], command, &["--color=never"]].concat();
    let mut command = own_command(&arguments, true)?;
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    workspace::run(&mut command)
}
