//! What is wanted of all service ports together, and what a change of some makes different.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::ServicePortName;
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::ServerKey;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::layout::Set;
use crate::plan::{Context, Desired, Item, Planned, plan};

/// Everything that is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    planned: FxHashMap<ServicePortName, Planned>,
    items: FxHashMap<Item, u32>,
    /// External IPs and VIPs, with how many frontends each has.
    outer: FxHashMap<IpAddr, u32>,
    /// With the service port that each belongs to.
    pub(crate) servers: BTreeMap<ServerKey, (ServicePortName, Desired)>,
    /// Entries of each set, and addresses under `None`.
    counts: FxHashMap<Option<Set>, usize>,
}

/// What has to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) added: BTreeSet<Item>,
    pub(crate) removed: BTreeSet<Item>,
    /// Before and after, of those that differ.
    pub(crate) servers: BTreeMap<ServerKey, (Option<Desired>, Option<Desired>)>,
}

impl State {
    /// Brings some service ports up to date. All let go of what they had before any takes something: what one loses another may get.
    pub(crate) fn update<'a>(
        &mut self,
        names: impl Iterator<Item = &'a ServicePortName>,
        context: &Context<'_>,
    ) -> Delta {
        let names: BTreeSet<&ServicePortName> = names.collect();
        let mut delta = Delta::default();
        let mut steps: BTreeMap<Item, (u32, u32)> = BTreeMap::new();
        for name in &names {
            if let Some(old) = self.planned.remove(*name) {
                self.forget(name, old, &mut steps, &mut delta);
            }
        }
        for name in names {
            if let Some(entry) = context.snapshot.entry(name) {
                let mut new = plan(context, name, entry);
                self.give_way(&mut new);
                self.keep(name, &new, &mut steps, &mut delta);
                self.planned.insert(name.clone(), new);
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
        delta.keep_replaced();
        delta
    }

    /// All that one service port needs.
    pub(crate) fn planned(&self, name: &ServicePortName) -> Option<&Planned> {
        self.planned.get(name)
    }

    /// Whether an address is an external IP or VIP.
    pub(crate) fn has_outer(&self, ip: &IpAddr) -> bool {
        self.outer.contains_key(ip)
    }

    /// All external IPs and VIPs.
    pub(crate) fn outer(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.outer.keys().copied()
    }

    fn forget(
        &mut self,
        name: &ServicePortName,
        old: Planned,
        steps: &mut BTreeMap<Item, (u32, u32)>,
        delta: &mut Delta,
    ) {
        for ip in &old.outer {
            let count = self.outer.entry(*ip).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.outer.remove(ip);
            }
        }
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

    /// A frontend whose virtual server belongs to another service port has the mark of that one.
    fn give_way(&self, new: &mut Planned) {
        new.items.retain(|item| {
            let Item::Entry(Set::Mark, Entry::IpPortMark { ip, protocol, port, .. }) = *item else {
                return true;
            };
            let address = SocketAddr::new(ip, port);
            !self.servers.contains_key(&ServerKey::Frontend { protocol, address })
        });
        if !new.items.iter().any(|item| matches!(item, Item::Entry(Set::Mark, _))) {
            new.servers.retain(|(key, _)| key.mark().is_none());
        }
    }

    fn keep(
        &mut self,
        name: &ServicePortName,
        new: &Planned,
        steps: &mut BTreeMap<Item, (u32, u32)>,
        delta: &mut Delta,
    ) {
        for ip in &new.outer {
            *self.outer.entry(*ip).or_default() += 1;
        }
        for item in &new.items {
            let count = self.items.entry(*item).or_default();
            let (_, after) = steps.entry(*item).or_insert((*count, *count));
            *count += 1;
            *after = *count;
        }
        for (key, wanted) in &new.servers {
            // A node port on the very address and port of another program's external IP: that one keeps it.
            if self.servers.contains_key(key) {
                tracing::warn!(service = %name, server = %key, "virtual server belongs to another service port");
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
    /// An entry whose mark alone is another one now is not removed: adding it has changed it.
    pub(crate) fn keep_replaced(&mut self) {
        let place = |item: &Item| match item {
            Item::Entry(Set::Mark, Entry::IpPortMark { ip, protocol, port, .. }) => {
                Some((*ip, *protocol, *port))
            }
            _ => None,
        };
        let added: FxHashSet<_> = self.added.iter().filter_map(place).collect();
        if !added.is_empty() {
            self.removed.retain(|item| !place(item).is_some_and(|place| added.contains(&place)));
        }
    }

    /// The entries of one set among these items.
    pub(crate) fn entries_of(items: &BTreeSet<Item>, set: Set) -> Vec<Entry> {
        let of_set = items.iter().filter_map(|item| match item {
            Item::Entry(of, entry) if *of == set => Some(*entry),
            _ => None,
        });
        of_set.collect()
    }
}
