//! How often something may be done that takes its time.

use std::time::{Duration, Instant};

/// Of so many parts of the time, what is paced takes one at most.
const PARTS: u32 = 5;
/// The longest pause: what it finds harms clients meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// Lets something be done at once after a pause, and in a busy time no more often than that it takes a fifth of the time; if it takes more
/// than 250 ms, with pauses of a second.
///
/// A look at tracked connections takes as long as the kernel's hash table is large, some milliseconds with 262,144 buckets, however little
/// has changed. What is put off is done together with what comes meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pace {
    earliest: Option<Instant>,
    put_off: bool,
}

impl Pace {
    /// Whether it may be done now. If not, it is put off until [`due`](Self::due).
    pub(super) fn may_begin(&mut self, now: Instant) -> bool {
        self.put_off = self.earliest.is_some_and(|earliest| now < earliest);
        !self.put_off
    }

    /// It was done in this time.
    pub(super) fn ended(&mut self, begin: Instant, end: Instant) {
        let took = end.saturating_duration_since(begin);
        self.earliest = Some(end + took.saturating_mul(PARTS - 1).min(LONGEST));
    }

    /// When that has to be done which was put off.
    pub(super) fn due(&self) -> Option<Instant> {
        self.earliest.filter(|_| self.put_off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Duration = Duration::from_millis(10);

    #[test]
    fn the_first_is_done_at_once() {
        let mut pace = Pace::default();
        assert!(pace.may_begin(Instant::now()));
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_comes_soon_after_is_put_off_and_takes_a_fifth_of_the_time() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        assert!(pace.may_begin(begin));
        pace.ended(begin, begin + UNIT);
        assert_eq!(pace.due(), None, "nothing was put off");
        assert!(!pace.may_begin(begin + UNIT));
        assert!(!pace.may_begin(begin + 2 * UNIT));
        assert_eq!(pace.due(), Some(begin + 5 * UNIT));
        assert!(pace.may_begin(begin + 5 * UNIT));
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn no_pause_is_long() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let end = begin + Duration::from_mins(1);
        pace.ended(begin, end);
        assert!(!pace.may_begin(end));
        assert_eq!(pace.due(), Some(end + LONGEST));
    }

    #[test]
    fn what_took_no_time_is_done_again_at_once() {
        let (mut pace, begin) = (Pace::default(), Instant::now());
        pace.ended(begin, begin);
        assert!(pace.may_begin(begin));
    }
}
