//! Test programs that end with what a person needs to know.
//!
//! Tests with real packets and programs run several at a time, on machines that do other work as well.
//! A test that fails beside others is therefore run once more, alone: if it fails again it has failed, and if it passes it is
//! *unsteady*. An unsteady test does not fail the program, but it is named at the end, with what it said: it is a fault, of the
//! test or of what it tests, and is to be mended.
//!
//! With [`REPORT_VARIABLE`], both kinds are also appended to a file.

use std::any::Any;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, RwLock};

use anyhow::Context as _;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::say;

/// Path of a file to which a test program appends what failed, or passed only when it was run again.
pub const REPORT_VARIABLE: &str = "TESTKIT_REPORT";

/// The variable that asks for a part of the tests: `1/4` is every fourth, beginning with the first.
pub const PART_VARIABLE: &str = "TESTKIT_PART";

/// How many lines of a message are reported; the output of the test has all.
const LINES: usize = 12;

/// Tests that run beside others share it; one that is run again has it to itself.
static TURN: RwLock<()> = RwLock::new(());

/// What is reported at the end.
static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A test by this name. Its error is printed with its causes; a panic is a failure too.
pub fn trial(
    name: impl Into<String>,
    test: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
) -> Trial {
    let name = name.into();
    let own_name = name.clone();
    Trial::test(name, move || attempt(&own_name, &test).map_err(Failed::from))
}

/// The part of the tests that [`PART_VARIABLE`] names, or all; all parts together are all tests.
///
/// # Errors
/// When the variable names no part.
pub fn part(all: Vec<Trial>) -> anyhow::Result<Vec<Trial>> {
    let Ok(part) = std::env::var(PART_VARIABLE) else { return Ok(all) };
    let numbers = part.split_once('/').and_then(|(part, of)| {
        let (part, of): (usize, usize) = (part.parse().ok()?, of.parse().ok()?);
        (1..=of).contains(&part).then_some((part, of))
    });
    let (part, of) = numbers.with_context(|| {
        format!("{PART_VARIABLE}={part}: no part of the tests, such as 1/4; none was run")
    })?;
    Ok(all.into_iter().skip(part - 1).step_by(of).collect())
}

/// Runs the tests, and says at the end what failed and what was unsteady.
pub fn run(arguments: &Arguments, trials: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(arguments, trials);
    let reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in &*reported {
        say!("{entry}");
    }
    if let Some(path) = std::env::var_os(REPORT_VARIABLE) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let text = reported.concat();
        if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
            say!("cannot write {}: {error}", path.display());
        }
    }
    conclusion.exit_code()
}

/// Runs a test beside others, and if it fails once more alone; the message of a test that failed twice.
fn attempt(name: &str, test: &impl Fn() -> anyhow::Result<()>) -> Result<(), String> {
    let beside = {
        let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
        message(test)
    };
    let Err(first) = beside else { return Ok(()) };
    let alone = {
        let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
        message(test)
    };
    match alone {
        Ok(()) => {
            report("unsteady", name, &first);
            Ok(())
        }
        Err(second) => {
            report("FAILED", name, &second);
            Err(format!("{second}\nbefore, beside other tests: {first}"))
        }
    }
}

/// The message of a test that fails, by an error or a panic.
fn message(test: &impl Fn() -> anyhow::Result<()>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(test)) {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(panic) => Err(format!("panicked: {}", panic_message(&*panic))),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Notes an entry for the end: the beginning of the message, indented below the name.
fn report(what: &str, name: &str, message: &str) {
    let mut entry = format!("{what} {name}\n");
    for line in message.lines().take(LINES) {
        let line: String = line.chars().take(300).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(entry, "    {line}");
    }
    if message.lines().nth(LINES).is_some() {
        entry.push_str("    …\n");
    }
    REPORTED.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
}

#[cfg(test)]
mod tests;
