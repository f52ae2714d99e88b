//! From what the families work with to what is shown.

use kube_proxy_core as core;
use kube_proxy_core::{Conflict, Protocol, ServicePortName, TrafficPolicy, Unused, ZoneSpill};
use kube_proxy_nftables::FAST_PATH_ANNOTATION;

use super::change::Change;
use super::endpoints::{Endpoint, Selection, SlowStart, UnusedReason};
use super::names::{FrontendKind, Policy, ServicePortId};
use super::services::{Counters, Family, FastPath, Frontend, ServicePort};
use super::time::time;
use crate::family::state::{FamilyServices, FamilyState, ServedPort};
use crate::telemetry::traffic::Counted;

pub(super) fn family(state: &FamilyState) -> Family {
    Family {
        family: state.family.to_string(),
        synced: state.synced.map(time),
        waiting_seconds: state.waiting.map(|waiting| waiting.as_secs_f64()),
        failure: state.failure.clone(),
        node_ip: state.node_ip,
        zone: state.zone.as_deref().map(str::to_owned),
        changes_since: Some(time(state.changes.since)),
    }
}

/// The service ports of a family; without their endpoints if those are not wanted.
pub(super) fn service_ports(all: &FamilyServices, endpoints: bool) -> Vec<ServicePort> {
    let changes = all.state.last_changes();
    let shown = |port: &ServedPort| {
        let mut shown = service_port(all, port, endpoints);
        let last = changes.get(&port.name.service);
        shown.last_change = last.map(|change| Change::new(all.state.family, change));
        shown
    };
    all.ports.iter().map(shown).collect()
}

/// What was counted; nothing if all of it is of service ports that are not counted alone.
pub(super) fn counters(counted: Counted) -> Option<Counters> {
    let Counted { connections, refused } = counted;
    let refused = refused.into_iter().map(|(reason, n)| (reason.name().to_owned(), n)).collect();
    Some(Counters { connections, refused }).filter(|counters| *counters != Counters::default())
}

fn service_port(all: &FamilyServices, served: &ServedPort, endpoints: bool) -> ServicePort {
    let ServedPort { name, entry, requested } = served;
    let port = &entry.port;
    let policy = &port.policy;
    let external = port.externally_reachable();
    ServicePort {
        family: all.state.family.to_string(),
        id: name.into(),
        cluster_ip: port.cluster_ip,
        port: port.port.get(),
        frontends: frontends(name, requested.as_ref().unwrap_or(port), &all.conflicts),
        internal_traffic_policy: policy.internal_traffic_policy.into(),
        external_traffic_policy: external.then(|| policy.external_traffic_policy.into()),
        no_local_endpoints: (external && policy.external_traffic_policy == TrafficPolicy::Local)
            .then(|| policy.no_local_endpoints.unwrap_or_default().name().to_owned()),
        zone_spill_below: policy
            .zone_spill
            .filter(|spill| *spill != ZoneSpill::default())
            .map(|spill| spill.to_string()),
        reset_dead_connections: policy.reset_dead_connections,
        fast_path: match policy.annotation(FAST_PATH_ANNOTATION) {
            // No flowtable takes it.
            _ if port.protocol == Protocol::Sctp => None,
            Some("true") if all.state.lacks_fast_path => Some(FastPath::Lacking),
            Some("true") => Some(FastPath::On),
            Some("false") => Some(FastPath::Off),
            _ => None,
        },
        session_affinity_seconds: policy.session_affinity.map(|timeout| timeout.as_secs()),
        lb_algorithm: policy.algorithm.map(|algorithm| algorithm.name().to_owned()),
        slow_start: policy
            .slow_start
            .filter(|slow| slow.duration().is_some())
            .map(|slow| slow.to_string()),
        source_ranges: policy.load_balancer_source_ranges.iter().map(ToString::to_string).collect(),
        health_check_node_port: policy.health_check_node_port.map(std::num::NonZero::get),
        last_change: None,
        counters: None,
        endpoints_used: entry.choice.reachable().count(),
        endpoints_ready: entry.endpoints.iter().filter(|e| e.is_ready()).count(),
        endpoints_total: entry.endpoints.len(),
        endpoints: if endpoints { self::endpoints(all, entry) } else { Vec::new() },
    }
}

