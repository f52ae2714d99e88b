//! The backend: from snapshots to changes on the node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube_proxy_core::{
    Bytes, Changes, Count, ProxyBackend, Scope, ServicePortName, Snapshot, SyncError, SyncReport,
    Traffic, Waker,
};
use kube_proxy_netlink::ipvs::{Change, ServerKey};

use crate::drain::Drains;
use crate::existing::{Addresses, Existing};
use crate::kernel::{Kernel, Node};
use crate::layout::{self, HOOKS, Hook, SETS};
use crate::plan::{Context, Item, Wanted};
use crate::state::{Delta, State};
use crate::watch::{AddressWatch, Alarm};
use crate::{Config, DEVICE, cleanup};

/// Entries that a hash holds unless more are needed; what the Go kube-proxy makes.
const MAX_ENTRIES: u32 = 65_536;
/// Virtual servers whose destinations one look reads.
const LOOKED_AT: usize = 64;
/// What is due wakes more often than this; the whole is not looked at each time.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// The ipvs mode for one family.
pub struct IpvsBackend {
    pub(crate) config: Config,
    pub(crate) kernel: Box<dyn Kernel>,
    random_fully: bool,
    /// What is on the node; `None` while that is not known.
    applied: Option<Applied>,
    drains: Drains,
    unknown_schedulers: Vec<String>,
    known_schedulers: Vec<String>,
    alarm: Option<Alarm>,
    watch: Option<AddressWatch>,
    last_look: Instant,
    prepared: bool,
}

struct Applied {
    state: State,
    device: u32,
    node_addresses: Vec<IpAddr>,
    /// Where the next look at destinations begins.
    cursor: Option<ServerKey>,
}

impl IpvsBackend {
    /// Opens what is needed of the kernel and tries the scheduler.
    ///
    /// # Errors
    /// [`SyncError::Unsupported`] says what is missing.
    pub fn new(config: Config) -> Result<Self, SyncError> {
        let mut backend = Self::for_cleanup(config)?;
        let name = backend.config.scheduler.clone();
        if !backend.kernel.knows_scheduler(&name)? {
            return Err(SyncError::Unsupported(format!(
                "this kernel has no IPVS scheduler {name:?} (module ip_vs_{name}): choose another --ipvs-scheduler, such as rr, wrr, lc, wlc, sh or mh"
            )));
        }
        backend.known_schedulers.push(name);
        Ok(backend)
    }

    /// A backend that is only to remove things: whatever the scheduler is.
    pub fn for_cleanup(config: Config) -> Result<Self, SyncError> {
        let node = Node::open(&config)?;
        let random_fully = node.knows_random_fully();
        Ok(Self::with_kernel(config, Box::new(node), random_fully))
    }

    pub(crate) fn with_kernel(config: Config, kernel: Box<dyn Kernel>, random_fully: bool) -> Self {
        Self {
            config,
            kernel,
            random_fully,
            applied: None,
            drains: Drains::default(),
            unknown_schedulers: Vec::new(),
            known_schedulers: Vec::new(),
            alarm: None,
            watch: None,
            last_look: Instant::now(),
            prepared: false,
        }
    }

