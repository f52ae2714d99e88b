//! How long to wait after an error.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Delays that double from one error to the next, with jitter so that the nodes of a cluster do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    start: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(start: Duration, max: Duration) -> Self {
        Self { start, max, failures: 0 }
    }

    /// The delay after one more error: between half and one and a half of the doubled start, or what the server asks for and up to half
    /// as much again, because it asks all nodes for the same.
    pub(super) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        let doubled = self.start.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let delay = doubled.min(self.max).mul_f64(0.5 + random());
        let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        delay.max(asked.mul_f64(1.0 + random() / 2.0))
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A random number from 0 up to 1: good enough to spread load, from the seed of the standard library's hash maps.
pub(super) fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
