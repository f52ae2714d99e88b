//! What differs on the node, for those who ask, and what was repaired.

use super::Worker;
use crate::family::check::{FamilyCheck, Repair};

/// How many repairs are remembered.
const REPAIRS: usize = 16;

impl Worker {
    /// Compares the node with what was written, for those who wait for it.
    pub(super) async fn compare(&mut self) {
        if self.comparisons.is_empty() {
            return;
        }
        let compared = self.setup.proxy.compare().await;
        let check = FamilyCheck::new(self.setup.family, compared, self.repairs.iter().cloned());
        for answer in std::mem::take(&mut self.comparisons) {
            // Who has gone away meanwhile gets no answer, which is no error.
            let _ = answer.send(check.clone());
        }
    }

    /// Notes damage that is about to be repaired. In a large cluster the repair does not wait for a list of it.
    pub(super) async fn note_damage(&mut self) {
        let large = self.setup.proxy.snapshot().is_large();
        let compared = if large { Ok(None) } else { self.setup.proxy.compare().await };
        let found = compared.ok().flatten().unwrap_or_default();
        if self.repairs.len() == REPAIRS {
            self.repairs.pop_front();
        }
        self.repairs.push_back(Repair::now(&found));
    }
}
