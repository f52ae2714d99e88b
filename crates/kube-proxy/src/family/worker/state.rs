//! How far a family is, for those who ask.

use std::time::Instant;

use super::Worker;
use crate::family::state::FamilyState;

impl Worker {
    pub(super) fn state(&self) -> FamilyState {
        let proxy = &self.setup.proxy;
        FamilyState {
            family: self.setup.family,
            synced: self.synced,
            waiting: proxy.waiting_since().map(|since| Instant::now().duration_since(since)),
            failure: self.failure.clone(),
            node_ip: proxy.snapshot().node_ip,
            changes: self.history.changes(),
            lacks_fast_path: self.lacks_fast_path,
            zone: proxy.snapshot().zone.clone(),
        }
    }
}
