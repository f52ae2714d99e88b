use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::anyhow;

use super::*;

#[test]
fn each_step_ends_as_its_jobs_do() {
    let fails = |mut log: &File| {
        writeln!(log, "seen")?;
        Err(anyhow!("no"))
    };
    let steps = vec![
        (
            "example",
            vec![Job::new("1", Length::Short, |_| Ok(())), Job::new("2", Length::Long, fails)],
        ),
        ("other example", vec![Job::new("1", Length::Medium, |_| Ok(()))]),
        ("empty example", Vec::new()),
    ];
    let passed: Vec<_> = run(steps).iter().map(|outcome| outcome.passed).collect();
    assert_eq!(passed, [false, true, true]);
}

#[test]
fn no_more_than_the_lanes_run_at_a_time_and_long_ones_first() {
    let lanes = lanes();
    let running = Arc::new(AtomicUsize::new(0));
    let order = Arc::new(Mutex::new(Vec::new()));
    let job = |length| {
        let (running, order) = (Arc::clone(&running), Arc::clone(&order));
        Job::new("", length, move |_| {
            order.lock().unwrap().push(length);
            assert!(running.fetch_add(1, Ordering::SeqCst) < lanes);
            thread::sleep(Duration::from_millis(20));
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let short = (0..2 * lanes).map(|_| job(Length::Short));
    let long = (0..lanes).map(|_| job(Length::Long));
    let outcomes = run(vec![("example", short.chain(long).collect())]);
    assert!(outcomes[0].passed);
    let order = order.lock().unwrap();
    assert_eq!(order.len(), 3 * lanes);
    assert!(order[..lanes].iter().all(|length| *length == Length::Long), "{order:?}");
}

#[test]
fn output_is_shown_and_a_job_that_fails_does_not_take_its_time_away() {
    let slow = |mut log: &File| {
        thread::sleep(Duration::from_millis(5));
        writeln!(log, "seen")?;
        Err(anyhow!("no"))
    };
    let outcome = attempt("example", Job::new("1", Length::Short, slow));
    assert!(!outcome.passed && outcome.took >= Duration::from_millis(5));
}
