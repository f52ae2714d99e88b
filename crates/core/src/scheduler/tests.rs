use std::time::{Duration, Instant};

use super::{Intervals, Scheduler};

const SECOND: Duration = Duration::from_secs(1);

fn scheduler() -> (Scheduler, Instant) {
    let intervals = Intervals { min: SECOND, retry: 30 * SECOND, max: Some(3600 * SECOND) };
    (Scheduler::new(intervals), Instant::now())
}

#[test]
fn nothing_is_due_before_the_first_request() {
    let (scheduler, _) = scheduler();
    assert_eq!(scheduler.due(), None);
}

#[test]
fn the_first_request_is_due_at_once() {
    let (mut scheduler, now) = scheduler();
    scheduler.request(now);
    assert_eq!(scheduler.due(), Some(now));
}

#[test]
fn requests_wait_for_the_minimum_interval_after_the_end_of_the_last_sync() {
    let (mut scheduler, now) = scheduler();
    scheduler.finished(now, true);
    scheduler.request(now + SECOND / 4);
    scheduler.request(now + SECOND / 2);
    assert_eq!(scheduler.due(), Some(now + SECOND));
    assert_eq!(scheduler.waiting_since(), Some(now + SECOND / 4), "the oldest request counts");
}

#[test]
fn a_request_after_the_minimum_interval_is_due_at_once() {
    let (mut scheduler, now) = scheduler();
    scheduler.finished(now, true);
    scheduler.request(now + 5 * SECOND);
    assert_eq!(scheduler.due(), Some(now + 5 * SECOND));
}

#[test]
fn without_a_request_nothing_is_due() {
    let (mut scheduler, now) = scheduler();
    scheduler.request(now);
    scheduler.finished(now, true);
    assert_eq!(scheduler.due(), None);
    assert_eq!(scheduler.waiting_since(), None);
}

#[test]
fn failures_are_retried_after_1_2_4_seconds_up_to_the_retry_interval() {
    let (mut scheduler, now) = scheduler();
    scheduler.request(now);
    let mut waits = Vec::new();
    for _ in 0..7 {
        scheduler.finished(now, false);
        waits.push((scheduler.due().expect("a retry") - now).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(scheduler.waiting_since(), Some(now), "a failed request keeps its age");
}

#[test]
fn a_success_ends_the_backoff() {
    let (mut scheduler, now) = scheduler();
    for _ in 0..5 {
        scheduler.finished(now, false);
    }
    scheduler.finished(now, true);
    scheduler.finished(now, false);
    assert_eq!(scheduler.due(), Some(now + SECOND));
}

#[test]
fn countless_failures_do_not_overflow() {
    let (mut scheduler, now) = scheduler();
    for _ in 0..100_000 {
        scheduler.finished(now, false);
    }
    assert_eq!(scheduler.due(), Some(now + 30 * SECOND));
}
