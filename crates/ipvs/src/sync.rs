//! The two kinds of sync.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_proxy_core::{
    Changes, Frontend, ObjectCount, Protocol, ServiceEntry, ServicePortName, Snapshot, SyncError,
    SyncReport,
};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::Change;

use crate::actual::Actual;
use crate::backend::{Applied, IpvsBackend};
use crate::kernel::Unfit;
use crate::layout::{self, HOOKS, Hook, OWN_CHAINS, SETS, Set, TABLES};
use crate::plan::Item;
use crate::rebuild::Rebuild;
use crate::state::{Delta, State};
use crate::{DEVICE, cleanup};

/// Entries that a hash holds unless more are needed; what the Go kube-proxy makes.
pub(crate) const MAX_ENTRIES: u32 = 65_536;

/// The tables that are written before the virtual servers and after them, where the iptables mode serves: `nat` has its rules for services.
const TAKEOVER: (&[&str], &[&str]) = (&["mangle", "filter"], &["nat"]);

impl IpvsBackend {
    /// What `rebuild` names is made again even if it does not differ.
    pub(crate) fn sync_fully(
        &mut self,
        snapshot: &Snapshot,
        rebuild: &Rebuild,
    ) -> Result<SyncReport, SyncError> {
        let unfit_before = std::mem::take(&mut self.unfit);
        self.unknown_schedulers.clear();
        self.try_schedulers(snapshot, snapshot.services.keys())?;
        if self.kernel.device()?.is_none() {
            self.kernel.add_device()?;
        }
        let Some(device) = self.kernel.device()? else {
            return Err(SyncError::Refused(format!("interface {DEVICE} vanished at once")));
        };
        if let Some(watch) = &self.watch {
            watch.ignore(device);
            watch.take_changed();
        }
        let existing = Actual::read(&mut *self.kernel, self.config.family, Some(device))?;
        if existing.addresses.foreign > 0 {
            tracing::warn!(
                interface = DEVICE,
                addresses = existing.addresses.foreign,
                "left alone addresses on the interface that are not those of single hosts"
            );
        }
        let needed = self.read_needed(snapshot, &existing.addresses.node)?;
        let told: Vec<ServicePortName> = self.refused.keys().cloned().collect();
        let names = told.iter().chain(snapshot.services.keys());
        let refused = self.tell_refused(snapshot, &needed, names);
        let found = self.look_at_hooks()?;
        let (mut state, wanted) = self.plan_all(snapshot, &existing, &needed, (&found, rebuild))?;
        let added = wanted.difference(&existing.items).copied().collect();
        let keeps = |item: &&Item| match item {
            Item::Address(ip) => !self.config.excludes(ip),
            Item::Entry(..) => true,
        };
        let removed = existing.items.difference(&wanted).filter(keeps).copied().collect();
        let changes = self.changes_from(&existing, &state, rebuild)?;
        let mut delta = Delta { added, removed, servers: std::collections::BTreeMap::new() };
        delta.keep_replaced();
        self.add(&delta.added, Some(device), true)?;
        // Where the iptables mode serves, it does so until all is there that takes over.
        let (first, last) = if found.iptables_mode { TAKEOVER } else { (&TABLES[..], &[][..]) };
        self.write_rules(&found.missing, first)?;
        if !self.prepared {
            self.kernel.prepare(&self.config)?;
        }
        self.add(&delta.added, Some(device), false)?;
        let unfit = self.kernel.change(&changes)?;
        self.write_rules(&found.missing, last)?;
        if !self.prepared {
            self.prepared = true;
        }
        self.remove(&delta.removed, device)?;
        let marking = state.entries(Set::Mark) > 0;
        if !marking {
            self.remove_marking(existing.sets.contains_key(&Set::Mark), &found)?;
        }
        let written = changes.len();
        let node_addresses = existing.addresses.node;
        if !unfit.is_empty() {
            tell_unfit(snapshot, &unfit, &unfit_before);
            self.unfit = unfit;
            let context = self.context(snapshot, &node_addresses, &needed);
            state.update(snapshot.services.keys(), &context);
        }
        let applied = Applied { state, device, node_addresses, needed, marking, cursor: None };
        let report = report(&applied, written, &delta);
        let removed_udp = removed_udp(&changes, &delta.removed);
        self.applied = Some(applied);
        self.set_alarm();
        Ok(SyncReport { removed_udp, refused, ..report })
    }

