//! This process, as the kernel sees it.

use std::fs;
use std::sync::OnceLock;

use nix::unistd::{SysconfVar, sysconf};

/// What `process_*` metrics tell. Zero where the kernel says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    open_files: f64,
    max_files: f64,
    resident: f64,
    virtual_memory: f64,
    max_virtual_memory: f64,
    start: f64,
}

impl Process {
    /// Reads `/proc/self`.
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Self::parse(&read("/proc/self/stat"), &read("/proc/self/limits"));
        process.start += boot_time();
        // The directory itself is open while it is read.
        process.open_files = fs::read_dir("/proc/self/fd")
            .map_or(0.0, |entries| number(entries.count().saturating_sub(1)));
        process
    }

    /// `start` is relative to the boot.
    fn parse(stat: &str, limits: &str) -> Self {
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<f64> = match stat.rsplit_once(')') {
            Some((_, rest)) => {
                rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect()
            }
            None => Vec::new(),
        };
        // proc_pid_stat(5) numbers fields from 1; here the third is the first.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
        let ticks = system(SysconfVar::CLK_TCK, 100.0);
        Self {
            cpu_seconds: (field(14) + field(15)) / ticks,
            open_files: 0.0,
            max_files: limit(limits, "Max open files"),
            resident: field(24) * system(SysconfVar::PAGE_SIZE, 4096.0),
            virtual_memory: field(23),
            max_virtual_memory: limit(limits, "Max address space"),
            start: field(22) / ticks,
        }
    }

    /// Names, help and values of all but the CPU time.
    pub(super) fn gauges(self) -> [(&'static str, &'static str, f64); 6] {
        [
            ("process_open_fds", "Open file descriptors", self.open_files),
            ("process_max_fds", "Most file descriptors that may be open", self.max_files),
            ("process_resident_memory_bytes", "Memory that is in RAM", self.resident),
            ("process_virtual_memory_bytes", "Address space", self.virtual_memory),
            (
                "process_virtual_memory_max_bytes",
                "Largest address space, -1 for no limit",
                self.max_virtual_memory,
            ),
            ("process_start_time_seconds", "When the process started, since the epoch", self.start),
        ]
    }
}

/// The soft limit of a line of `/proc/self/limits`.
fn limit(limits: &str, name: &str) -> f64 {
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    let soft = line.and_then(|line| line.split_ascii_whitespace().next());
    match soft {
        Some("unlimited") => -1.0,
        Some(number) => number.parse().unwrap_or(0.0),
        None => 0.0,
    }
}

/// When the machine was started, in seconds since the epoch; it is looked up once.
fn boot_time() -> f64 {
    static BOOT: OnceLock<f64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
        line.and_then(|seconds| seconds.trim().parse().ok()).unwrap_or(0.0)
    })
}

fn system(variable: SysconfVar, default: f64) -> f64 {
    match sysconf(variable) {
        Ok(Some(value)) if value > 0 => number(usize::try_from(value).unwrap_or(0)),
        _ => default,
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Process;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat =
            "7 (a) b) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 3 0 1000 8192000 512 0 0";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\nMax address space         unlimited            unlimited            bytes\n";
        let process = Process::parse(stat, limits);
        assert!((process.cpu_seconds - 3.0).abs() < 1e-9, "{process:?}");
        assert!((process.start - 10.0).abs() < 1e-9, "{process:?}");
        assert!((process.virtual_memory - 8_192_000.0).abs() < 1e-9, "{process:?}");
        assert!((process.max_files - 1024.0).abs() < 1e-9, "{process:?}");
        assert!((process.max_virtual_memory + 1.0).abs() < 1e-9, "{process:?}");
        let now = Process::now();
        assert!(now.resident > 1e5 && now.open_files > 2.0 && now.start > 1e9, "{now:?}");
        assert_eq!(Process::parse("", ""), Process::default(), "nothing panics");
    }
}
