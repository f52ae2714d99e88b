//! Waiting for something that takes an unknown while.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Pauses between two tries: a tenth of the time that has passed, so that waiting for long does not take the time of what is waited for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// How long the next try may take: little at first, then more, so that neither silence nor a busy machine costs much.
///
/// ```
/// use kube_proxy_testkit::eventually::Patience;
///
/// let mut patience = Patience::default();
/// assert!(patience.grow() < patience.grow());
/// ```
#[derive(Debug)]
pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_millis(200))
    }
}

impl Patience {
    /// The time for the next try; the one after it gets twice as much, up to ten seconds.
    pub fn grow(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Duration::from_secs(10));
        now
    }
}

/// Tries until it works, and returns that result.
///
/// `guard` only keeps a test from hanging; choose it generously, as passing costs no time.
///
/// # Panics
/// When the guard has passed, with the error of the last try.
#[track_caller]
pub fn eventually<T, E: Display>(guard: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    let mut tries = 0_u32;
    loop {
        tries += 1;
        match attempt() {
            Ok(value) => return value,
            Err(error) if start.elapsed() >= guard => {
                panic!("still failing after {guard:?} and {tries} tries; last error: {error:#}")
            }
            Err(_) => thread::sleep(pause(start.elapsed())),
        }
    }
}

/// The pause after a try that failed, when so much time has passed since the first.
fn pause(passed: Duration) -> Duration {
    (passed / 10).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}
