//! The rules and the set that marks need, which are there only while a frontend needs them.

use std::collections::BTreeSet;

use kube_proxy_core::{ServicePortName, Snapshot, SyncError};
use kube_proxy_netlink::ipset::SetType;

use crate::actual::Actual;
use crate::backend::IpvsBackend;
use crate::layout::{self, Set};
use crate::marks::Bits;
use crate::needed::Needed;
use crate::plan::Item;
use crate::rebuild::Rebuild;
use crate::state::State;
use crate::sync::{Hooks, room};

impl IpvsBackend {
    /// Plans all service ports for a full sync, makes the sets that they need, and writes the rules of marks if any needs them.
    pub(crate) fn plan_all(
        &mut self,
        snapshot: &Snapshot,
        existing: &Actual,
        needed: &Needed,
        (found, rebuild): (&Hooks, &Rebuild),
    ) -> Result<(State, BTreeSet<Item>), SyncError> {
        let foreign = existing.foreign_marks(self.marks.all());
        self.marks.recover(snapshot, &existing.marks(), &foreign, &existing.addresses.node);
        self.assign_marks(snapshot, snapshot.services.keys());
        let planned = self.planned(snapshot, existing, needed);
        self.ensure_sets(existing, &planned.0, rebuild)?;
        let (entries, has_set) =
            (planned.0.entries(Set::Mark), existing.sets.contains_key(&Set::Mark));
        if entries == 0 || self.add_marking(has_set, entries, found)? {
            return Ok(planned);
        }
        self.marks.give_up(snapshot);
        Ok(self.planned(snapshot, existing, needed))
    }

    fn planned(
        &self,
        snapshot: &Snapshot,
        existing: &Actual,
        needed: &Needed,
    ) -> (State, BTreeSet<Item>) {
        let mut state = State::default();
        let context = self.context(snapshot, &existing.addresses.node, needed);
        let wanted = state.update(snapshot.services.keys(), &context).added;
        (state, wanted)
    }

    /// Gives marks to those of these service ports that need one.
    pub(crate) fn assign_marks<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) {
        if !self.marks.assign(snapshot, names) {
            let bits = self.marks.bits().map_or(0, Bits::mask);
            self.tell_about_marks(&format!("all marks with the bits {bits:#x} are in use"));
        }
    }

    /// Writes the rules, which refer to other sets too, and makes the set of marks. `false`: this kernel, or its iptables, does not have what they need, which the log says.
    pub(crate) fn add_marking(
        &mut self,
        has_set: bool,
        entries: usize,
        found: &Hooks,
    ) -> Result<bool, SyncError> {
        let Some(bits) = self.marks.bits() else { return Ok(false) };
        let name = Set::Mark.name(self.config.family);
        if !has_set {
            match self.kernel.create_set(&name, SetType::IpPortMark, room(entries)) {
                Ok(()) => {}
                Err(SyncError::Unsupported(reason)) => {
                    self.tell_about_marks(&reason);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        let input = layout::mark_input(&self.config, bits, &found.missing_for_marks);
        match self.kernel.restore(&input) {
            Ok(()) => Ok(true),
            // Another program has the lock, or the system lacks something, for now.
            Err(error @ (SyncError::Busy(_) | SyncError::Io { .. })) => Err(error),
            Err(error) => {
                self.tell_about_marks(&error.to_string());
                if !has_set {
                    self.kernel.destroy_set(&name)?;
                }
                Ok(false)
            }
        }
    }

    /// Removes the rules, and the set if it is there.
    pub(crate) fn remove_marking(&mut self, has_set: bool, found: &Hooks) -> Result<(), SyncError> {
        if !found.there_for_marks.is_empty() || !found.mark_chains.is_empty() {
            self.kernel
                .restore(&layout::unmark_input(&found.there_for_marks, &found.mark_chains))?;
        }
        if has_set { self.kernel.destroy_set(&Set::Mark.name(self.config.family)) } else { Ok(()) }
    }

    /// Says once why some service ports have no mark.
    fn tell_about_marks(&mut self, reason: &str) {
        if self.told_about_marks.as_deref() != Some(reason) {
            self.told_about_marks = Some(reason.to_owned());
            tracing::warn!(
                family = %self.config.family, reason,
                "no packet marks for some service ports: under external traffic policy Local, pods of this node and the node reach only endpoints of this node"
            );
        }
    }
}
