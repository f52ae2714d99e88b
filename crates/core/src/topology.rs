//! Which endpoints take traffic: readiness, termination, traffic policies and topology hints.
//!
//! The rules are those of KEP-1669 (terminating endpoints), KEP-2433 and KEP-3015 (topology hints), KEP-2086 and KEP-1138 (internal and
//! external traffic policy), in the order in which the Kubernetes proxy applies them. What it does not know is [`ZoneSpill`]: the endpoints of
//! other zones join those of this node's zone where these are too few.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::endpoint::NodeHint;
use crate::{Conditions, Endpoint, ServicePort, TrafficPolicy, ZoneSpill};

/// The endpoints of a service port, by what a frontend may use.
///
/// Lists keep the order of the full list, and are the same allocation where they are equal to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSelection {
    /// For frontends under the `Cluster` policy, and for local traffic that is short-circuited to them.
    pub cluster: Arc<[Endpoint]>,
    /// For frontends under the `Local` policy.
    pub local: Arc<[Endpoint]>,
    /// Whether any endpoint anywhere can take traffic. If not, traffic is rejected;
    /// if so and the list that applies is empty, it is dropped.
    pub has_any_endpoint: bool,
}

impl EndpointSelection {
    /// Every endpoint that some frontend uses: the two lists together, each endpoint once.
    pub fn reachable(&self) -> impl Iterator<Item = &Endpoint> {
        let only_local =
            if Arc::ptr_eq(&self.cluster, &self.local) { &[][..] } else { &self.local };
        self.cluster
            .iter()
            .chain(only_local.iter().filter(|endpoint| !contains(&self.cluster, endpoint)))
    }
}

impl EndpointSelection {
    /// The endpoints that a policy allows.
    pub fn of(&self, policy: TrafficPolicy) -> &Arc<[Endpoint]> {
        match policy {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        }
    }
}

/// Whether the (sorted) list holds an endpoint with this address and port.
fn contains(sorted: &[Endpoint], endpoint: &Endpoint) -> bool {
    let key = sort_key(endpoint);
    sorted.binary_search_by(|other| sort_key(other).cmp(&key)).is_ok()
}

/// Whether the (sorted) list holds an endpoint at this address and port.
pub(crate) fn contains_address(sorted: &[Endpoint], address: SocketAddr) -> bool {
    let key = (address.ip(), address.port());
    sorted.binary_search_by(|other| sort_key(other).cmp(&key)).is_ok()
}

/// The order of endpoint lists: address, then port.
pub(crate) fn sort_key(endpoint: &Endpoint) -> (std::net::IpAddr, u16) {
    (endpoint.ip, endpoint.port.get())
}

/// Decides which endpoints each kind of frontend of `port` uses, on a node in `zone`.
pub fn choose(port: &ServicePort, all: &Arc<[Endpoint]>, zone: Option<&str>) -> EndpointSelection {
    let mut choice = EndpointSelection {
        cluster: Arc::default(),
        local: Arc::default(),
        has_any_endpoint: false,
    };
    let chosen = |policy| {
        let selection = Selection::of(policy, port, all, zone);
        select(all, |endpoint| selection.reason_against(endpoint).is_none())
    };
    if port.uses_cluster_endpoints() {
        choice.cluster = chosen(TrafficPolicy::Cluster);
        choice.has_any_endpoint = !choice.cluster.is_empty();
    }
    if port.uses_local_endpoints() {
        choice.has_any_endpoint |= all.iter().any(|e| e.is_ready() || e.is_serving_terminating());
        choice.local = chosen(TrafficPolicy::Local);
    }
    choice
}

/// How a policy selects from the endpoints of a service port: what [`choose`] applies to each of them, and what explains its choice.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    policy: TrafficPolicy,
    hints: TopologyMode,
    zone: Option<&'a str>,
    spill: Option<Spill>,
    /// No ready endpoint is left: terminating ones that still answer take their place.
    fallback: bool,
}

/// Why hints do not keep traffic in the zone of this node: too few endpoints are left there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spill {
    /// Ready endpoints whose hints name the zone.
    pub in_zone: usize,
    /// All that are ready.
    pub ready: usize,
    /// What is too few.
    pub below: ZoneSpill,
}

