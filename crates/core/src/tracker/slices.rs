//! The endpoint slices of one family, as compact as they can be, and their merge into endpoints.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Seen;
use crate::endpoint::{Conditions, NodeHint, Place, Steering};
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
    patterns: Patterns,
}

#[derive(Debug)]
struct NamedSlice {
    name: Arc<str>,
    slice: Seen<Slice>,
}

/// What is kept of one slice. Node names are reduced to "here or not": the rest of the cluster does not matter on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Slice {
    ports: Box<[(SlicePort, Endpoints)]>,
}

/// The endpoints of a slice at one of its ports, sorted by address, each once.
/// Where no other slice has any for a service port, this very list is in the snapshot.
type Endpoints = Arc<[Endpoint]>;

impl Slices {
    pub(super) fn new(node_name: Arc<str>) -> Self {
        Self {
            node_name,
            by_service: FxHashMap::default(),
            owners: FxHashMap::default(),
            patterns: Patterns::default(),
        }
    }

    /// Whether there is a slice of this name.
    pub(super) fn is_known(&self, name: &ObjectName) -> bool {
        self.owners.contains_key(name)
    }

    /// Stores a slice. The Services whose endpoints it may change; none if it says nothing new.
    pub(super) fn apply(&mut self, slice: &EndpointSlice, list: u32) -> Vec<ObjectName> {
        let owner =
            ObjectName { namespace: slice.name.namespace.clone(), name: slice.service.clone() };
        let mut changed = Vec::new();
        if self.owners.get(&slice.name).is_some_and(|known| *known != owner) {
            changed.extend(self.delete(&slice.name));
        }
        let at_port = |port: &SlicePort| (port.clone(), self.endpoints_at(slice, port));
        let ports = slice.ports.iter().map(at_port).collect();
        let new = Seen { list, value: Slice { ports } };
        let of_service = self.by_service.entry(owner.clone()).or_default();
        match position(of_service, &slice.name) {
            Ok(index) if of_service[index].slice.value == new.value => {
                of_service[index].slice.list = list;
                return changed;
            }
            Ok(index) => of_service[index].slice = new,
            Err(index) => {
                // There is hardly ever a second one.
                of_service.reserve_exact(1);
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
    /// An address may stand in several slices while it moves between them. The entry with the highest [`preference`] counts,
    /// in whatever order the slices arrived and whatever their names are.
    pub(super) fn endpoints(&self, name: &ServicePortName) -> Arc<[Endpoint]> {
        let fits = |port: &SlicePort| port.name == name.port && port.protocol == name.protocol;
        let slices = self.by_service.get(&name.service).into_iter().flatten();
        let ports = slices.flat_map(|named| &named.slice.value.ports);
        let mut lists = ports.filter(|(port, _)| fits(port)).map(|(_, endpoints)| endpoints);
        let Some(only) = lists.next() else { return Arc::default() };
        let Some(second) = lists.next() else { return only.clone() };
        let others = second.iter().chain(lists.flat_map(|list| &**list));
        each_once(only.iter().chain(others).cloned().collect())
    }

    fn endpoints_at(&mut self, slice: &EndpointSlice, port: &SlicePort) -> Endpoints {
        each_once(slice.endpoints.iter().map(|e| self.endpoint(e, port)).collect())
    }

    fn endpoint(&mut self, endpoint: &SliceEndpoint, port: &SlicePort) -> Endpoint {
        let named = |node: &Arc<str>| !node.is_empty() && *node == self.node_name;
        Endpoint {
            ip: endpoint.address,
            port: port.port,
            conditions: endpoint.conditions,
            place: match endpoint.node.as_ref().filter(|node| !node.is_empty()) {
                None => Place::Unknown,
                Some(node) if named(node) => Place::ThisNode,
                Some(_) => Place::OtherNode,
            },
            node_hint: match &endpoint.node_hints[..] {
                [] => NodeHint::Absent,
                hints if hints.iter().any(named) => NodeHint::ThisNode,
                _ => NodeHint::OtherNode,
            },
            steering: self.patterns.shared(endpoint),
        }
    }
}

/// Sorts endpoints by address and port, and keeps of each the entry with the highest [`preference`].
fn each_once(mut all: Vec<Endpoint>) -> Endpoints {
    all.sort_by(|a, b| {
        sort_key(a).cmp(&sort_key(b)).then_with(|| preference(b).cmp(&preference(a)))
    });
    all.dedup_by(|later, kept| sort_key(later) == sort_key(kept));
    all.into()
}

/// Which of two entries for one address and port counts: the greater one. Entries that compare equal are equal.
///
/// One that takes traffic goes first: a slice that is out of date must not take a ready endpoint out of service.
/// Then one that is not terminating: a new pod may have got the address of one that is about to go. Then one that still answers.
/// Of two in the same state the greater weight counts, so that no slice drains what another one wants served.
/// Then the one that says more: where the endpoint runs, and who it is meant for.
/// An entry without hints would make those of all other endpoints void.
fn preference(endpoint: &Endpoint) -> impl Ord {
    let Conditions { ready, serving, terminating } = endpoint.conditions;
    let node_hint = match endpoint.node_hint {
        NodeHint::Absent => 0,
        NodeHint::OtherNode => 1,
        NodeHint::ThisNode => 2,
    };
    let state = (ready, !terminating, serving);
    let zones = endpoint.zone_hints().map(<[_]>::to_vec);
    (state, endpoint.weight(), endpoint.place, node_hint, zones)
}

/// Where a slice is, or belongs.
fn position(slices: &[NamedSlice], name: &ObjectName) -> Result<usize, usize> {
    slices.binary_search_by(|named| named.name.cmp(&name.name))
}

/// Hints and weights come in a handful of patterns over thousands of endpoints; each pattern is stored once.
#[derive(Debug, Default)]
struct Patterns(FxHashSet<Arc<Steering>>);

impl Patterns {
    /// More patterns than this and the memory of them starts again: the table only saves space.
    const MOST: usize = 1024;

    fn shared(&mut self, endpoint: &SliceEndpoint) -> Option<Arc<Steering>> {
        let SliceEndpoint { weight, zone_hints, .. } = endpoint;
        if zone_hints.is_empty() && *weight == Steering::USUAL_WEIGHT {
            return None;
        }
        let steering = Steering { weight: *weight, zone_hints: zone_hints.clone(), step: None };
        if let Some(known) = self.0.get(&steering) {
            return Some(known.clone());
        }
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let steering = Arc::new(steering);
        self.0.insert(steering.clone());
        Some(steering)
    }
}
