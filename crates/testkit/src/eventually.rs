//! Waiting for something that takes an unknown while.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(10);

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
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
