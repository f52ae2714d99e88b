//! How often the API server may be asked.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Defaults of `clientConnection`.
const DEFAULT_QPS: f32 = 5.0;
const DEFAULT_BURST: u32 = 10;

/// A token bucket.
#[derive(Debug)]
pub(super) struct RateLimit {
    /// Time per token; `None` is no limit.
    interval: Option<Duration>,
    burst: u32,
    /// When the bucket will be full again.
    full_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    /// `qps` and `burst` as in `clientConnection`: 0 is the default, a negative rate is no limit.
    pub(super) fn new(qps: f32, burst: u32) -> Self {
        let qps = if qps == 0.0 { DEFAULT_QPS } else { qps };
        let seconds = Duration::try_from_secs_f32(1.0 / qps);
        Self {
            interval: seconds.ok().filter(|_| qps > 0.0),
            burst: if burst == 0 { DEFAULT_BURST } else { burst },
            full_at: Mutex::new(None),
        }
    }

    /// Takes a token, as soon as there is one.
    pub(super) async fn acquire(&self) {
        let wait = self.reserve(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes a token and says how long to wait for it.
    fn reserve(&self, now: Instant) -> Duration {
        let Some(interval) = self.interval else {
            return Duration::ZERO;
        };
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full = full_at.unwrap_or(now).max(now) + interval;
        *full_at = Some(full);
        let capacity = interval.saturating_mul(self.burst);
        (full - now).saturating_sub(capacity)
    }
}

#[cfg(test)]
mod tests;