/// Why a policy does not use an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unused {
    /// The policy allows endpoints of this node only, and it runs on another one.
    NotLocal,
    /// It is not ready, and not about to go.
    NotReady,
    /// It is about to go; it still answers, but there are ready endpoints.
    Terminating,
    /// It is about to go and no longer answers.
    NotServing,
    /// Its hints name other nodes, and those of some endpoint this one.
    HintsOtherNode,
    /// Its hints name other zones, and those of some endpoint the zone of this node.
    HintsOtherZone,
    /// Its weight is 0: it keeps the connections that it has, and gets no new ones.
    Draining,
}

impl<'a> Selection<'a> {
    /// How `policy` selects from these endpoints of `port`, on a node in `zone`.
    pub fn of(
        policy: TrafficPolicy,
        port: &ServicePort,
        all: &[Endpoint],
        zone: Option<&'a str>,
    ) -> Self {
        let hints = match policy {
            TrafficPolicy::Cluster => TopologyMode::of(all, zone),
            TrafficPolicy::Local => TopologyMode::Everywhere,
        };
        let spill = Some(hints)
            .filter(|hints| *hints == TopologyMode::SameZone)
            .and_then(|_| spill(port.policy.zone_spill.unwrap_or_default(), all, zone));
        let hints = if spill.is_some() { TopologyMode::Everywhere } else { hints };
        let mut selection = Self { policy, hints, zone, spill, fallback: false };
        selection.fallback = !all.iter().any(|e| selection.reason_against(e).is_none());
        selection
    }

    /// Why it does not use this endpoint; `None` if it does.
    pub fn reason_against(&self, endpoint: &Endpoint) -> Option<Unused> {
        if self.policy == TrafficPolicy::Local && !endpoint.is_local() {
            return Some(Unused::NotLocal);
        }
        if endpoint.is_draining() {
            return Some(Unused::Draining);
        }
        if self.fallback && endpoint.is_serving_terminating() {
            return None;
        }
        if !endpoint.is_ready() || self.fallback {
            return Some(match endpoint.conditions {
                Conditions { terminating: false, .. } => Unused::NotReady,
                Conditions { serving: true, .. } => Unused::Terminating,
                Conditions { serving: false, .. } => Unused::NotServing,
            });
        }
        self.hints.reason_against(endpoint, self.zone)
    }

    /// Why endpoints of other zones join those of this node's, which hints alone would use; `None` if they do not.
    pub fn spill(&self) -> Option<Spill> {
        self.spill
    }

    /// Whether terminating endpoints take the place of ready ones, of which there are none.
    pub fn is_fallback(&self) -> bool {
        self.fallback
    }
}

/// Whether too few endpoints are in the zone.
fn spill(below: ZoneSpill, all: &[Endpoint], zone: Option<&str>) -> Option<Spill> {
    if below == ZoneSpill::default() {
        return None;
    }
    let ready = || all.iter().filter(|endpoint| endpoint.is_ready());
    let in_zone = ready().filter(|endpoint| hints_zone(endpoint, zone)).count();
    let ready = ready().count();
    below.is_due(in_zone, ready).then_some(Spill { in_zone, ready, below })
}

/// The endpoints that pass; the very same list if all do.
fn select(all: &Arc<[Endpoint]>, pass: impl Fn(&Endpoint) -> bool) -> Arc<[Endpoint]> {
    if all.iter().all(&pass) {
        return all.clone();
    }
    all.iter().filter(|endpoint| pass(endpoint)).cloned().collect()
}

/// Which hints count. They do only if every endpoint that takes new connections has one and at least one points here; otherwise a
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
            && ready().all(|e| e.zone_hints().is_some())
            && ready().any(|e| hints_zone(e, zone))
        {
            Self::SameZone
        } else {
            Self::Everywhere
        }
    }

    fn reason_against(self, endpoint: &Endpoint, zone: Option<&str>) -> Option<Unused> {
        match self {
            Self::Everywhere => None,
            Self::SameNode => {
                Some(Unused::HintsOtherNode).filter(|_| endpoint.node_hint != NodeHint::ThisNode)
            }
            Self::SameZone => Some(Unused::HintsOtherZone).filter(|_| !hints_zone(endpoint, zone)),
        }
    }
}

fn hints_zone(endpoint: &Endpoint, zone: Option<&str>) -> bool {
    match (endpoint.zone_hints(), zone) {
        (Some(zones), Some(zone)) => zones.iter().any(|hint| &**hint == zone),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