    pub(crate) fn sync_partially(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        mut applied: Applied,
    ) -> Result<SyncReport, SyncError> {
        let mut names: BTreeSet<&ServicePortName> = changes.services.iter().collect();
        if changes.node_ip {
            let behind_ranges = |name: &&ServicePortName| {
                let entry = snapshot.entry(name);
                entry.is_some_and(|entry| entry.port.source_ranges().is_some())
            };
            names.extend(snapshot.services.keys().filter(behind_ranges));
        }
        if self.refuses_otherwise(snapshot, names.iter().copied(), &mut applied)? {
            return self.sync_fully(snapshot, &Rebuild::Nothing);
        }
        let refused = self.tell_refused(snapshot, &applied.needed, names.iter().copied());
        self.try_schedulers(snapshot, names.iter().copied())?;
        self.assign_marks(snapshot, names.iter().copied());
        let context = self.context(snapshot, &applied.node_addresses, &applied.needed);
        let delta = applied.state.update(names.iter().copied(), &context);
        let marking = applied.state.entries(Set::Mark) > 0;
        if marking && !applied.marking {
            let found = self.look_at_hooks()?;
            if !self.add_marking(false, applied.state.entries(Set::Mark), &found)? {
                return self.sync_fully(snapshot, &Rebuild::Nothing);
            }
        }
        let mut changes = Vec::new();
        for (key, (before, after)) in &delta.servers {
            self.change_server(*key, before.as_ref(), after.as_ref(), &mut changes);
        }
        self.add(&delta.added, Some(applied.device), true)?;
        self.add(&delta.added, Some(applied.device), false)?;
        let unfit = self.kernel.change(&changes)?;
        self.remove(&delta.removed, applied.device)?;
        if !unfit.is_empty() {
            tell_unfit(snapshot, &unfit, &self.unfit);
            self.unfit.extend(unfit);
            let context = self.context(snapshot, &applied.node_addresses, &applied.needed);
            applied.state.update(names.iter().copied(), &context);
        }
        if applied.marking && !marking {
            let found = self.look_at_hooks()?;
            self.remove_marking(true, &found)?;
        }
        applied.marking = marking;
        self.marks.release(snapshot, names.into_iter());
        let report = report(&applied, changes.len(), &delta);
        self.applied = Some(applied);
        self.set_alarm();
        Ok(SyncReport { refused, ..report })
    }

