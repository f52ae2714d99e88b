//! What the node is set to before anything is proxied: connection tracking limits and timeouts, and who is killed last when memory runs out.
//!
//! Nothing here is worth not starting for: what cannot be set is said in a warning.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;

use kube_proxy_config::{ConntrackSettings, Effective};

/// No automatic limit of tracked connections goes above this.
const MOST_TRACKED: u64 = 1 << 20;

/// Where the kernel has the limits of connection tracking.
pub(crate) const NETFILTER: &str = "/proc/sys/net/netfilter";
const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
const HASH_SIZE: &str = "/sys/module/nf_conntrack/parameters/hashsize";

/// Who is killed last when memory runs out.
const OOM_SCORE: &str = "/proc/self/oom_score_adj";
/// How often the OOM score is tried.
const OOM_ATTEMPTS: u32 = 2;
/// The wait between two attempts.
const OOM_RETRY: Duration = Duration::from_millis(100);
/// How often to check whether the kernel has begun to track connections.
const TRACKING_LOOK: Duration = Duration::from_secs(5);
/// The processors of the machine, whatever share of them this process may use.
const CPUS: &str = "/sys/devices/system/cpu/online";

/// Sets the limits and timeouts of connection tracking. A kernel that tracks no connections yet is waited for: the first rules load the module.
pub async fn conntrack_settings(settings: ConntrackSettings) {
    while !Path::new(NETFILTER).exists() {
        tokio::time::sleep(TRACKING_LOOK).await;
    }
    for problem in apply(&settings) {
        tracing::warn!("{problem}");
    }
}

/// Everything that takes full privileges (`--init-only`), so that the proxy itself can run without them.
///
/// # Errors
/// All that could not be set.
pub fn init_only(config: &Effective) -> anyhow::Result<()> {
    let mut problems = apply(&config.conntrack);
    if config.sets_route_localnet() {
        problems.extend(set(Path::new(ROUTE_LOCALNET), 1).err());
    }
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("not everything was set: {}", problems.join("; "))
    }
}

fn apply(settings: &ConntrackSettings) -> Vec<String> {
    conntrack(settings, Path::new(NETFILTER), Path::new(HASH_SIZE), cpus())
}

/// Sets the OOM score adjustment of this process, if one is asked for.
pub async fn oom_score(score: Option<i32>) {
    let Some(score) = score else { return };
    for attempt in 1..=OOM_ATTEMPTS {
        match fs::write(OOM_SCORE, score.to_string()) {
            Ok(()) => return,
            Err(_) if attempt < OOM_ATTEMPTS => tokio::time::sleep(OOM_RETRY).await,
            // Lowering it takes CAP_SYS_RESOURCE.
            Err(error) => {
                tracing::debug!("cannot set the OOM score adjustment to {score}: {error}");
            }
        }
    }
}

fn cpus() -> u64 {
    let online = fs::read_to_string(CPUS).ok().and_then(|text| count_cpus(&text));
    online
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64))
}

/// How many processors a list such as `0-3,8` names.
fn count_cpus(text: &str) -> Option<u64> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    let counts = text.trim().split(',').map(count);
    counts.sum::<Option<u64>>().filter(|count| *count > 0)
}

/// Sets the sysctls below `directory`; what could not be set, in words.
///
/// The limit is only ever raised: an administrator who set it higher knows why.
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
                .and_then(|limit| {
                    // A limit that another program set higher is theirs to match.
                    if limit == wanted { raise(hash, wanted / 4).map(|_| ()) } else { Ok(()) }
                })
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

/// Raises a number; what it is then.
fn raise(path: &Path, wanted: u64) -> Result<u64, String> {
    let known = read(path)?;
    if known < wanted { write(path, known, wanted).map(|()| wanted) } else { Ok(known) }
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
