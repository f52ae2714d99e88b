//! What differs on the node, object by object, for people who ask.

use std::collections::BTreeSet;

use kube_proxy_core::{Deviation, Difference, ServicePortName, Snapshot, SyncError};
use kube_proxy_netlink::ipvs::Change;

use crate::DEVICE;
use crate::actual::Actual;
use crate::backend::IpvsBackend;
use crate::layout::{self, SETS, Set, hook_rule};
use crate::plan::Item;
use crate::rebuild::Rebuild;
use crate::state::State;

impl IpvsBackend {
    /// Plans a full sync against what is there, and reports what it would write.
    pub(crate) fn differences(
        &mut self,
        snapshot: &Snapshot,
    ) -> Result<Vec<Difference>, SyncError> {
        let family = self.config.family;
        let device = self.kernel.device()?;
        let existing = Actual::read(&mut *self.kernel, family, device)?;
        let needed = self.read_needed(snapshot, &existing.addresses.node)?;
        let mut state = State::default();
        let context = self.context(snapshot, &existing.addresses.node, &needed);
        let wanted = state.update(snapshot.services.keys(), &context).added;
        let mut differences = Vec::new();
        if device.is_none() {
            differences.push(Difference::new("interface", DEVICE, Deviation::Missing));
        }
        let marking = state.entries(Set::Mark) > 0;
        let is_needed = |set: &Set| set.is_fixed() || marking;
        let missing = SETS.iter().filter(|(set, ..)| !existing.sets.contains_key(set));
        for (set, ..) in missing.filter(|(set, ..)| is_needed(set)) {
            differences.push(Difference::new("ipset", set.name(family), Deviation::Missing));
        }
        self.compare_items(&wanted, &existing.items, &mut differences);
        // Planning notes what begins to drain; this is only a look.
        let drains = self.drains.clone();
        let changes = self.changes_from(&existing, &state, &Rebuild::Nothing);
        self.drains = drains;
        differences.extend(changes?.iter().map(|change| of_server(change, &state)));
        self.compare_rules(marking, &mut differences)?;
        Ok(differences)
    }

    fn compare_items(
        &self,
        wanted: &BTreeSet<Item>,
        there: &BTreeSet<Item>,
        differences: &mut Vec<Difference>,
    ) {
        let mut add = |item: &Item, deviation| {
            differences.push(match item {
                Item::Address(ip) => {
                    Difference::new("address", format!("{ip} on {DEVICE}"), deviation)
                }
                Item::Entry(set, entry) => {
                    let name = format!("{}: {entry}", set.name(self.config.family));
                    Difference::new("ipset entry", name, deviation)
                }
            });
        };
        wanted.difference(there).for_each(|item| add(item, Deviation::Missing));
        let excluded = |item: &Item| matches!(item, Item::Address(ip) if self.config.excludes(ip));
        there
            .difference(wanted)
            .filter(|item| !excluded(item))
            .for_each(|item| add(item, Deviation::Unexpected));
    }

    fn compare_rules(
        &mut self,
        marking: bool,
        differences: &mut Vec<Difference>,
    ) -> Result<(), SyncError> {
        let found = self.look_at_hooks()?;
        let mut missing = found.missing;
        missing.extend(found.missing_for_marks.iter().filter(|_| marking));
        let marks = self.marks.bits().filter(|_| marking);
        for hook in &missing {
            let name = format!("{} -A {} {}", hook.0, hook.1, hook_rule(hook));
            differences.push(Difference::new("rule", name, Deviation::Missing));
        }
        if missing.is_empty()
            && !self.kernel.holds(&layout::checks(&self.config, self.random_fully, marks))?
        {
            let name = "a chain of ours in table filter, nat or mangle has not the rules that were written";
            differences.push(Difference::new("chain", name, Deviation::Different));
        }
        Ok(())
    }
}

/// What a change of virtual servers says of the node.
fn of_server(change: &Change, state: &State) -> Difference {
    let service =
        |key| -> Option<ServicePortName> { state.servers.get(key).map(|(name, _)| name.clone()) };
    let (kind, name, deviation, key) = match change {
        Change::Add(key, _) => ("virtual server", key.to_string(), Deviation::Missing, key),
        Change::Set(key, server) => {
            let name = format!("{key}: not scheduler {} with its flags", server.scheduler);
            ("virtual server", name, Deviation::Different, key)
        }
        Change::Delete(key) => ("virtual server", key.to_string(), Deviation::Unexpected, key),
        Change::AddDestination(key, to, _) => {
            ("destination", format!("{to} of {key}"), Deviation::Missing, key)
        }
        Change::SetDestination(key, to, weight) => {
            let name = format!("{to} of {key}: not weight {weight}");
            ("destination", name, Deviation::Different, key)
        }
        Change::DeleteDestination(key, to) => {
            ("destination", format!("{to} of {key}"), Deviation::Unexpected, key)
        }
    };
    Difference { service: service(key), ..Difference::new(kind, name, deviation) }
}
