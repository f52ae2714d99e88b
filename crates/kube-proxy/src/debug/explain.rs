//! From the snapshot of a family to an explanation.

mod connections;
mod on_node;
mod sessions;
mod text;

use kube_proxy_core as core;
use kube_proxy_core::explain::{self as rules, NodeFacts, Packet, Source};
use kube_proxy_core::{FrontendQuery, ServicePortName, SessionKey, Tracker};

use super::destination::{Destination, Origin};
use super::endpoints::SlowStart;
use super::explanation::{EndpointUse, Masquerade, Nearest, Path, Reason, SourceKind, Verdict};
use super::names::ServicePortId;
use super::view;
use crate::family::state::{FamilyServices, FamilyState, ServiceFilter};
use crate::telemetry::traffic::Counted;

pub(super) use connections::add_connections;
pub(super) use on_node::look_up;
pub(super) use sessions::add_sessions;

/// What one family says to a question.
pub(super) struct FamilyExplanation {
    pub(super) state: FamilyState,
    pub(super) paths: Vec<Path>,
    /// What the source's session is found by, for those paths whose endpoint depends on one: with the index of the path.
    pub(super) sessions: Vec<(usize, SessionKey)>,
    /// What to look up on the node, likewise.
    pub(super) queries: Vec<(usize, FrontendQuery)>,
    pub(super) similar: Vec<ServicePortId>,
}

/// Explains what one family does. `counted` is what was counted of a service port, if that is asked for.
pub(super) fn of_family(
    tracker: &Tracker,
    state: FamilyState,
    facts: &NodeFacts,
    counted: impl Fn(&ServicePortName) -> Option<Counted>,
    from: Option<Origin>,
    to: &Destination,
) -> FamilyExplanation {
    let client = match from {
        Some(Origin::Address(ip)) => Some(ip),
        _ => None,
    };
    let without_short_circuit = state.without_short_circuit.clone();
    let facts = &NodeFacts { without_short_circuit, ..facts.clone() };
    let (mut paths, mut sessions, mut queries) = (Vec::new(), Vec::new(), Vec::new());
    for packet in to.packets(from, tracker, facts) {
        let found = tracker.explain(facts, &packet);
        let key = client.and_then(|client| found.session_key(facts, &packet, client));
        sessions.extend(key.map(|key| (paths.len(), key)));
        queries.extend(found.frontend_query(&packet).map(|query| (paths.len(), query)));
        let mut path = path(tracker, &state, &packet, &found);
        if let (Some(port), Some(served)) = (&mut path.service_port, &found.served) {
            port.counters = counted(served.name).and_then(view::counters);
        }
        paths.push(path);
    }
    let similar = if paths.is_empty() { to.similar(tracker) } else { Vec::new() };
    let similar = similar.iter().map(Into::into).collect();
    FamilyExplanation { state, paths, sessions, queries, similar }
}

fn path(
    tracker: &Tracker,
    state: &FamilyState,
    packet: &Packet,
    found: &rules::Explanation<'_>,
) -> Path {
    let mut path = Path {
        family: state.family.to_string(),
        source: match packet.source {
            Source::Pod(_) => SourceKind::Pod,
            Source::Node => SourceKind::Node,
            Source::Outside(_) => SourceKind::Outside,
        },
        source_address: packet.source.ip(),
        protocol: packet.protocol.to_string(),
        destination: packet.destination,
        verdict: found.verdict.into(),
        reason: found.reason.into(),
        to_node: found.to_node,
        service_port: None,
        frontend: None,
        policy: None,
        short_circuit: false,
        spill: None,
        source_allowed: None,
        masquerade: None,
        endpoints: Vec::new(),
        session: None,
        nearest: found.nearest.iter().map(nearest).collect(),
        connections: None,
        on_node: None,
        summary: String::new(),
        advice: Vec::new(),
    };
    if let Some(served) = &found.served {
        add_service_port(&mut path, tracker, state, served);
    }
    path.summary = text::summary(&path);
    path.advice = text::advice(&path);
    path
}

fn add_service_port(
    path: &mut Path,
    tracker: &Tracker,
    state: &FamilyState,
    served: &rules::Served<'_>,
) {
    let service = &served.name.service;
    let filter = ServiceFilter {
        namespace: Some((*service.namespace).to_owned()),
        name: Some((*service.name).to_owned()),
    };
    let mut all = FamilyServices::of(tracker, &filter, state.clone());
    all.ports.retain(|port| port.name == *served.name);
    let port = view::service_ports(&all, false).pop();
    let is_asked = |frontend: &&super::services::Frontend| {
        frontend.address == served.frontend.ip() && frontend.port == served.frontend.port()
    };
    path.frontend = port.as_ref().and_then(|port| port.frontends.iter().find(is_asked).cloned());
    path.service_port = port;
    path.policy = Some(served.policy.into());
    path.short_circuit = served.short_circuit;
    path.spill = served.spill.map(|spill| text::spill(spill, state.zone.as_deref()));
    path.source_allowed = served.source_allowed;
    path.masquerade = Some(Masquerade {
        masqueraded: served.masquerade.is_masqueraded(),
        reason: text::masquerading(served.masquerade).to_owned(),
    });
    path.endpoints = served
        .endpoints
        .iter()
        .map(|use_of| EndpointUse {
            address: use_of.endpoint.socket_address(),
            local: use_of.endpoint.is_local(),
            weight: view::weight(use_of.endpoint),
            slow_start: SlowStart::of(use_of.endpoint),
            unused: use_of.unused.map(Into::into),
            masqueraded: use_of.masqueraded,
        })
        .collect();
}

fn nearest(near: &rules::Nearest<'_>) -> Nearest {
    let frontend = match near.frontend {
        core::Frontend::Address(protocol, address) => format!("{address}/{}", protocol.lower()),
        core::Frontend::NodePort(protocol, port) => format!(":{port}/{}", protocol.lower()),
    };
    Nearest {
        relation: text::relation(near.relation).to_owned(),
        service_port: near.name.into(),
        frontend,
    }
}

impl From<rules::Verdict> for Verdict {
    fn from(verdict: rules::Verdict) -> Self {
        match verdict {
            rules::Verdict::Endpoints => Self::Endpoints,
            rules::Verdict::Refused => Self::Refused,
            rules::Verdict::Dropped => Self::Dropped,
            rules::Verdict::Passed => Self::Passed,
        }
    }
}

impl From<rules::Reason> for Reason {
    fn from(reason: rules::Reason) -> Self {
        match reason {
            rules::Reason::HasEndpoints => Self::HasEndpoints,
            rules::Reason::NoEndpoints => Self::NoEndpoints,
            rules::Reason::NoLocalEndpoints => Self::NoLocalEndpoints,
            rules::Reason::SourceRanges => Self::SourceRanges,
            rules::Reason::Loopback => Self::Loopback,
            rules::Reason::OtherPort => Self::OtherPort,
            rules::Reason::UnusedClusterIp => Self::UnusedClusterIp,
            rules::Reason::NoServicePort => Self::NoServicePort,
        }
    }
}