fn frontends(
    name: &ServicePortName,
    port: &core::ServicePort,
    conflicts: &[Conflict],
) -> Vec<Frontend> {
    let shown = |&(frontend, kind): &(core::Frontend, core::FrontendKind)| {
        let about = || conflicts.iter().filter(move |conflict| conflict.frontend == frontend);
        let lost = about().find(|conflict| conflict.loser == *name);
        let won = about().filter(|conflict| conflict.owner == *name);
        Frontend {
            kind: kind.into(),
            address: frontend.ip(),
            port: frontend.port(),
            policy: port.traffic_policy(kind).into(),
            owner: lost.map(|conflict| (&conflict.owner).into()),
            contested_by: won.map(|conflict| (&conflict.loser).into()).collect(),
        }
    };
    port.frontends.iter().map(shown).collect()
}

fn endpoints(all: &FamilyServices, entry: &core::ServiceEntry) -> Vec<Endpoint> {
    let zone = all.state.zone.as_deref();
    let used = TrafficPolicy::ALL.into_iter().filter(|policy| entry.port.uses(*policy));
    let selections: Vec<_> = used
        .map(|policy| {
            let kinds = entry.port.kinds_under(policy).into_iter().map(FrontendKind::from);
            let selection = core::Selection::of(policy, &entry.port, &entry.endpoints, zone);
            (policy, kinds.collect::<Vec<_>>(), selection)
        })
        .collect();
    let shown = |endpoint: &core::Endpoint| Endpoint {
        address: endpoint.socket_address(),
        ready: endpoint.conditions.ready,
        serving: endpoint.conditions.serving,
        terminating: endpoint.conditions.terminating,
        local: endpoint.is_local(),
        zone_hints: zone_hints(endpoint),
        hinted_here: match endpoint.node_hint {
            core::endpoint::NodeHint::Absent => None,
            core::endpoint::NodeHint::ThisNode => Some(true),
            core::endpoint::NodeHint::OtherNode => Some(false),
        },
        weight: weight(endpoint),
        slow_start: SlowStart::of(endpoint),
        selections: selections
            .iter()
            .map(|(policy, frontends, selection)| Selection {
                policy: (*policy).into(),
                frontends: frontends.clone(),
                unused: selection.reason_against(endpoint).map(UnusedReason::from),
            })
            .collect(),
    };
    entry.endpoints.iter().map(shown).collect()
}

/// The weight of an endpoint, unless it is the usual one.
pub(super) fn weight(endpoint: &core::Endpoint) -> Option<u16> {
    Some(endpoint.weight()).filter(|weight| *weight != core::Steering::USUAL_WEIGHT)
}

fn zone_hints(endpoint: &core::Endpoint) -> Vec<String> {
    endpoint.zone_hints().into_iter().flatten().map(|zone| (**zone).to_owned()).collect()
}

impl From<&ServicePortName> for ServicePortId {
    fn from(name: &ServicePortName) -> Self {
        Self {
            namespace: (*name.service.namespace).to_owned(),
            name: (*name.service.name).to_owned(),
            port_name: (*name.port).to_owned(),
            protocol: name.protocol.to_string(),
        }
    }
}

impl From<core::FrontendKind> for FrontendKind {
    fn from(kind: core::FrontendKind) -> Self {
        match kind {
            core::FrontendKind::ClusterIp => Self::ClusterIp,
            core::FrontendKind::LoadBalancerVip => Self::LoadBalancerVip,
            core::FrontendKind::ExternalIp => Self::ExternalIp,
            core::FrontendKind::NodePort => Self::NodePort,
        }
    }
}

impl From<TrafficPolicy> for Policy {
    fn from(policy: TrafficPolicy) -> Self {
        match policy {
            TrafficPolicy::Cluster => Self::Cluster,
            TrafficPolicy::Local => Self::Local,
        }
    }
}

impl From<Unused> for UnusedReason {
    fn from(reason: Unused) -> Self {
        match reason {
            Unused::NotLocal => Self::NotLocal,
            Unused::NotReady => Self::NotReady,
            Unused::Terminating => Self::Terminating,
            Unused::NotServing => Self::NotServing,
            Unused::HintsOtherNode => Self::HintsOtherNode,
            Unused::HintsOtherZone => Self::HintsOtherZone,
            Unused::Draining => Self::Draining,
        }
    }
}

#[cfg(test)]
mod tests;
