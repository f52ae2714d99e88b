//! What the node is set to before anything is proxied: connection tracking limits and timeouts, and who is killed last when memory runs out.
//!
//! Nothing here is worth not starting for: what cannot be set is said in a warning.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::config::{ConntrackSettings, Effective};

/// No automatic limit of tracked connections goes above this.
const MOST_TRACKED: u64 = 1 << 20;

const NETFILTER: &str = "/proc/sys/net/netfilter";
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// Sets everything up.
pub fn apply(config: &Effective) {
    for problem in conntrack(&config.conntrack, Path::new(NETFILTER), Path::new(HASH_SIZE), cpus())
    {
        tracing::warn!("{problem}");
    }
    if let Some(score) = config.oom_score_adj
        && let Err(error) = fs::write("/proc/self/oom_score_adj", score.to_string())
    {
        // Lowering it takes CAP_SYS_RESOURCE.
        tracing::debug!("cannot set the OOM score adjustment to {score}: {error}");
    }
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

/// Sets the sysctls below `directory`; what could not be set, in words.
///
/// The limit is only ever raised: somebody who set it higher knows why.
fn conntrack(
    settings: &ConntrackSettings,
    directory: &Path,
    hash: &Path,
    cpus: u64,
) -> Vec<String> {
    let mut problems = Vec::new();
    if !directory.exists() {
        tracing::debug!("the kernel tracks no connections yet; its settings stay as they are");
        return problems;
    }
    if let Some(per_core) = settings.max_per_core {
        let scaled = (u64::from(per_core) * cpus).max(settings.min.into());
        let wanted = scaled.min(MOST_TRACKED.max(settings.min.into()));
        let limit = directory.join("nf_conntrack_max");
        problems.extend(
            raise(&limit, wanted)
                .and_then(
                    |raised| {
                        if raised { raise(hash, wanted / 4).map(|_| ()) } else { Ok(()) }
                    },
                )
                .err(),
        );
    }
    let timeouts = [
        ("nf_conntrack_tcp_timeout_established", settings.tcp_established_timeout),
        ("nf_conntrack_tcp_timeout_close_wait", settings.tcp_close_wait_timeout),
        ("nf_conntrack_udp_timeout", settings.udp_timeout),
        ("nf_conntrack_udp_timeout_stream", settings.udp_stream_timeout),
    ];
    let liberal = settings.tcp_be_liberal.then_some(1);
    let wanted = timeouts
        .map(|(name, timeout)| (name, timeout.as_ref().map(Duration::as_secs)))
        .into_iter()
        .chain([("nf_conntrack_tcp_be_liberal", liberal)]);
    for (name, value) in wanted {
        if let Some(value) = value {
            problems.extend(set(&directory.join(name), value).err());
        }
    }
    problems
}

/// Raises a number; whether it was lower before.
fn raise(path: &Path, wanted: u64) -> Result<bool, String> {
    let known = read(path)?;
    if known < wanted { write(path, known, wanted).map(|()| true) } else { Ok(false) }
}

/// Sets a number, if it differs.
fn set(path: &Path, wanted: u64) -> Result<(), String> {
    let known = read(path)?;
    if known == wanted { Ok(()) } else { write(path, known, wanted) }
}

fn read(path: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let number = text.trim().parse();
    number.map_err(|_| format!("{} holds {:?}, which is no number", path.display(), text.trim()))
}

fn write(path: &Path, known: u64, wanted: u64) -> Result<(), String> {
    fs::write(path, wanted.to_string()).map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                "; set it on the node, or run once with --init-only and full privileges"
            }
            _ => "",
        };
        format!("{} stays {known} instead of {wanted}: {error}{hint}", path.display())
    })
}

#[cfg(test)]
mod tests;