    /// Learns of schedulers that annotations name whether this kernel has them.
    fn try_schedulers<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) -> Result<(), SyncError> {
        let asked = names.filter_map(|name| {
            let scheduler = snapshot.services.get(name)?.port.scheduler.clone()?;
            Some((name, scheduler))
        });
        for (name, scheduler) in asked {
            let is = |known: &String| **known == *scheduler;
            if self.known_schedulers.iter().any(is) || self.unknown_schedulers.iter().any(is) {
                continue;
            }
            if self.kernel.knows_scheduler(&scheduler)? {
                self.known_schedulers.push(scheduler.to_string());
            } else {
                tracing::warn!(
                    "service {name} asks for IPVS scheduler {scheduler:?}, which this kernel does not have; {} is used",
                    self.config.scheduler
                );
                self.unknown_schedulers.push(scheduler.to_string());
            }
        }
        Ok(())
    }

    fn sync_fully(&mut self, snapshot: &Snapshot) -> Result<SyncReport, SyncError> {
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
        let existing = Existing::read(&mut *self.kernel, self.config.family, Some(device))?;
        if existing.addresses.foreign > 0 {
            tracing::warn!(
                "{DEVICE} has {} addresses that are not those of single hosts; they are not ours and left alone",
                existing.addresses.foreign
            );
        }
        let mut state = State::default();
        let context = Context {
            config: &self.config,
            snapshot,
            node_addresses: &existing.addresses.node,
            unknown_schedulers: &self.unknown_schedulers,
        };
        let wanted = state.update(snapshot.services.keys(), &context).added;
        self.ensure_sets(&existing, &state)?;
        let added = wanted.difference(&existing.items).copied().collect();
        let keeps = |item: &&Item| match item {
            Item::Address(ip) => !self.config.excludes(ip),
            Item::Entry(..) => true,
        };
        let removed = existing.items.difference(&wanted).filter(keeps).copied().collect();
        let changes = self.changes_from(&existing, &state)?;
        let delta = Delta { added, removed, servers: std::collections::BTreeMap::new() };
        self.add(&delta.added, Some(device), true)?;
        self.write_rules()?;
        if !self.prepared {
            self.kernel.prepare(&self.config)?;
            self.prepared = true;
        }
        self.add(&delta.added, Some(device), false)?;
        self.kernel.change(&changes)?;
        self.remove(&delta.removed, device)?;
        let written = changes.len();
        let applied =
            Applied { state, device, node_addresses: existing.addresses.node, cursor: None };
        let report = report(&applied, written, &delta);
        self.applied = Some(applied);
        self.set_alarm();
        Ok(report)
    }

    fn sync_partially(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        mut applied: Applied,
    ) -> Result<SyncReport, SyncError> {
        let mut names: BTreeSet<&ServicePortName> = changes.services.iter().collect();
        if changes.node_ip {
            let behind_ranges = |name: &&ServicePortName| {
                let entry = snapshot.services.get(*name);
                entry.is_some_and(|entry| entry.port.load_balancer_source_ranges.is_some())
            };
            names.extend(snapshot.services.keys().filter(behind_ranges));
        }
        self.try_schedulers(snapshot, names.iter().copied())?;
        let context = Context {
            config: &self.config,
            snapshot,
            node_addresses: &applied.node_addresses,
            unknown_schedulers: &self.unknown_schedulers,
        };
        let delta = applied.state.update(names.into_iter(), &context);
        let mut changes = Vec::new();
        for (key, (before, after)) in &delta.servers {
            self.change_server(*key, before.as_ref(), after.as_ref(), &mut changes);
        }
        self.add(&delta.added, Some(applied.device), true)?;
        self.add(&delta.added, Some(applied.device), false)?;
        if !changes.is_empty() {
            self.kernel.change(&changes)?;
        }
        self.remove(&delta.removed, applied.device)?;
        let report = report(&applied, changes.len(), &delta);
        self.applied = Some(applied);
        self.set_alarm();
        Ok(report)
    }

    /// Makes the sets that are missing, and larger ones of those that are too small.
    fn ensure_sets(&mut self, existing: &Existing, state: &State) -> Result<(), SyncError> {
        for (set, _, kind) in SETS {
            let name = set.name(self.config.family);
            let needed = u32::try_from(state.entries(set)).unwrap_or(u32::MAX);
            // Room to grow: a full set costs a full sync.
            let max = MAX_ENTRIES.max(needed.saturating_mul(2).next_power_of_two());
            match existing.sets.get(&set) {
                None => self.kernel.create_set(&name, kind, max)?,
                Some(Some(has)) if *has < needed.saturating_add(needed / 4) => {
                    let mut larger = format!("T-{name}");
                    larger.truncate(kube_proxy_netlink::ipset::MAX_NAME);
                    // One that a killed process left.
                    let _ = self.kernel.destroy_set(&larger);
                    self.kernel.create_set(&larger, kind, max)?;
                    let entries = Delta::entries_of(&existing.items, set);
                    self.kernel.add_entries(&larger, &entries)?;
                    self.kernel.swap_sets(&larger, &name)?;
                    self.kernel.destroy_set(&larger)?;
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

    /// Writes all rules, and the hooks that are missing.
    fn write_rules(&mut self) -> Result<(), SyncError> {
        let mut there: Vec<&Hook> = Vec::new();
        for table in layout::TABLES {
            self.kernel.save(table, &mut |line| {
                there.extend(
                    HOOKS.iter().filter(|hook| hook.0 == table && cleanup::is_hook(line, hook)),
                );
            })?;
        }
        let missing: Vec<&Hook> = HOOKS.iter().filter(|hook| !there.contains(hook)).collect();
        self.kernel.restore(&layout::restore_input(&self.config, self.random_fully, &missing))
    }

    /// What makes the virtual servers of the node those that are wanted.
    fn changes_from(
        &mut self,
        existing: &Existing,
        state: &State,
    ) -> Result<Vec<Change>, SyncError> {
        let frontends = existing.frontends();
        let mut changes = Vec::new();
        let before = self.drains.waiting.clone();
        self.drains = Drains::default();
        for key in existing.servers.keys().filter(|key| !state.servers.contains_key(key)) {
            if existing.is_ours(&self.config, key, &frontends) {
                changes.push(Change::Delete(*key));
            }
        }
        for (key, (_, wanted)) in &state.servers {
            let Some(found) = existing.servers.get(key) else {
                self.change_server(*key, None, Some(wanted), &mut changes);
                continue;
            };
            if !same(&found.server, &wanted.server) {
                changes.push(Change::Set(*key, wanted.server.clone()));
            }
            let destinations = self.kernel.destinations(*key)?;
            let mut there = BTreeSet::new();
            for destination in destinations {
                let to = destination.address;
                there.insert(to);
                let live = destination.weight == 1 && destination.forwarding == 0;
                if wanted.destinations.binary_search(&to).is_ok() {
                    if !live {
                        changes.push(Change::SetDestination(*key, to, 1));
                    }
                } else {
                    self.leave(*key, to, destination.weight > 0, &mut changes);
                    if let Some(deadline) = before.get(&(*key, to)) {
                        self.drains.waiting.entry((*key, to)).and_modify(|at| *at = *deadline);
                    }
                }
            }
            let new = wanted.destinations.iter().filter(|to| !there.contains(to));
            changes.extend(new.map(|to| Change::AddDestination(*key, *to, 1)));
        }
        Ok(changes)
    }

    /// The changes to one virtual server.
    fn change_server(
        &mut self,
        key: ServerKey,
        before: Option<&Wanted>,
        after: Option<&Wanted>,
        changes: &mut Vec<Change>,
    ) {
        let none = Vec::new();
        let (old, new) = match (before, after) {
            (_, None) => {
                self.drains.end_server(key);
                changes.push(Change::Delete(key));
                return;
            }
            (None, Some(after)) => {
                changes.push(Change::Add(key, after.server.clone()));
                (&none, &after.destinations)
            }
            (Some(before), Some(after)) => {
                if before.server != after.server {
                    changes.push(Change::Set(key, after.server.clone()));
                }
                (&before.destinations, &after.destinations)
            }
        };
        for to in new.iter().filter(|to| old.binary_search(to).is_err()) {
            if self.drains.contains(key, *to) {
                self.drains.end(key, *to);
                changes.push(Change::SetDestination(key, *to, 1));
            } else {
                changes.push(Change::AddDestination(key, *to, 1));
            }
        }
        for to in old.iter().filter(|to| new.binary_search(to).is_err()) {
            self.leave(key, *to, true, changes);
        }
    }

    /// An endpoint goes: at once where there are no connections to wait for.
    fn leave(&mut self, key: ServerKey, to: SocketAddr, live: bool, changes: &mut Vec<Change>) {
        if key.protocol != kube_proxy_core::Protocol::Tcp.number() {
            changes.push(Change::DeleteDestination(key, to));
            return;
        }
        if live {
            changes.push(Change::SetDestination(key, to, 0));
        }
        self.drains.begin(key, to, Instant::now(), self.config.drain_timeout);
    }

    fn set_alarm(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(self.drains.due());
        }
    }

    /// Looks at the destinations that drain, and deletes those that nothing uses any more.
    fn look_at_drains(&mut self) -> Result<(), SyncError> {
        let now = Instant::now();
        let mut changes = Vec::new();
        for key in self.drains.servers() {
            let found = self.kernel.destinations(key)?;
            let of_server = self.drains.waiting.iter().filter(|((of, _), _)| *of == key);
            let mut gone = Vec::new();
            for ((_, to), deadline) in of_server {
                let destination = found.iter().find(|found| found.address == *to);
                let over = deadline.is_some_and(|deadline| deadline <= now);
                match destination {
                    None => gone.push(*to),
                    Some(found) if over || found.active + found.inactive == 0 => {
                        if over && found.active > 0 {
                            tracing::info!(
                                "{} connections of {key} to {to} are cut: the time for them to end is over",
                                found.active
                            );
                        }
                        changes.push(Change::DeleteDestination(key, *to));
                        gone.push(*to);
                    }
                    Some(_) => {}
                }
            }
            for to in gone {
                self.drains.end(key, to);
            }
        }
        self.drains.looked(now);
        self.set_alarm();
        if changes.is_empty() { Ok(()) } else { self.kernel.change(&changes) }
    }

    /// Whether everything is there; destinations of some virtual servers only, of others the next time.
    fn look(&mut self, applied: &mut Applied) -> Result<bool, SyncError> {
        if self.kernel.device()? != Some(applied.device) {
            return Ok(false);
        }
        let all = self.kernel.addresses()?;
        let addresses = Addresses::sort(&all, Some(applied.device), self.config.family);
        if addresses.node != applied.node_addresses
            || addresses.device.len() < applied.state.addresses()
        {
            return Ok(false);
        }
        let headers = self.kernel.sets()?;
        for (set, ..) in SETS {
            let name = set.name(self.config.family);
            let header = headers.iter().find(|header| header.name == name);
            let wanted = applied.state.entries(set);
            let right = header.is_some_and(|header| {
                header.elements.is_none_or(|has| usize::try_from(has) == Ok(wanted))
            });
            if !right {
                return Ok(false);
            }
        }
        let mut there = 0;
        for found in self.kernel.servers()? {
            if let Some((_, wanted)) = applied.state.servers.get(&found.key) {
                there += 1;
                if !same(&found.server, &wanted.server) {
                    return Ok(false);
                }
            }
        }
        if there != applied.state.servers.len() || !self.look_at_destinations(applied)? {
            return Ok(false);
        }
        self.kernel.holds(&layout::checks(&self.config, self.random_fully))
    }

    fn look_at_destinations(&mut self, applied: &mut Applied) -> Result<bool, SyncError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = applied.cursor.map_or(Unbounded, Excluded);
        let servers = &applied.state.servers;
        let (mut last, mut count) = (None, 0);
        for (key, (_, wanted)) in servers.range((from, Unbounded)).take(LOOKED_AT) {
            (last, count) = (Some(*key), count + 1);
            let found = self.kernel.destinations(*key)?;
            let live = found.iter().filter(|found| found.weight > 0);
            let mut live: Vec<SocketAddr> = live.map(|found| found.address).collect();
            live.sort_unstable();
            if live != wanted.destinations {
                return Ok(false);
            }
        }
        // At the end it begins anew, so that a small node is looked at whole each time.
        applied.cursor = last.filter(|_| count == LOOKED_AT);
        Ok(true)
    }
}

/// The timeout matters only with persistence.
fn same(one: &kube_proxy_netlink::ipvs::Server, other: &kube_proxy_netlink::ipvs::Server) -> bool {
    let persistent = one.flags & kube_proxy_netlink::ipvs::PERSISTENT != 0;
    one.scheduler == other.scheduler
        && one.flags == other.flags
        && (!persistent || one.timeout == other.timeout)
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
    let count = |kind, written, total| Count { kind, written, total };
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
        refused: 0,
    }
}

