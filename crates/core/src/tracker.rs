//! From events to the snapshot of one family.
//!
//! The tracker keeps every object in normalised form and compares before it believes in a change: a new label, a managed field
//! or another node's name in a slice wakes no backend.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::conntrack::{EarlyCheck, Left, NewFrontends, TcpFlow, UdpCheck, UdpFrontends, left};
use crate::explain::{self, Explanation, NodeFacts, Packet};
use crate::frontend::Frontend;
use crate::owners::{Conflict, Owners};
use crate::topology::choose;
use crate::{
    Changes, EndpointSlice, Event, IpFamily, Kind, NoLocalEndpoints, Node, ObjectName, Service,
    ServiceEntry, ServicePolicy, ServicePort, ServicePortName, Snapshot, ZoneSpill,
};

mod algorithms;
mod object_changes;
mod slices;
mod starting;

pub use object_changes::{EndpointCount, ObjectChange, What};

use algorithms::Algorithms;
use object_changes::ObjectChanges;
use slices::Slices;
use starting::Starting;

/// Most trigger times that are kept between two syncs.
const MAX_TRIGGER_TIMES: usize = 10_000;

/// What a [`Tracker`] has to know besides the objects.
#[derive(Clone, Debug)]
pub struct TrackerOptions {
    /// The family it looks after.
    pub family: IpFamily,
    /// The name of this node: endpoints on it are local.
    pub node_name: Arc<str>,
    /// The primary address of this node if it is set by hand (`bindAddress`); else it is taken from the Node object.
    pub node_ip: Option<IpAddr>,
    /// Whether `spec.externalIPs` count (feature gate `AllowServiceExternalIPs`, KEP-5707).
    pub allow_external_ips: bool,
    /// What happens under the external `Local` policy without local endpoints, for Services that do not say.
    pub no_local_endpoints: NoLocalEndpoints,
    /// When endpoints of other zones join those of this node's, for Services that do not say.
    pub zone_spill: ZoneSpill,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Service changes so far that made a difference.
    pub services: u64,
    /// EndpointSlice changes so far that made a difference.
    pub endpoints: u64,
    /// Of the service changes, those since the last fold.
    pub services_pending: u64,
    /// Of the EndpointSlice changes, those since the last fold.
    pub endpoints_pending: u64,
}

/// Keeps the objects of one family and turns changes into an up-to-date [`Snapshot`].
#[derive(Debug)]
pub struct Tracker {
    options: TrackerOptions,
    snapshot: Snapshot,
    /// Those with a cluster IP of the family.
    services: FxHashMap<ObjectName, Seen<Arc<Service>>>,
    slices: Slices,
    service_cidrs: FxHashMap<ObjectName, Seen<Vec<IpNet>>>,
    zone: Option<Arc<str>>,
    node_ip: Option<IpAddr>,
    lists: Lists,
    /// Services to look at in the next fold.
    dirty: BTreeSet<ObjectName>,
    /// All services have to be looked at: the zone of this node changed.
    all_dirty: bool,
    owners: Owners,
    /// The ports of Services that lost a frontend, as the Services ask for them.
    asked: FxHashMap<ServicePortName, ServicePort>,
    udp_frontends: UdpFrontends,
    new_frontends: NewFrontends,
    left: Vec<Left>,
    trigger_times: Vec<SystemTime>,
    counts: ChangeCounts,
    object_changes: ObjectChanges,
    /// Annotations that the snapshot carries.
    annotations: Vec<&'static str>,
    algorithms: Algorithms,
    starting: Starting,
}

/// An object and the list that last contained it.
#[derive(Clone, Debug)]
struct Seen<T> {
    list: u32,
    value: T,
}

/// How often each kind was listed, and whether a list was ever complete.
#[derive(Debug, Default)]
struct Lists {
    service: u32,
    slice: u32,
    node: u32,
    node_seen: u32,
    service_cidr: u32,
    services_complete: bool,
    slices_complete: bool,
}

