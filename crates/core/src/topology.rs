//! Which endpoints take traffic: readiness, termination, traffic policies and topology hints.
//!
//! The rules are those of KEP-1669 (terminating endpoints), KEP-2433 and KEP-3015 (topology hints), KEP-2086 and KEP-1138 (internal and
//! external traffic policy), in the order in which the Kubernetes proxy applies them.

use std::sync::Arc;

use crate::endpoint::NodeHint;
use crate::{Endpoint, ServicePort};

/// The endpoints of a service port, by what a frontend may use.
///
/// Lists keep the order of the full list, and are the same allocation where they are equal to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointChoice {
    /// For frontends under the `Cluster` policy, and for local traffic that is short-circuited to them.
    pub cluster: Arc<[Endpoint]>,
    /// For frontends under the `Local` policy.
    pub local: Arc<[Endpoint]>,
    /// Whether any endpoint anywhere can take traffic. If not, traffic is rejected;
    /// if so and the list that applies is empty, it is dropped.
    pub has_any: bool,
}

impl EndpointChoice {
    /// Every endpoint that some frontend uses: the two lists together, each endpoint once.
    pub fn reachable(&self) -> impl Iterator<Item = &Endpoint> {
        let only_local =
            if Arc::ptr_eq(&self.cluster, &self.local) { &[][..] } else { &self.local };
        self.cluster
            .iter()
            .chain(only_local.iter().filter(|endpoint| !contains(&self.cluster, endpoint)))
    }
}

/// Whether the (sorted) list holds an endpoint with this address and port.
fn contains(sorted: &[Endpoint], endpoint: &Endpoint) -> bool {
    let key = sort_key(endpoint);
    sorted.binary_search_by(|other| sort_key(other).cmp(&key)).is_ok()
}

/// The order of endpoint lists: address, then port.
pub(crate) fn sort_key(endpoint: &Endpoint) -> (std::net::IpAddr, u16) {
    (endpoint.ip, endpoint.port.get())
}

/// Decides which endpoints each kind of frontend of `port` uses, on a node in `zone`.
pub fn choose(port: &ServicePort, all: &Arc<[Endpoint]>, zone: Option<&str>) -> EndpointChoice {
    let none: Arc<[Endpoint]> = Arc::from([]);
    let mut choice = EndpointChoice { cluster: none.clone(), local: none, has_any: false };
    if port.uses_cluster_endpoints() {
        let mode = TopologyMode::of(all, zone);
        choice.cluster = select(all, |e| e.is_ready() && mode.allows(e, zone));
        if choice.cluster.is_empty() {
            choice.cluster = select(all, Endpoint::is_serving_terminating);
        }
        choice.has_any = !choice.cluster.is_empty();
    }
    if port.uses_local_endpoints() {
        choice.has_any |= all.iter().any(|e| e.is_ready() || e.is_serving_terminating());
        choice.local = select(all, |e| e.local && e.is_ready());
        if choice.local.is_empty() {
            choice.local = select(all, |e| e.local && e.is_serving_terminating());
        }
    }
    choice
}

/// The endpoints that pass; the very same list if all do.
fn select(all: &Arc<[Endpoint]>, pass: impl Fn(&Endpoint) -> bool) -> Arc<[Endpoint]> {
    if all.iter().all(&pass) {
        return all.clone();
    }
    all.iter().filter(|endpoint| pass(endpoint)).cloned().collect()
}

/// Which hints count. They do only if every ready endpoint has one and at least one points here; otherwise a
/// half-hinted slice would overload the few endpoints that carry hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TopologyMode {
    Everywhere,
    SameNode,
    SameZone,
}

impl TopologyMode {
    fn of(all: &[Endpoint], zone: Option<&str>) -> Self {
        let ready = || all.iter().filter(|e| e.is_ready());
        if ready().all(|e| e.node_hint != NodeHint::Absent)
            && ready().any(|e| e.node_hint == NodeHint::ThisNode)
        {
            Self::SameNode
        } else if zone.is_some()
            && ready().all(|e| e.zone_hints.is_some())
            && ready().any(|e| hints_zone(e, zone))
        {
            Self::SameZone
        } else {
            Self::Everywhere
        }
    }

    fn allows(self, endpoint: &Endpoint, zone: Option<&str>) -> bool {
        match self {
            Self::Everywhere => true,
            Self::SameNode => endpoint.node_hint == NodeHint::ThisNode,
            Self::SameZone => hints_zone(endpoint, zone),
        }
    }
}

fn hints_zone(endpoint: &Endpoint, zone: Option<&str>) -> bool {
    match (&endpoint.zone_hints, zone) {
        (Some(zones), Some(zone)) => zones.iter().any(|hint| &**hint == zone),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
