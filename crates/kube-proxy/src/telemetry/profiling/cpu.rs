//! Where CPU time goes.

use std::thread;
use std::time::{Duration, SystemTime};

use pprof::{Frames, ProfilerGuardBuilder};

use super::proto::{Call, Profile};

/// Samples for each second of CPU time.
const FREQUENCY: u32 = 100;
/// What one sample stands for.
const PERIOD: u64 = 1_000_000_000 / FREQUENCY as u64;

/// Blocks for the duration.
pub(super) fn take(duration: Duration) -> Result<Vec<u8>, String> {
    let start = SystemTime::now();
    let failed = |error: pprof::Error| format!("cannot take a CPU profile: {error}");
    let guard = ProfilerGuardBuilder::default()
        .frequency(FREQUENCY.cast_signed())
        // A stack that is walked in these may hold a lock that the walk needs.
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(failed)?;
    thread::sleep(duration);
    let report = guard.report().build().map_err(failed)?;
    drop(guard);
    let mut profile = Profile::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    for (frames, count) in report.data {
        let count = u64::try_from(count).unwrap_or(0);
        let name = frames.thread_name_or_id();
        profile.sample(&stack(&frames), &[count, count * PERIOD], &[("thread", &name)]);
    }
    Ok(profile.finish(Some((("cpu", "nanoseconds"), PERIOD)), start, duration))
}

/// The innermost call first; functions that the compiler put into others have a place of their own.
fn stack(frames: &Frames) -> Vec<Call> {
    let call = |symbol: &pprof::Symbol| Call {
        function: symbol.name(),
        file: symbol.filename().into_owned(),
        line: symbol.lineno(),
    };
    frames.frames.iter().flatten().map(call).collect()
}
