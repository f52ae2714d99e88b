//! The endpoint slices of one family, as compact as they can be, and their merge into endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Seen;
use crate::endpoint::{Conditions, NodeHint};
use crate::topology::sort_key;
use crate::{Endpoint, EndpointSlice, ObjectName, ServicePortName, SliceEndpoint, SlicePort};

/// All slices, by the Service that they belong to.
#[derive(Debug)]
pub(super) struct Slices {
    node_name: Arc<str>,
    /// By Service, then sorted by the name of the slice: a fixed order, so that merging gives the same result every time.
    /// Nearly all Services have one slice, for which a vector is much smaller than a map.
    by_service: FxHashMap<ObjectName, Vec<NamedSlice>>,
    /// The Service of each slice: needed when a slice goes or changes hands.
    owners: FxHashMap<ObjectName, ObjectName>,
    zone_lists: ZoneLists,
}

#[derive(Debug)]
struct NamedSlice {
    name: Arc<str>,
    slice: Seen<Slice>,
}

/// What is kept of one slice. Node names are reduced to "here or not": the rest of the cluster does not matter on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    ports: Box<[SlicePort]>,
    endpoints: Box<[Address]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    ip: IpAddr,
    conditions: Conditions,
    local: bool,
    node_known: bool,
    node_hint: NodeHint,
    zone_hints: Option<Arc<[Arc<str>]>>,
}

impl Slices {
    pub(super) fn new(node_name: Arc<str>) -> Self {
        Self {
            node_name,
            by_service: FxHashMap::default(),
            owners: FxHashMap::default(),
            zone_lists: ZoneLists::default(),
        }
    }

    /// Stores a slice. The Services whose endpoints it may change; none if it says nothing new.
    pub(super) fn apply(&mut self, slice: &EndpointSlice, list: u32) -> Vec<ObjectName> {
        let owner =
            ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        let mut changed = Vec::new();
        if self.owners.get(&slice.name).is_some_and(|known| *known != owner) {
            changed.extend(self.delete(&slice.name));
        }
        let stored = Slice {
            ports: slice.ports.clone().into(),
            endpoints: slice.endpoints.iter().map(|e| self.address(e)).collect(),
        };
        let new = Seen { list, value: stored };
        let of_service = self.by_service.entry(owner.clone()).or_default();
        match position(of_service, &slice.name) {
            Ok(index) if of_service[index].slice.value == new.value => {
                of_service[index].slice.list = list;
                return changed;
            }
            Ok(index) => of_service[index].slice = new,
            Err(index) => {
                of_service.insert(index, NamedSlice { name: slice.name.name.clone(), slice: new });
                self.owners.insert(slice.name.clone(), owner.clone());
            }
        }
        changed.push(owner);
        changed
    }

    /// Forgets a slice; the Service it belonged to, if it was known.
    pub(super) fn delete(&mut self, name: &ObjectName) -> Option<ObjectName> {
        let owner = self.owners.remove(name)?;
        if let Some(of_service) = self.by_service.get_mut(&owner) {
            if let Ok(index) = position(of_service, name) {
                of_service.remove(index);
            }
            if of_service.is_empty() {
                self.by_service.remove(&owner);
            }
        }
        Some(owner)
    }

    /// Counts a slice, if it is known, as part of a list.
    pub(super) fn keep(&mut self, name: &ObjectName, list: u32) {
        let slices = self.owners.get(name).and_then(|owner| self.by_service.get_mut(owner));
        if let Some(slices) = slices
            && let Ok(index) = position(slices, name)
        {
            slices[index].slice.list = list;
        }
    }

    /// The slices that the current list did not contain.
    pub(super) fn missing(&self, current: u32) -> Vec<ObjectName> {
        let stale = |name: &ObjectName, owner: &ObjectName| {
            let slices = self.by_service.get(owner).map_or(&[][..], Vec::as_slice);
            position(slices, name).is_ok_and(|index| slices[index].slice.list != current)
        };
        self.owners
            .iter()
            .filter(|(name, owner)| stale(name, owner))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The endpoints of one service port, merged over its slices, sorted by address and port.
    ///
    /// An address may stand in several slices while it moves between them. Then an entry that is not terminating
    /// replaces an earlier one, and a terminating entry replaces none.
    pub(super) fn endpoints(&self, name: &ServicePortName) -> Arc<[Endpoint]> {
        let Some(slices) = self.by_service.get(&name.service) else {
            return Arc::from([]);
        };
        let mut all: Vec<Endpoint> = Vec::new();
        for slice in slices.iter().map(|named| &named.slice.value) {
            let fits = |p: &&SlicePort| p.name == name.port && p.protocol == name.protocol;
            for port in slice.ports.iter().filter(fits) {
                all.extend(slice.endpoints.iter().map(|address| address.endpoint(port)));
            }
        }
        all.sort_by_key(sort_key);
        all.dedup_by(|later, kept| {
            let same = sort_key(later) == sort_key(kept);
            if same && !later.conditions.terminating {
                std::mem::swap(later, kept);
            }
            same
        });
        all.into()
    }

    fn address(&mut self, endpoint: &SliceEndpoint) -> Address {
        let named = |node: &Arc<str>| !node.is_empty() && *node == self.node_name;
        Address {
            ip: endpoint.address,
            conditions: endpoint.conditions,
            local: endpoint.node.as_ref().is_some_and(named),
            node_known: endpoint.node.as_ref().is_some_and(|node| !node.is_empty()),
            node_hint: match &endpoint.node_hints[..] {
                [] => NodeHint::Absent,
                hints if hints.iter().any(named) => NodeHint::ThisNode,
                _ => NodeHint::OtherNode,
            },
            zone_hints: self.zone_lists.shared(&endpoint.zone_hints),
        }
    }
}

/// Where a slice is, or belongs.
fn position(slices: &[NamedSlice], name: &ObjectName) -> Result<usize, usize> {
    slices.binary_search_by(|named| named.name.cmp(&name.name))
}

impl Address {
    fn endpoint(&self, port: &SlicePort) -> Endpoint {
        Endpoint {
            ip: self.ip,
            port: port.port,
            conditions: self.conditions,
            local: self.local,
            node_known: self.node_known,
            node_hint: self.node_hint,
            zone_hints: self.zone_hints.clone(),
        }
    }
}

/// Hints come in a handful of patterns over thousands of endpoints; each pattern is stored once.
#[derive(Debug, Default)]
struct ZoneLists(FxHashMap<Vec<Arc<str>>, Arc<[Arc<str>]>>);

impl ZoneLists {
    /// More patterns than this and the memory of them starts anew: the table only saves space.
    const MOST: usize = 1024;

    fn shared(&mut self, zones: &[Arc<str>]) -> Option<Arc<[Arc<str>]>> {
        if zones.is_empty() {
            return None;
        }
        if let Some(known) = self.0.get(zones) {
            return Some(known.clone());
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let list: Arc<[Arc<str>]> = zones.into();
        self.0.insert(zones.to_vec(), list.clone());
        Some(list)
    }
}
