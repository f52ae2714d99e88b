//! Endpoints that go: no new connections, and the old ones come to their end.
//!
//! Each is looked at after a second, then after two, four and so on up to [`LONGEST`], and goes when nothing uses it any more or its time is over.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kube_proxy_netlink::ipvs::ServerKey;

/// Time to the first look.
const FIRST: Duration = Duration::from_secs(1);
/// Longest time between two looks.
const LONGEST: Duration = Duration::from_secs(15);

/// Destinations with weight 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drains {
    /// Of each the time when it goes in any case.
    pub(crate) waiting: BTreeMap<(ServerKey, SocketAddr), Option<Instant>>,
    pause: Duration,
    next: Option<Instant>,
}

impl Drains {
    /// A destination begins to drain, or does so already.
    pub(crate) fn begin(
        &mut self,
        key: ServerKey,
        to: SocketAddr,
        now: Instant,
        timeout: Duration,
    ) {
        let deadline = (!timeout.is_zero()).then(|| now + timeout);
        self.waiting.entry((key, to)).or_insert_with(|| {
            self.pause = FIRST;
            self.next = Some(self.next.map_or(now + FIRST, |next| next.min(now + FIRST)));
            deadline
        });
    }

    /// A destination is gone, or live again.
    pub(crate) fn end(&mut self, key: ServerKey, to: SocketAddr) {
        self.waiting.remove(&(key, to));
        if self.waiting.is_empty() {
            self.next = None;
        }
    }

    /// A virtual server is gone.
    pub(crate) fn end_server(&mut self, key: ServerKey) {
        self.waiting.retain(|(of, _), _| *of != key);
        if self.waiting.is_empty() {
            self.next = None;
        }
    }

    /// Whether a destination drains.
    pub(crate) fn contains(&self, key: ServerKey, to: SocketAddr) -> bool {
        self.waiting.contains_key(&(key, to))
    }

    /// When to look next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first_deadline = self.waiting.values().flatten().min().copied();
        match (self.next, first_deadline) {
            (Some(next), Some(deadline)) => Some(next.min(deadline)),
            (next, _) => next,
        }
    }

    /// A look was taken: the next comes later.
    pub(crate) fn looked(&mut self, now: Instant) {
        self.next = (!self.waiting.is_empty()).then(|| now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// The virtual servers to look at.
    pub(crate) fn servers(&self) -> Vec<ServerKey> {
        let mut keys: Vec<_> = self.waiting.keys().map(|(key, _)| *key).collect();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests;