    /// Makes the sets that are missing, and others of those that are too small or to be made again.
    pub(crate) fn ensure_sets(
        &mut self,
        existing: &Actual,
        state: &State,
        rebuild: &Rebuild,
    ) -> Result<(), SyncError> {
        for (set, _, kind) in SETS {
            let name = set.name(self.config.family);
            let needed = u32::try_from(state.entries(set)).unwrap_or(u32::MAX);
            let max = room(state.entries(set));
            match existing.sets.get(&set) {
                None if !set.is_fixed() => {}
                None => self.kernel.create_set(&name, kind, max)?,
                Some(has)
                    if rebuild.has_set(&name)
                        || has.is_some_and(|has| has < needed.saturating_add(needed / 4)) =>
                {
                    let mut other = format!("T-{name}");
                    other.truncate(kube_proxy_netlink::ipset::MAX_NAME);
                    // One that a killed process left.
                    let _ = self.kernel.destroy_set(&other);
                    self.kernel.create_set(&other, kind, max)?;
                    let entries = Delta::entries_of(&existing.items, set);
                    self.kernel.add_entries(&other, &entries)?;
                    self.kernel.swap_sets(&other, &name)?;
                    self.kernel.destroy_set(&other)?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Adds entries, or addresses.
    fn add(
        &mut self,
        items: &BTreeSet<Item>,
        device: Option<u32>,
        entries: bool,
    ) -> Result<(), SyncError> {
        if entries {
            for (set, ..) in SETS {
                let entries = Delta::entries_of(items, set);
                if !entries.is_empty() {
                    self.kernel.add_entries(&set.name(self.config.family), &entries)?;
                }
            }
            return Ok(());
        }
        let addresses = addresses_of(items);
        match device {
            Some(device) if !addresses.is_empty() => self.kernel.add_addresses(device, &addresses),
            _ => Ok(()),
        }
    }

    /// Removes what no virtual server needs any more; the other way round.
    fn remove(&mut self, items: &BTreeSet<Item>, device: u32) -> Result<(), SyncError> {
        let addresses = addresses_of(items);
        if !addresses.is_empty() {
            self.kernel.delete_addresses(device, &addresses)?;
        }
        for (set, ..) in SETS.iter().rev() {
            let entries = Delta::entries_of(items, *set);
            if !entries.is_empty() {
                self.kernel.delete_entries(&set.name(self.config.family), &entries)?;
            }
        }
        Ok(())
    }

    /// Which hooks are missing, and what there is of marks.
    pub(crate) fn look_at_hooks(&mut self) -> Result<Hooks, SyncError> {
        let mut there: Vec<&Hook> = Vec::new();
        let mut iptables_mode = false;
        let mut mark_chains = BTreeSet::new();
        for table in TABLES {
            self.kernel.save(table, &mut |line| {
                iptables_mode |= table == "nat" && line.starts_with("-A KUBE-SVC-");
                let declares = |chain: &str| {
                    let name = line.strip_prefix(':').and_then(|line| line.strip_prefix(chain));
                    name.is_some_and(|rest| rest.starts_with(' '))
                };
                let of_marks = OWN_CHAINS.iter().filter(|(of, chain)| {
                    *of == table && layout::is_for_marks(chain) && declares(chain)
                });
                mark_chains.extend(of_marks.map(|(_, chain)| *chain));
                there.extend(
                    HOOKS.iter().filter(|hook| hook.0 == table && cleanup::is_hook(line, hook)),
                );
            })?;
        }
        let (mark_hooks, hooks): (Vec<&Hook>, Vec<&Hook>) =
            HOOKS.iter().partition(|hook| layout::is_for_marks(hook.3));
        let missing = hooks.into_iter().filter(|hook| !there.contains(hook)).collect();
        let (there_for_marks, missing_for_marks) =
            mark_hooks.into_iter().partition(|hook| there.contains(hook));
        Ok(Hooks { missing, missing_for_marks, there_for_marks, mark_chains, iptables_mode })
    }

    /// Writes all rules of these tables, and the hooks that are missing.
    fn write_rules(&mut self, missing: &[&Hook], tables: &[&str]) -> Result<(), SyncError> {
        if tables.is_empty() {
            return Ok(());
        }
        self.kernel.restore(&layout::restore_input(
            &self.config,
            self.random_fully,
            missing,
            tables,
        ))
    }
}

/// What a look at the rules found.
pub(crate) struct Hooks {
    pub(crate) missing: Vec<&'static Hook>,
    /// Those that marks need are not among these.
    pub(crate) missing_for_marks: Vec<&'static Hook>,
    /// Of those that marks need, what is there.
    pub(crate) there_for_marks: Vec<&'static Hook>,
    pub(crate) mark_chains: BTreeSet<&'static str>,
    /// There are rules that the iptables mode has for services.
    iptables_mode: bool,
}

/// The most entries that a set holds which needs so many: with room to grow, as a full set costs a full sync.
pub(crate) fn room(entries: usize) -> u32 {
    let needed = u32::try_from(entries).unwrap_or(u32::MAX);
    MAX_ENTRIES.max(needed.saturating_mul(2).next_power_of_two())
}

/// Says which endpoints are left out, each once and with one of the service ports that have it.
fn tell_unfit(snapshot: &Snapshot, unfit: &Unfit, before: &Unfit) {
    let addresses =
        |unfit: &Unfit| -> BTreeSet<IpAddr> { unfit.iter().map(|(_, to)| to.ip()).collect() };
    for address in addresses(unfit).difference(&addresses(before)) {
        let has = |entry: &ServiceEntry| entry.endpoints.iter().any(|one| one.ip == *address);
        let of = snapshot.services.iter().find(|(_, entry)| has(entry));
        let Some((service, _)) = of else { continue };
        tracing::warn!(%service, %address, "endpoint left out: the kernel takes its address for that of no host, such as the broadcast address of a network");
    }
}

/// The UDP frontends whose virtual servers or node ports were found and are removed.
fn removed_udp(changes: &[Change], removed: &BTreeSet<Item>) -> Vec<Frontend> {
    let udp = Protocol::Udp.number();
    let servers = changes.iter().filter_map(|change| match change {
        Change::Delete(key) => key.frontend(),
        _ => None,
    });
    let servers = servers.filter_map(|(protocol, address)| {
        (protocol == udp).then_some(Frontend::Address(Protocol::Udp, address))
    });
    let node_ports = removed.iter().filter_map(|item| match item {
        Item::Entry(Set::NodePort(Protocol::Udp), Entry::Port(port)) => {
            Some(Frontend::NodePort(Protocol::Udp, *port))
        }
        _ => None,
    });
    servers.chain(node_ports).collect()
}

fn addresses_of(items: &BTreeSet<Item>) -> Vec<IpAddr> {
    let addresses = items.iter().filter_map(|item| match item {
        Item::Address(ip) => Some(*ip),
        Item::Entry(..) => None,
    });
    addresses.collect()
}

fn report(applied: &Applied, written: usize, delta: &Delta) -> SyncReport {
    let addresses = |items: &BTreeSet<Item>| addresses_of(items).len();
    let entries = |items: &BTreeSet<Item>| items.len() - addresses(items);
    let state = &applied.state;
    let total = SETS.iter().map(|(set, ..)| state.entries(*set)).sum();
    let count = |kind, written, total| ObjectCount { kind, written, total };
    SyncReport {
        counts: vec![
            count(
                "virtual servers and destinations",
                written,
                state.servers.len() + state.destinations(),
            ),
            count("set entries", entries(&delta.added) + entries(&delta.removed), total),
            count(
                "addresses",
                addresses(&delta.added) + addresses(&delta.removed),
                state.addresses(),
            ),
        ],
        ..SyncReport::default()
    }
}
