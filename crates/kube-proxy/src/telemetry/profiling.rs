//! Profiles of this process in the format of pprof, which `go tool pprof` and most viewers read: where CPU time goes, and what its memory is.

use std::time::Duration;

use crate::tasks;

mod cpu;
mod memory;
mod proto;

/// Longest time a CPU profile may take.
pub const MAX_DURATION: Duration = Duration::from_mins(5);

/// Samples the stacks of all threads that use the CPU for so long. Runs on a thread of its own meanwhile.
///
/// # Errors
/// Why there is none, in words: another one is being taken, or the system refuses the timer.
pub async fn cpu(duration: Duration) -> Result<Vec<u8>, String> {
    tasks::blocking("CPU profile", move || cpu::take(duration.min(MAX_DURATION))).await
}

/// Bytes of memory, mapping by mapping: `[heap]` and `[anonymous]` are what is allocated, files are code and its data.
///
/// # Errors
/// `/proc/self/smaps` cannot be read.
pub fn memory() -> std::io::Result<Vec<u8>> {
    Ok(memory::profile(&std::fs::read_to_string(memory::PATH)?))
}

/// The same as text, largest first.
///
/// # Errors
/// As for [`memory()`].
pub fn memory_text() -> std::io::Result<String> {
    Ok(memory::text(&std::fs::read_to_string(memory::PATH)?))
}

#[cfg(test)]
mod tests;