impl Tracker {
    /// A tracker that has seen nothing.
    pub fn new(options: TrackerOptions) -> Self {
        let mut snapshot = Snapshot::new(options.family);
        snapshot.node_ip = options.node_ip;
        Self {
            snapshot,
            services: FxHashMap::default(),
            slices: Slices::new(options.node_name.clone()),
            service_cidrs: FxHashMap::default(),
            zone: None,
            node_ip: options.node_ip,
            lists: Lists::default(),
            dirty: BTreeSet::new(),
            all_dirty: false,
            owners: Owners::default(),
            asked: FxHashMap::default(),
            udp_frontends: UdpFrontends::default(),
            new_frontends: NewFrontends::All,
            left: Vec::new(),
            trigger_times: Vec::new(),
            counts: ChangeCounts::default(),
            object_changes: ObjectChanges::default(),
            annotations: Vec::new(),
            algorithms: Algorithms::default(),
            starting: Starting::default(),
            options,
        }
    }

    /// Says which annotations of Services the snapshot carries; a change of any other wakes no backend.
    pub fn carry_annotations(&mut self, names: Vec<&'static str>) {
        self.all_dirty |= self.annotations != names;
        self.annotations = names;
    }

    /// The result of the last [`fold`](Self::fold).
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Whether Services and EndpointSlices were listed completely once; before that a sync would tear down what is there.
    pub fn is_synced(&self) -> bool {
        self.lists.services_complete && self.lists.slices_complete
    }

    /// Numbers for metrics.
    pub fn change_counts(&self) -> ChangeCounts {
        self.counts
    }

