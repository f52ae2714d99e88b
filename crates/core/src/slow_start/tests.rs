use std::time::Duration;

use super::{STEPS, SlowStart};

#[test]
fn durations_are_read_as_go_writes_them() {
    let read = |text: &str| text.parse::<SlowStart>().map(|read| read.to_string());
    for (text, expected) in [
        ("30s", "30s"),
        ("90", "90s"),
        ("1m30s", "90s"),
        ("1h", "3600s"),
        ("0", "0s"),
        ("0s", "0s"),
    ] {
        assert_eq!(read(text).as_deref(), Ok(expected), "{text}");
    }
    for text in
        ["", "s", "-1s", "+1s", "1.5s", "250ms", "1h1s", "3601", "99999999999", "1d", "1 s", "30sx"]
    {
        assert!(read(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_share_grows_in_equal_steps_and_is_whole_when_the_time_is_over() {
    for text in ["1s", "9s", "30s", "7m", "1h"] {
        let slow: SlowStart = text.parse().unwrap();
        let all = slow.duration().unwrap();
        let number = |since| slow.step(since).map_or(STEPS, super::Step::number);
        assert_eq!(number(Duration::ZERO), 1);
        assert_eq!(number(all / 2), 5);
        assert!(number(all.saturating_sub(Duration::from_micros(1))) < STEPS);
        assert_eq!(number(all), STEPS);
        assert_eq!(number(all * 2_000_000), STEPS);
        // From one time that is waited for to the next, each step comes once.
        let (mut since, mut seen) = (Duration::ZERO, Vec::new());
        while let Some(step) = slow.step(since) {
            seen.push(step.number());
            since = slow.next(step);
        }
        assert_eq!(seen, (1..STEPS).collect::<Vec<_>>(), "{text}");
        assert!(since >= all && since <= all + Duration::from_nanos(1));
    }
}

#[test]
fn no_time_is_no_slow_start() {
    let none = SlowStart::default();
    assert_eq!((none.duration(), none.step(Duration::ZERO)), (None, None));
}
