//! What differs on the node, object by object, for people who ask.

use std::collections::BTreeSet;

use kube_proxy_core::{Difference, Snapshot, SyncError};

use crate::IptablesBackend;
use crate::counters::Counting;
use crate::fixed::write_fixed_chains;
use crate::state::State;
use crate::sync::{Node, delete_stale, in_order_of_chains};
use crate::tree::Shape;

impl IptablesBackend {
    /// Plans a full sync against what is there, and reports what it would write.
    pub(crate) fn differences(&self, snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        let mut existing = Node::read(&*self.kernel)?;
        let nothing = BTreeSet::new();
        let (shape, comments, left_out) = match &self.applied {
            Some(applied) => (applied.state.shape(), applied.endpoint_comments, &applied.left_out),
            None => (Shape::Tree, !snapshot.is_large(), &nothing),
        };
        let mut batch = existing.batch();
        let counting = Counting { on: self.can_count == Some(true) };
        write_fixed_chains(self.options.fixed(counting), &mut batch);
        let mut state = State::new(shape);
        let plan = self.options.plan(snapshot, comments, left_out);
        state.update(in_order_of_chains(snapshot).into_iter(), &plan, &mut batch);
        for (table, existing) in existing.tables() {
            let text = batch.table(table);
            self.write_hooks(table, existing, |_| false, text);
            delete_stale(existing, |_| false, text);
        }
        Ok(batch.differences())
    }
}
