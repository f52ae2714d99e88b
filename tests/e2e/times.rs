//! How long the tests took, for people: nothing judges it.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());
/// How many are named.
const NAMED: usize = 12;

/// Notes, when it is dropped, how long a test took, however that ended.
pub(crate) struct Watch(Instant, String);

impl Watch {
    pub(crate) fn start(name: String) -> Self {
        Self(Instant::now(), name)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let took = (self.0.elapsed(), std::mem::take(&mut self.1));
        TIMES.lock().unwrap_or_else(PoisonError::into_inner).push(took);
    }
}

/// Prints which tests took longest, slowest first, if there were more than a few.
pub fn report_slowest() {
    let mut times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    if times.len() <= NAMED {
        return;
    }
    times.sort_unstable_by(|one, other| other.cmp(one));
    let slowest = times.iter().take(NAMED);
    // A reader that went away is no error.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "slowest of {} tests:", times.len());
    for (took, name) in slowest {
        let _ = writeln!(out, "{:>7.1} s  {name}", took.as_secs_f64());
    }
}