    /// Takes in one event; `true` if it may change the snapshot, so that a fold is worth while.
    pub fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::ListStarted(kind) => {
                *self.lists.number(kind) += 1;
                false
            }
            Event::ListDone(kind) => self.list_done(kind),
            Event::Kept(kind, name) => {
                self.keep(kind, &name);
                false
            }
            Event::ServiceApplied(service) => self.apply_service(service),
            Event::ServiceDeleted(name) => self.delete_service(&name),
            Event::EndpointSliceApplied(slice) => self.apply_slice(&slice),
            Event::EndpointSliceDeleted(name) => self.delete_slice(&name),
            Event::NodeApplied(node) => self.apply_node(&node),
            Event::NodeDeleted => self.set_node(None, None),
            Event::ServiceCidrApplied(name, nets) => self.apply_service_cidr(name, nets),
            Event::ServiceCidrDeleted(name) => self.service_cidrs.remove(&name).is_some(),
        }
    }

    fn list_done(&mut self, kind: Kind) -> bool {
        let current = *self.lists.number(kind);
        match kind {
            Kind::Service => {
                let first = !std::mem::replace(&mut self.lists.services_complete, true);
                let gone = missing(&self.services, current);
                gone.iter().fold(first, |changed, name| self.delete_service(name) || changed)
            }
            Kind::EndpointSlice => {
                let first = !std::mem::replace(&mut self.lists.slices_complete, true);
                let gone = self.slices.missing(current);
                gone.iter().fold(first, |changed, name| self.delete_slice(name) || changed)
            }
            Kind::Node => self.lists.node_seen != current && self.set_node(None, None),
            Kind::ServiceCidr => {
                let gone = missing(&self.service_cidrs, current);
                for name in &gone {
                    self.service_cidrs.remove(name);
                }
                !gone.is_empty()
            }
        }
    }

    /// Counts an object as part of the current list, as it is.
    fn keep(&mut self, kind: Kind, name: &ObjectName) {
        let list = *self.lists.number(kind);
        match kind {
            Kind::Service => {
                self.services.entry(name.clone()).and_modify(|seen| seen.list = list);
            }
            Kind::EndpointSlice => self.slices.keep(name, list),
            Kind::Node => self.lists.node_seen = list,
            Kind::ServiceCidr => {
                self.service_cidrs.entry(name.clone()).and_modify(|seen| seen.list = list);
            }
        }
    }

    fn apply_service(&mut self, service: Arc<Service>) -> bool {
        let name = service.name.clone();
        if service.cluster_ips.get(self.options.family).is_none() {
            // One of the other family alone has no ports in this one.
            return self.delete_service(&name);
        }
        let seen = Seen { list: self.lists.service, value: service };
        let mut what = What::Added;
        match self.services.get_mut(&name) {
            Some(known) => {
                let same = same_for(&self.annotations, &known.value, &seen.value);
                *known = seen;
                if same {
                    return false;
                }
                what = What::Changed;
            }
            None => {
                self.services.insert(name.clone(), seen);
            }
        }
        self.count_service(name, what)
    }

    fn delete_service(&mut self, name: &ObjectName) -> bool {
        self.services.remove(name).is_some() && self.count_service(name.clone(), What::Removed)
    }

    fn count_service(&mut self, name: ObjectName, what: What) -> bool {
        self.note(|| ObjectChange::of_service(&name, what));
        self.counts.services += 1;
        self.counts.services_pending += 1;
        self.dirty.insert(name);
        true
    }

    fn apply_slice(&mut self, slice: &EndpointSlice) -> bool {
        if slice.family != self.options.family {
            // A slice cannot change its address type, but one of the same name may be created again with another.
            return self.delete_slice(&slice.name);
        }
        let known = self.slices.is_known(&slice.name);
        let owners = self.slices.apply(slice, self.lists.slice);
        if owners.is_empty() {
            return false;
        }
        // While syncs fail these pile up; the oldest already tell how bad it is.
        if self.trigger_times.len() < MAX_TRIGGER_TIMES {
            self.trigger_times.extend(slice.trigger_time);
        }
        let what = if known { What::Changed } else { What::Added };
        for owner in &owners {
            self.note(|| ObjectChange {
                endpoints: Some(EndpointCount::of(slice)),
                trigger_time: slice.trigger_time,
                ..ObjectChange::of_slice(owner, &slice.name, what)
            });
        }
        self.count_slice(owners)
    }

    fn delete_slice(&mut self, name: &ObjectName) -> bool {
        let Some(owner) = self.slices.delete(name) else { return false };
        self.note(|| ObjectChange::of_slice(&owner, name, What::Removed));
        self.count_slice(vec![owner])
    }

    /// Keeps a change for the history. What the first lists contain is no change.
    fn note(&mut self, change: impl FnOnce() -> ObjectChange) {
        if self.is_synced() {
            self.object_changes.push(change());
        }
    }

    /// Takes the changes of objects that made a difference since this was last called, oldest first; of very many the last ones.
    /// What the first lists contain is not among them.
    pub fn take_object_changes(&mut self) -> impl Iterator<Item = ObjectChange> + '_ {
        self.object_changes.take()
    }

    fn count_slice(&mut self, owners: Vec<ObjectName>) -> bool {
        self.counts.endpoints += 1;
        self.counts.endpoints_pending += 1;
        self.dirty.extend(owners);
        true
    }

    fn apply_node(&mut self, node: &Node) -> bool {
        self.lists.node_seen = self.lists.node;
        let ip = node.address(self.options.family);
        self.set_node(node.zone.clone(), ip)
    }

    fn set_node(&mut self, zone: Option<Arc<str>>, ip: Option<IpAddr>) -> bool {
        // A Node object that vanishes or loses its address does not move the node.
        let node_ip = self.options.node_ip.or(ip).or(self.node_ip);
        let zone_differs = self.zone != zone;
        let ip_differs = self.node_ip != node_ip;
        self.zone = zone;
        self.node_ip = node_ip;
        self.all_dirty |= zone_differs;
        zone_differs || ip_differs
    }

    fn apply_service_cidr(&mut self, name: ObjectName, nets: Vec<IpNet>) -> bool {
        let family = self.options.family;
        let own: Vec<_> = nets.into_iter().filter(|net| IpFamily::of_net(net) == family).collect();
        let seen = Seen { list: self.lists.service_cidr, value: own };
        let differs = self.service_cidrs.get(&name).is_none_or(|known| known.value != seen.value);
        self.service_cidrs.insert(name, seen);
        differs
    }

    /// Brings the snapshot up to date and says what differs from before.
    ///
    /// Changes that cancelled each other out since the last fold do not show.
    pub fn fold(&mut self) -> Changes {
        self.counts.services_pending = 0;
        self.counts.endpoints_pending = 0;
        let mut changes = Changes {
            node_ip: self.snapshot.node_ip != self.node_ip,
            service_cidrs: self.fold_service_cidrs(),
            ..Changes::default()
        };
        self.snapshot.node_ip = self.node_ip;
        self.snapshot.zone.clone_from(&self.zone);
        let mut dirty = std::mem::take(&mut self.dirty);
        if std::mem::take(&mut self.all_dirty) {
            dirty.extend(self.services.keys().cloned());
        }
        self.fold_algorithms(&dirty);
        let asked: BTreeMap<_, _> = dirty.iter().flat_map(|name| self.asked_ports(name)).collect();
        let affected = self.fold_claims(&dirty, &asked);
        for (name, port) in affected {
            // It asks for what it asked for before, and may get something else.
            self.fold_port(name, Some(port), &mut changes.services);
        }
        for name in &dirty {
            let known: Vec<_> =
                self.snapshot.ports_of(name).map(|(name, _)| name.clone()).collect();
            for gone in known.into_iter().filter(|known| !asked.contains_key(known)) {
                self.fold_port(gone, None, &mut changes.services);
            }
        }
        for (name, port) in asked {
            self.fold_port(name, Some(port), &mut changes.services);
        }
        if changes.services.len() > self.snapshot.services.len() / 2 {
            // Inserting in order leaves the nodes of the map half empty; a map from a list has full ones.
            let services = std::mem::take(&mut self.snapshot.services);
            self.snapshot.services = services.into_iter().collect();
        }
        changes
    }

    /// Settles which frontends the ports of changed Services own. Returns the ports of other Services whose frontends that changes.
    fn fold_claims(
        &mut self,
        dirty: &BTreeSet<ObjectName>,
        asked: &BTreeMap<ServicePortName, ServicePort>,
    ) -> Vec<(ServicePortName, ServicePort)> {
        let mut affected = BTreeSet::new();
        let mut same = BTreeSet::new();
        for (name, entry) in dirty.iter().flat_map(|name| self.snapshot.ports_of(name)) {
            let old = self.asked.get(name).unwrap_or(&entry.port);
            if asked.get(name).is_some_and(|new| new.frontends == old.frontends) {
                same.insert(name);
            } else {
                self.owners.release(name, old, &mut affected);
            }
        }
        for (name, port) in asked.iter().filter(|(name, _)| !same.contains(name)) {
            self.owners.claim(name, port, &mut affected);
        }
        let others = affected.into_iter().filter(|name| !dirty.contains(&name.service));
        let asks = |name: ServicePortName| {
            let entry = self.snapshot.services.get(&name)?;
            let port = self.asked.get(&name).unwrap_or(&entry.port).clone();
            Some((name, port))
        };
        others.filter_map(asks).collect()
    }

    fn fold_service_cidrs(&mut self) -> bool {
        let all: BTreeSet<IpNet> =
            self.service_cidrs.values().flat_map(|seen| seen.value.iter().copied()).collect();
        let all: Vec<IpNet> = all.into_iter().collect();
        let differs = self.snapshot.service_cidrs != all;
        self.snapshot.service_cidrs = all;
        differs
    }

    /// Brings one service port up to date, which asks for these frontends; `None` if it is gone.
    fn fold_port(
        &mut self,
        name: ServicePortName,
        asked: Option<ServicePort>,
        changed: &mut BTreeSet<ServicePortName>,
    ) {
        self.asked.remove(&name);
        let Some(asked) = asked else {
            self.starting.forget(&name);
            if let Some(old) = self.snapshot.services.remove(&name) {
                self.snapshot.endpoint_count -= old.endpoints.len();
                self.udp_frontends.touch_port(&old.port);
                changed.insert(name);
            }
            return;
        };
        let owns = |frontend| self.owners.owner(frontend) == Some(&name);
        let mut port = asked;
        if !port.frontends.iter().all(|(frontend, _)| owns(*frontend)) {
            let asked = port.clone();
            port.remove_lost(owns);
            self.asked.insert(name.clone(), asked);
        }
        let endpoints = self.slices.endpoints(&name);
        let choice = choose(&port, &endpoints, self.zone.as_deref());
        let mut entry = ServiceEntry { port, endpoints, choice };
        let before = self.snapshot.services.get(&name).map(|before| &**before);
        self.starting.show(&name, before, &mut entry);
        if self.replace(&name, entry) {
            changed.insert(name);
        }
    }

    /// The ports of a Service, with all the frontends that it asks for.
    fn asked_ports(&self, name: &ObjectName) -> Vec<(ServicePortName, ServicePort)> {
        let Some(service) = self.services.get(name) else {
            return Vec::new();
        };
        let mut ports = service.value.service_ports(self.options.family);
        let Some((_, first)) = ports.first() else {
            return ports;
        };
        let policy = self.settled(&service.value, &first.policy);
        for (_, port) in &mut ports {
            if !self.options.allow_external_ips {
                port.forbid_external_ips();
            }
            if let Some(policy) = &policy {
                port.set_policy(policy.clone());
            }
        }
        ports
    }

    /// The policy of a Service with the defaults of this proxy, and without annotations that nothing here reads; `None` if that is the same.
    fn settled(
        &self,
        service: &Service,
        policy: &Arc<ServicePolicy>,
    ) -> Option<Arc<ServicePolicy>> {
        let default = self.options.no_local_endpoints;
        let defaults =
            service.policy.no_local_endpoints.is_none() && default != NoLocalEndpoints::default();
        let spill = self.options.zone_spill;
        let spills = service.policy.zone_spill.is_none() && spill != ZoneSpill::default();
        let is_read = |name: &Arc<str>| self.annotations.contains(&&**name);
        let algorithm = self.algorithms.of(service);
        let same = !defaults && !spills && policy.algorithm == algorithm;
        if same && policy.annotations.keys().all(is_read) {
            return None;
        }
        let mut settled = (**policy).clone();
        settled.algorithm = algorithm;
        if defaults {
            settled.no_local_endpoints = Some(default);
        }
        if spills {
            settled.zone_spill = Some(spill);
        }
        settled.annotations.retain(|name, _| is_read(name));
        Some(settled.shared())
    }

    /// Puts an entry into the snapshot; `false` if it was there already.
    fn replace(&mut self, name: &ServicePortName, entry: ServiceEntry) -> bool {
        let old = self.snapshot.services.get_mut(name);
        if old.as_ref().is_some_and(|old| ***old == entry) {
            return false;
        }
        self.snapshot.endpoint_count += entry.endpoints.len();
        if let Some(old) = &old {
            self.snapshot.endpoint_count -= old.endpoints.len();
            self.udp_frontends.touch_port(&old.port);
        }
        self.udp_frontends.touch_port(&entry.port);
        let before = old.as_deref().map(|old| &**old);
        self.new_frontends.replace(before, &entry);
        left(name, before, &entry, &mut self.left);
        match old {
            Some(old) => *old = Arc::new(entry),
            None => {
                self.snapshot.services.insert(name.clone(), Arc::new(entry));
            }
        }
        true
    }

    /// Takes the trigger times of the slice changes since this was last called: when the changes happened that the next sync carries out.
    pub fn take_trigger_times(&mut self) -> Vec<SystemTime> {
        std::mem::take(&mut self.trigger_times)
    }

    /// UDP frontends that were on the node without being in the snapshot; their entries have to be checked.
    pub(crate) fn touch_udp(&mut self, frontends: impl IntoIterator<Item = Frontend>) {
        self.udp_frontends.touch(frontends);
    }

    /// The frontends that more than one service port asks for, as of the last fold.
    pub fn contested_frontends(&self) -> usize {
        self.owners.contested()
    }

    /// Every frontend that more than one service port asks for, as of the last fold: one conflict for each that does without.
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.owners.conflicts()
    }

    /// A service port of the snapshot with all the frontends that its Service asks for, also those that another one has.
    pub fn requested(&self, name: &ServicePortName) -> Option<&ServicePort> {
        let entry = self.snapshot.services.get(name)?;
        Some(self.asked.get(name).unwrap_or(&entry.port))
    }

    /// What becomes of a packet, and why, as [`explain`](explain::explain) says it of the snapshot; who has a frontend need not be searched for.
    pub fn explain(&self, node: &NodeFacts, packet: &Packet) -> Explanation<'_> {
        let owner = |frontend| self.owners.owner(frontend);
        explain::with_owners(&self.snapshot, &owner, node, packet)
    }

    /// Takes the conflicts about frontends that arose since this was last called; each is reported once for as long as it lasts.
    pub fn take_new_conflicts(&mut self) -> Vec<Conflict> {
        self.owners.take_new_conflicts()
    }

    /// Takes what has to be checked about UDP flows after the folds since this was last called; `None` if nothing.
    pub fn take_udp_check(&mut self) -> Option<UdpCheck> {
        self.udp_frontends.take_check(&self.snapshot, &self.owners)
    }

    /// Gives back a check that could not be carried out, to be part of the next one.
    pub fn return_udp_check(&mut self, check: &UdpCheck) {
        self.udp_frontends.take_back(check);
    }

    /// Takes the endpoints that are missing since this was last called, of Services that want connections to them ended.
    pub(crate) fn take_left(&mut self) -> Vec<Left> {
        std::mem::take(&mut self.left)
    }

    /// Takes what has to be checked about TCP connections that began before the rules; `None` if no frontend appeared.
    pub fn take_early_check(&mut self) -> Option<EarlyCheck> {
        self.new_frontends.take_check()
    }

    /// Gives back a check that could not be carried out, to be part of the next one.
    pub fn return_early_check(&mut self, check: EarlyCheck) {
        self.new_frontends.take_back(check);
    }

    /// Whether a TCP connection began before the rules of a frontend were there, so that its entry has to be deleted.
    /// `takes_node_ports` says which addresses are this node's own and take node ports.
    pub fn is_early(
        &self,
        check: &EarlyCheck,
        flow: &TcpFlow,
        takes_node_ports: impl Fn(&IpAddr) -> bool,
    ) -> bool {
        check.is_early(flow, takes_node_ports, &self.snapshot, &self.owners)
    }
}

impl Lists {
    fn number(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Service => &mut self.service,
            Kind::EndpointSlice => &mut self.slice,
            Kind::Node => &mut self.node,
            Kind::ServiceCidr => &mut self.service_cidr,
        }
    }
}

/// Whether two versions of a Service are the same to those who read these annotations and no others.
fn same_for(read: &[&str], old: &Service, new: &Service) -> bool {
    if old == new {
        return true;
    }
    let differs = |name: &&str| old.policy.annotation(name) != new.policy.annotation(name);
    if old.policy.annotations == new.policy.annotations || read.iter().any(differs) {
        return false;
    }
    let mut other = new.clone();
    other.policy.annotations.clone_from(&old.policy.annotations);
    *old == other
}

/// The objects that the current list did not contain.
fn missing<T>(known: &FxHashMap<ObjectName, Seen<T>>, current: u32) -> Vec<ObjectName> {
    known.iter().filter(|(_, seen)| seen.list != current).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests;
