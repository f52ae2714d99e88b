//! How a test that fails once, and one that always fails, end.

use std::cell::Cell;

use anyhow::{bail, ensure};

use super::{REPORTED, attempt};

fn reported(name: &str) -> Option<String> {
    let reported = REPORTED.lock().unwrap();
    reported.iter().find(|entry| entry.lines().next().is_some_and(|l| l.ends_with(name))).cloned()
}

#[test]
fn a_test_that_passes_runs_once_and_is_not_reported() {
    let runs = Cell::new(0);
    let result = attempt("passes", &|| {
        runs.set(runs.get() + 1);
        Ok(())
    });
    assert_eq!((result, runs.get(), reported("passes")), (Ok(()), 1, None));
}

#[test]
fn a_test_that_passes_only_when_run_again_is_unsteady() {
    let runs = Cell::new(0);
    let result = attempt("once", &|| {
        runs.set(runs.get() + 1);
        ensure!(runs.get() > 1, "too early");
        Ok(())
    });
    assert_eq!((result, runs.get()), (Ok(()), 2));
    assert_eq!(reported("once").unwrap(), "unsteady once\n    too early\n");
}

#[test]
fn a_test_that_fails_twice_has_failed_with_both_messages() {
    let runs = Cell::new(0);
    let result = attempt("always", &|| {
        runs.set(runs.get() + 1);
        bail!("wrong {}", runs.get())
    });
    let message = result.unwrap_err();
    assert_eq!(message, "wrong 2\nbefore, beside other tests: wrong 1");
    assert_eq!(reported("always").unwrap(), "FAILED always\n    wrong 2\n");
}

#[test]
fn a_panic_is_a_failure_with_its_message() {
    let message = attempt("panics", &|| panic!("no {}", "way")).unwrap_err();
    assert!(message.starts_with("panicked: no way"), "{message}");
}

#[test]
fn a_long_message_is_reported_by_its_beginning() {
    let long = (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    attempt("long", &|| bail!("{long}")).unwrap_err();
    let entry = reported("long").unwrap();
    assert_eq!(entry.lines().count(), 14, "{entry}");
    assert!(entry.ends_with("line 11\n    …\n"), "{entry}");
}