#[async_trait]
impl ProxyBackend for IpvsBackend {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        // Taken away for as long as it takes: whatever fails leaves nothing behind, and the next sync is full.
        match (scope, self.applied.take()) {
            (Scope::Partial(changes), Some(applied)) => {
                self.sync_partially(snapshot, changes, applied)
            }
            _ => self.sync_fully(snapshot),
        }
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        if self.drains.due().is_some_and(|due| due <= Instant::now()) {
            self.look_at_drains()?;
            if self.last_look.elapsed() < LOOK_PAUSE {
                return Ok(true);
            }
        }
        if self.watch.as_ref().is_some_and(AddressWatch::take_changed) {
            tracing::debug!("addresses of this node changed");
        }
        let Some(mut applied) = self.applied.take() else { return Ok(true) };
        self.last_look = Instant::now();
        let result = self.look(&mut applied);
        self.applied = Some(applied);
        result
    }

    fn set_waker(&mut self, waker: Waker) {
        match Alarm::start(waker.clone()) {
            Ok(alarm) => self.alarm = Some(alarm),
            Err(error) => {
                tracing::warn!("endpoints that go are looked at now and then only: {error}")
            }
        }
        match AddressWatch::start(waker) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!("addresses of this node are looked at now and then only: {error}");
            }
        }
        self.set_alarm();
    }

    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let Some(applied) = &self.applied else { return Ok(Vec::new()) };
        let mut sums = std::collections::BTreeMap::new();
        let mut add = |name: &ServicePortName, to, counters: kube_proxy_netlink::ipvs::Counters| {
            let (connections, bytes): &mut (u64, Bytes) =
                sums.entry((name.clone(), to)).or_default();
            *connections += counters.connections;
            bytes.sent += counters.bytes_in;
            bytes.received += counters.bytes_out;
        };
        for found in self.kernel.servers()? {
            let Some((name, _)) = applied.state.servers.get(&found.key) else { continue };
            add(name, None, found.counters);
            for destination in self.kernel.destinations(found.key)? {
                add(name, Some(destination.address), destination.counters);
            }
        }
        let traffic = sums.into_iter().map(|((service, endpoint), (connections, bytes))| Traffic {
            service,
            endpoint,
            connections,
            bytes: Some(bytes),
        });
        Ok(traffic.collect())
    }

    async fn cleanup(&mut self) -> Result<(), SyncError> {
        self.applied = None;
        self.drains = Drains::default();
        cleanup::cleanup(&self.config, &mut *self.kernel)
    }
}

#[cfg(test)]
mod tests;
