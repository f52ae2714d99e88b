//! What is wanted of all service ports together, and what a change of some makes different.

use std::collections::{BTreeMap, BTreeSet};

use kube_proxy_core::{Claims, ServicePortName};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::ServerKey;
use rustc_hash::FxHashMap;

use crate::layout::Set;
use crate::plan::{Context, Frontend, Item, Planned, Wanted, frontends, plan};

/// Everything that is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    planned: FxHashMap<ServicePortName, (Vec<(Frontend, bool)>, Planned)>,
    claims: Claims<Frontend>,
    items: FxHashMap<Item, u32>,
    /// With the service port that each belongs to.
    pub(crate) servers: BTreeMap<ServerKey, (ServicePortName, Wanted)>,
    /// Entries of each set, and addresses under `None`.
    counts: FxHashMap<Option<Set>, usize>,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) added: BTreeSet<Item>,
    pub(crate) removed: BTreeSet<Item>,
    /// Before and after, of those that differ.
    pub(crate) servers: BTreeMap<ServerKey, (Option<Wanted>, Option<Wanted>)>,
}

impl State {
    /// Brings some service ports up to date, and those that frontends were taken from or left to.
    pub(crate) fn update<'a>(
        &mut self,
        names: impl Iterator<Item = &'a ServicePortName>,
        context: &Context<'_>,
    ) -> Delta {
        let mut touched: BTreeSet<ServicePortName> = names.cloned().collect();
        for name in touched.clone() {
            self.claim(&name, context, &mut touched);
        }
        let mut delta = Delta::default();
        let mut steps: BTreeMap<Item, (u32, u32)> = BTreeMap::new();
        for name in &touched {
            if let Some((_, old)) = self.planned.get_mut(name) {
                let old = std::mem::take(old);
                self.forget(name, old, &mut steps, &mut delta);
            }
        }
        for name in &touched {
            let Some(entry) = context.snapshot.services.get(name) else {
                self.planned.remove(name);
                continue;
            };
            let owns = |frontend| self.claims.owner(&frontend) == Some(name);
            let new = plan(context, entry, owns);
            self.keep(name, &new, &mut steps, &mut delta);
            if let Some((_, planned)) = self.planned.get_mut(name) {
                *planned = new;
            }
        }
        delta.servers.retain(|_, (before, after)| before != after);
        for (item, (before, after)) in steps {
            match (before, after) {
                (0, 1..) => {
                    *self.counts.entry(kind(&item)).or_default() += 1;
                    delta.added.insert(item);
                }
                (1.., 0) => {
                    let count = self.counts.entry(kind(&item)).or_default();
                    *count = count.saturating_sub(1);
                    delta.removed.insert(item);
                }
                _ => {}
            }
        }
        delta
    }

    /// Claims the frontends that a service port has now and releases those it had.
    fn claim(
        &mut self,
        name: &ServicePortName,
        context: &Context<'_>,
        touched: &mut BTreeSet<ServicePortName>,
    ) {
        let entry = context.snapshot.services.get(name);
        let new = entry.map_or_else(Vec::new, |entry| frontends(&entry.port));
        let (old, _) = self.planned.entry(name.clone()).or_default();
        let old = std::mem::replace(old, new.clone());
        let mut handovers = Vec::new();
        for (frontend, is_cluster_ip) in &old {
            if !new.contains(&(*frontend, *is_cluster_ip)) {
                handovers.extend(self.claims.release(frontend, *is_cluster_ip, name));
            }
        }
        for (frontend, is_cluster_ip) in new {
            if !old.contains(&(frontend, is_cluster_ip)) {
                let handover = self.claims.claim(frontend, is_cluster_ip, name);
                let owner = self.claims.owner(&frontend);
                if let Some(owner) = owner.filter(|owner| *owner != name) {
                    tracing::warn!("{name}: {frontend:?} belongs to {owner}, which keeps it");
                }
                handovers.extend(handover);
            }
        }
        for handover in handovers {
            touched.extend(handover.from);
            touched.extend(handover.to);
        }
    }

    fn forget(
        &mut self,
        name: &ServicePortName,
        old: Planned,
        steps: &mut BTreeMap<Item, (u32, u32)>,
        delta: &mut Delta,
    ) {
        for item in old.items {
            let count = self.items.entry(item).or_default();
            let (_, after) = steps.entry(item).or_insert((*count, *count));
            *count = count.saturating_sub(1);
            *after = *count;
            if *count == 0 {
                self.items.remove(&item);
            }
        }
        for (key, _) in old.servers {
            if self.servers.get(&key).is_some_and(|(owner, _)| owner == name)
                && let Some((_, wanted)) = self.servers.remove(&key)
            {
                delta.servers.entry(key).or_insert((Some(wanted), None));
            }
        }
    }

    fn keep(
        &mut self,
        name: &ServicePortName,
        new: &Planned,
        steps: &mut BTreeMap<Item, (u32, u32)>,
        delta: &mut Delta,
    ) {
        for item in &new.items {
            let count = self.items.entry(*item).or_default();
            let (_, after) = steps.entry(*item).or_insert((*count, *count));
            *count += 1;
            *after = *count;
        }
        for (key, wanted) in &new.servers {
            // A node port on the very address and port of somebody's external IP: that one keeps it.
            if self.servers.contains_key(key) {
                tracing::warn!("{name}: {key} belongs to another service port already");
                continue;
            }
            self.servers.insert(*key, (name.clone(), wanted.clone()));
            delta.servers.entry(*key).or_insert((None, None)).1 = Some(wanted.clone());
        }
    }

    /// How many entries a set has.
    pub(crate) fn entries(&self, set: Set) -> usize {
        self.counts.get(&Some(set)).copied().unwrap_or_default()
    }

    /// How many addresses the interface has.
    pub(crate) fn addresses(&self) -> usize {
        self.counts.get(&None).copied().unwrap_or_default()
    }

    /// Destinations of all virtual servers.
    pub(crate) fn destinations(&self) -> usize {
        self.servers.values().map(|(_, wanted)| wanted.destinations.len()).sum()
    }
}

fn kind(item: &Item) -> Option<Set> {
    match item {
        Item::Entry(set, _) => Some(*set),
        Item::Address(_) => None,
    }
}

impl Delta {
    /// The entries of one set among these items.
    pub(crate) fn entries_of(items: &BTreeSet<Item>, set: Set) -> Vec<Entry> {
        let of_set = items.iter().filter_map(|item| match item {
            Item::Entry(of, entry) if *of == set => Some(*entry),
            _ => None,
        });
        of_set.collect()
    }
}
