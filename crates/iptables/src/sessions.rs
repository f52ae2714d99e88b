//! Sessions under session affinity: each endpoint has a list of its clients (`xt_recent`), which a file shows.

use std::net::IpAddr;
use std::time::Duration;

use kube_proxy_core::{Session, SessionKey, Snapshot, SyncError};
use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::IptablesBackend;
use crate::names::endpoint_chain;

/// The lists, of the network namespace of the thread.
pub(crate) const LISTS: &str = "/proc/thread-self/net/xt_recent";

/// What the kernel counts for this long before it is up, so that its counter of ticks soon overflows where it has 32 bits
/// (`INITIAL_JIFFIES` of `linux/jiffies.h`).
const BEFORE_BOOT: Duration = Duration::from_mins(5);

/// The kernel's counter of ticks, in which the lists give times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticks {
    /// The counter now.
    pub(crate) now: usize,
    /// How long a tick is.
    pub(crate) length: Duration,
}

impl Ticks {
    /// Reads the clock that advances with each tick. The counter began at the same time, to within a second.
    pub(crate) fn read() -> Result<Self, SyncError> {
        let failed = |errno: nix::Error| SyncError::Io {
            what: "reading the clock of the kernel's ticks".to_owned(),
            source: errno.into(),
        };
        let clock = ClockId::CLOCK_MONOTONIC_COARSE;
        let length = Duration::from(clock_getres(clock).map_err(failed)?);
        let up = Duration::from(clock_gettime(clock).map_err(failed)?);
        let ticks = |time: Duration| time.as_nanos() / length.as_nanos().max(1);
        // On 64 bits, too, the counter starts below 2^32.
        let start = (1_u128 << 32).saturating_sub(ticks(BEFORE_BOOT));
        // It wraps as the kernel's does.
        let now = (start + ticks(up)) as usize;
        Ok(Self { now, length })
    }

    /// How long ago a tick was; what the counter has not reached is now.
    fn since(self, tick: usize) -> Duration {
        let ago = self.now.wrapping_sub(tick);
        if ago > usize::MAX / 2 {
            return Duration::ZERO;
        }
        self.length.saturating_mul(u32::try_from(ago).unwrap_or(u32::MAX))
    }
}

/// When a client was last seen, from a list of them.
///
/// ```text
/// src=10.244.1.5 ttl: 64 last_seen: 4296446744 oldest_pkt: 1 4296446744
/// ```
fn last_seen(list: &str, client: IpAddr) -> Option<usize> {
    let mut lines = list.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| {
        let source = words.next()?.strip_prefix("src=")?;
        if source.parse() != Ok(client) {
            return None;
        }
        words.find(|word| *word == "last_seen:")?;
        words.next()?.parse().ok()
    })
}

/// For how much longer a list keeps a client, which it does for `timeout`.
fn remaining(list: &str, client: IpAddr, timeout: Duration, ticks: Ticks) -> Option<Duration> {
    let since = ticks.since(last_seen(list, client)?);
    timeout.checked_sub(since).filter(|remaining| !remaining.is_zero())
}

impl IptablesBackend {
    /// The session of a client: the rules look into the lists of the endpoints in their order, and the first that has the client counts.
    pub(crate) fn session_of(
        &self,
        snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        let Some(entry) = snapshot.entry(&key.service) else { return Ok(None) };
        let Some(timeout) = entry.port.policy.session_affinity else { return Ok(None) };
        let timeout = timeout.max(Duration::from_secs(1));
        for endpoint in entry.choice.of(key.policy).iter() {
            let name = endpoint_chain(&key.service, endpoint);
            let Some(list) = self.kernel.clients(name.as_str())? else { continue };
            let ticks = self.kernel.ticks()?;
            if let Some(remaining) = remaining(&list, key.client, timeout, ticks) {
                return Ok(Some(Session { endpoint: endpoint.socket_address(), remaining }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
