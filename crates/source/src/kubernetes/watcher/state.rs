//! The state of a watcher between two requests.

use std::time::Duration;

use tokio::time::Instant;

/// The next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A list.
    List {
        /// The version of the previous list expired before any watch from it worked, so a list alone is no recovery.
        expired: bool,
    },
    /// A watch.
    Watch {
        /// It begins after this resource version.
        version: String,
        /// The time of the request, or of the end of the initial events.
        since: Instant,
        proof: Proof,
    },
}

/// Whether a watch from the last list has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Worked,
    Untried,
    /// Untried, and the version of the list before had expired.
    UntriedAfterExpiry,
}

impl Default for State {
    fn default() -> Self {
        Self::List { expired: false }
    }
}

impl State {
    /// A complete list at a version; `expired` as in the state before.
    pub(super) fn listed_at(version: String, expired: bool) -> Self {
        let proof = if expired { Proof::UntriedAfterExpiry } else { Proof::Untried };
        Self::Watch { version, since: Instant::now(), proof }
    }

    /// Whether a version expired, and no watch has worked since.
    pub(super) fn expired(&self) -> bool {
        matches!(
            self,
            Self::List { expired: true } | Self::Watch { proof: Proof::UntriedAfterExpiry, .. }
        )
    }

    /// A watch begins now.
    pub(super) fn begin_watch(&mut self) {
        if let Self::Watch { since, .. } = self {
            *since = Instant::now();
        }
    }

    /// The watch has seen everything up to this version.
    pub(super) fn advance(&mut self, to: String) {
        if let Self::Watch { version, .. } = self {
            *version = to;
        }
    }

    /// Whether the watch is open for this long; the time of initial events does not count.
    pub(super) fn has_lasted(&self, time: Duration) -> bool {
        matches!(self, Self::Watch { since, .. } if since.elapsed() >= time)
    }
}
