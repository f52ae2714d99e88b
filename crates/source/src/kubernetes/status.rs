//! What is known about the connection to the API server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube_proxy_core::Kind;

/// When the API server last answered. Cloning gives another handle to the same record.
#[derive(Clone, Debug, Default)]
pub struct ApiStatus {
    inner: Arc<Mutex<[OfKind; 4]>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfKind {
    contact: Option<Instant>,
    listed: bool,
}

impl ApiStatus {
    /// When the server last said anything about a kind; with an idle watch that is its last bookmark, about every minute.
    pub fn last_contact(&self, kind: Kind) -> Option<Instant> {
        self.lock()[index(kind)].contact
    }

    /// When the server last said anything about Services or EndpointSlices, whichever is longer ago: how stale the rules may be.
    pub fn oldest_contact(&self) -> Option<Instant> {
        let services = self.last_contact(Kind::Service)?;
        let slices = self.last_contact(Kind::EndpointSlice)?;
        Some(services.min(slices))
    }

    /// Whether a kind was listed completely once.
    pub fn is_listed(&self, kind: Kind) -> bool {
        self.lock()[index(kind)].listed
    }

    pub(super) fn contact(&self, kind: Kind) {
        self.lock()[index(kind)].contact = Some(Instant::now());
    }

    pub(super) fn listed(&self, kind: Kind) {
        self.lock()[index(kind)].listed = true;
    }

    fn lock(&self) -> MutexGuard<'_, [OfKind; 4]> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(kind: Kind) -> usize {
    match kind {
        Kind::Service => 0,
        Kind::EndpointSlice => 1,
        Kind::Node => 2,
        Kind::ServiceCidr => 3,
    }
}
