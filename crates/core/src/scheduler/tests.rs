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

/// An endpoint every 10 ms for 10 s, with syncs of 0.2 s: the first is served at once, the others are gathered.
#[test]
fn a_rollout_of_a_thousand_endpoints_costs_ten_syncs() {
    let (mut scheduler, start) = scheduler();
    let took = SECOND / 5;
    let mut changes = (0..1000).map(|change| start + change * SECOND / 100).peekable();
    let mut starts = Vec::new();
    let mut now = start;
    loop {
        while let Some(change) = changes.next_if(|change| *change <= now) {
            scheduler.request(change);
        }
        now = match (scheduler.due(), changes.peek()) {
            (Some(due), Some(change)) if *change < due => *change,
            (Some(due), _) => {
                starts.push(due - start);
                // What arrives during a sync asks for the next one.
                scheduler.finished(due + took, true);
                due + took
            }
            (None, Some(change)) => *change,
            (None, None) => break,
        };
    }
    let expected: Vec<_> = (0..10).map(|sync| sync * (took + SECOND)).collect();
    assert_eq!(starts, expected);
}
