//! When to sync: a state machine over a time that is passed in.

use std::time::{Duration, Instant};

/// The periods a [`Scheduler`] keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// Least time from the end of one sync to the start of the next (`minSyncPeriod`); changes in between are gathered.
    pub min: Duration,
    /// Longest wait before a failed sync is tried again (`syncPeriod`). The first retry comes after [`Intervals::FIRST_RETRY`],
    /// and the wait doubles up to this, since most failures are a lock that is soon free.
    pub retry: Duration,
    /// Longest time from one full sync to the next, even if nothing changed; `None` never syncs without a reason.
    /// This is for [`Proxy`](crate::Proxy), which knows which syncs are full.
    pub max: Option<Duration>,
}

impl Intervals {
    /// The wait after a first failure.
    pub const FIRST_RETRY: Duration = Duration::from_secs(1);
}

/// Decides when the next sync is due.
///
/// It starts with nothing to do; [`request`](Self::request) asks for a sync, [`finished`](Self::finished) reports one.
#[derive(Clone, Debug)]
pub struct Scheduler {
    intervals: Intervals,
    /// Since when a sync is asked for.
    requested: Option<Instant>,
    /// When the last sync ended.
    last_end: Option<Instant>,
    /// Failures since the last success.
    failures: u32,
}

impl Scheduler {
    /// A scheduler that has seen no sync and no request yet.
    pub fn new(intervals: Intervals) -> Self {
        Self { intervals, requested: None, last_end: None, failures: 0 }
    }

    /// Asks for a sync as soon as the minimum interval allows.
    pub fn request(&mut self, now: Instant) {
        self.requested.get_or_insert(now);
    }

    /// Since when a sync is asked for and not yet done; the age of this says whether a proxy keeps up.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.requested
    }

    /// When the next sync is due; `None` while there is nothing to wait for.
    pub fn due(&self) -> Option<Instant> {
        let Some(soonest) = self.soonest() else {
            return self.requested;
        };
        if self.failures > 0 {
            return Some(soonest);
        }
        self.requested.map(|requested| requested.max(soonest))
    }

    /// Before this no sync may begin, whatever asks for it; `None` before the first.
    pub fn soonest(&self) -> Option<Instant> {
        let wait = if self.failures > 0 { self.retry_wait() } else { Duration::ZERO };
        Some(self.last_end? + wait.max(self.intervals.min))
    }

    /// Reports the end of a sync. After a failure the request stays, and stays as old as it is.
    pub fn finished(&mut self, now: Instant, success: bool) {
        self.last_end = Some(now);
        if success {
            self.failures = 0;
            self.requested = None;
        } else {
            self.failures = self.failures.saturating_add(1);
            self.requested.get_or_insert(now);
        }
    }

    /// 1 s, 2 s, 4 s … up to the retry interval.
    fn retry_wait(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        (Intervals::FIRST_RETRY * 2_u32.pow(doublings)).min(self.intervals.retry)
    }
}

#[cfg(test)]
mod tests;
