//! Sentences.

use kube_proxy_core::Spill;
use kube_proxy_core::explain::{Masquerading, Relation};

use crate::debug::explanation::{EndpointUse, Path, Reason, Session, SourceKind, Verdict};
use crate::debug::{ServicePortId, UnusedReason};

/// All of a path in one sentence.
pub(super) fn summary(path: &Path) -> String {
    let source = match (path.source, path.source_address) {
        (SourceKind::Pod, Some(ip)) => format!("pod {ip}"),
        (SourceKind::Pod, None) => "a pod of this node".to_owned(),
        (SourceKind::Node, _) => "this node".to_owned(),
        (SourceKind::Outside, Some(ip)) => format!("{ip}, outside this node,"),
        (SourceKind::Outside, None) => "outside".to_owned(),
    };
    let to = format!("{}/{}", path.destination, path.protocol.to_lowercase());
    let service =
        path.service_port.as_ref().map_or(String::new(), |port| format!(" ({})", name(&port.id)));
    let but = match path.on_node.as_ref().map_or(0, |on_node| on_node.wrong) {
        0 => String::new(),
        1 => " But 1 object on this node is not as it should be for that.".to_owned(),
        wrong => format!(" But {wrong} objects on this node are not as they should be for that."),
    };
    format!("A new connection from {source} to {to}{service} {}.{but}", fate(path))
}

fn fate(path: &Path) -> String {
    let used: Vec<_> = path.endpoints.iter().filter(|endpoint| endpoint.unused.is_none()).collect();
    match (path.verdict, path.reason) {
        (Verdict::Endpoints, _) => {
            if let Some(Session::Found { endpoint, seconds_left, followed: true }) = path.session {
                let of_session: Vec<_> =
                    used.into_iter().filter(|use_of| use_of.address == endpoint).collect();
                let kept = kept(&of_session);
                return format!(
                    "goes to endpoint {endpoint}, where its session leads for another {seconds_left} s, {kept}"
                );
            }
            let kept = kept(&used);
            match used[..] {
                [only] => format!("goes to endpoint {}, {kept}", only.address),
                _ => format!("goes to one of {} endpoints, {kept}", used.len()),
            }
        }
        (verdict, reason) => format!("is {}: {}", done(verdict, path.to_node), because(reason)),
    }
}

fn kept(used: &[&EndpointUse]) -> &'static str {
    if used.iter().all(|endpoint| endpoint.masqueraded) {
        "with the address of this node as its source"
    } else {
        "with its own source address"
    }
}

fn done(verdict: Verdict, to_node: bool) -> &'static str {
    match (verdict, to_node) {
        (Verdict::Endpoints, _) => "served",
        (Verdict::Refused, _) => "refused at once",
        (Verdict::Dropped, _) => "dropped, so that the client waits in vain",
        (Verdict::Passed, true) => {
            "left to this node itself, which refuses it unless a program listens there"
        }
        (Verdict::Passed, false) => "left to the routes of this node",
    }
}

fn because(reason: Reason) -> &'static str {
    match reason {
        Reason::HasEndpoints => "there are endpoints",
        Reason::NoEndpoints => "no endpoint of the Service is ready, on any node",
        Reason::NoLocalEndpoints => {
            "the traffic policy is Local and no endpoint on this node is ready"
        }
        Reason::SourceRanges => "the source is in none of the loadBalancerSourceRanges",
        Reason::Loopback => "node ports are not served on loopback addresses",
        Reason::OtherPort => "the address belongs to a Service, but no Service has this port there",
        Reason::UnusedClusterIp => "no Service has this cluster IP",
        Reason::NoServicePort => "no Service has this address and port",
    }
}

/// What to do next, where something is wrong.
pub(super) fn advice(path: &Path) -> Vec<String> {
    let mut advice = Vec::new();
    let object =
        path.service_port.as_ref().map(|port| format!("{}/{}", port.id.namespace, port.id.name));
    let object = object.as_deref().unwrap_or_default();
    match path.reason {
        Reason::HasEndpoints => {}
        Reason::NoEndpoints if path.endpoints.is_empty() => advice.push(format!(
            "Service {object} has no endpoints: compare its selector with the labels of the pods, and its targetPort \
             with their ports"
        )),
        Reason::NoEndpoints if path.endpoints.iter().any(drains) => advice.push(format!(
            "none of the {} endpoints of Service {object} takes new connections ({}): look at the weights that \
             annotations of its EndpointSlices give",
            path.endpoints.len(),
            reasons(path)
        )),
        Reason::NoEndpoints => advice.push(format!(
            "none of the {} endpoints of Service {object} takes traffic ({}): look at the readiness probes of the pods",
            path.endpoints.len(),
            reasons(path)
        )),
        Reason::NoLocalEndpoints => advice.push(format!(
            "Service {object} has {} on other nodes: send the traffic there, run a pod here, or set the traffic \
             policy to Cluster",
            count(elsewhere(path), "endpoint")
        )),
        Reason::SourceRanges => advice.push(format!(
            "add the source to spec.loadBalancerSourceRanges of Service {object}, if it is to be let in"
        )),
        Reason::Loopback => {
            advice.push("use an address of the node instead of loopback, or the cluster IP".to_owned());
        }
        Reason::OtherPort | Reason::UnusedClusterIp | Reason::NoServicePort => {
            match path.nearest.first() {
                Some(near) => advice.push(format!(
                    "perhaps {} at {} is meant: {}",
                    name(&near.service_port),
                    near.frontend,
                    near.relation
                )),
                None => advice.push(
                    "check the address and port; kube-proxy services lists what this node serves".to_owned(),
                ),
            }
        }
    }
    let frontend = path.frontend.as_ref();
    for loser in frontend.iter().flat_map(|frontend| &frontend.contested_by) {
        advice.push(format!("{} asks for this frontend too and does without it", name(loser)));
    }
    advice
}

/// Endpoints on other nodes that take traffic there: the ready ones, or else any.
fn elsewhere(path: &Path) -> usize {
    match path.service_port.as_ref().map_or(0, |port| port.endpoints_ready) {
        0 => path.endpoints.iter().filter(|endpoint| !endpoint.local).count(),
        ready => ready,
    }
}

fn drains(endpoint: &EndpointUse) -> bool {
    endpoint.unused == Some(UnusedReason::Draining)
}

/// The reasons of unused endpoints, each with its number.
fn reasons(path: &Path) -> String {
    let mut counts: Vec<(UnusedReason, usize)> = Vec::new();
    for reason in path.endpoints.iter().filter_map(|endpoint| endpoint.unused) {
        match counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((reason, 1)),
        }
    }
    let texts = counts.iter().map(|(reason, count)| format!("{count} {}", reason.text()));
    texts.collect::<Vec<_>>().join(", ")
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `namespace/name:port`.
fn name(id: &ServicePortId) -> String {
    let port = if id.port_name.is_empty() { String::new() } else { format!(":{}", id.port_name) };
    format!("{}/{}{port}", id.namespace, id.name)
}

pub(super) fn masquerading(masquerading: Masquerading) -> &'static str {
    match masquerading {
        Masquerading::External => {
            "the frontend is external and its policy Cluster: answers must come back through this node"
        }
        Masquerading::FromElsewhere => "the source is no pod of this node",
        Masquerading::All => "--masquerade-all",
        Masquerading::Node => {
            "this node itself is the client, and the endpoint may be on another node"
        }
        Masquerading::Copied => "kube-proxy copies the connection",
        Masquerading::LocalPod => "the source is a pod of this node",
        Masquerading::Local => "the policy is Local",
        Masquerading::Unknown => {
            "pods of this node cannot be recognised: no detectLocalMode applies"
        }
    }
}

/// Why endpoints of other zones are used too.
pub(super) fn spill(spill: Spill, zone: Option<&str>) -> String {
    let Spill { in_zone, ready, below } = spill;
    let zone = zone.unwrap_or("the zone of this node");
    format!(
        "{in_zone} of {} in {zone}, which is below {below}: those of other zones join",
        count(ready, "ready endpoint")
    )
}

pub(super) fn relation(relation: Relation) -> &'static str {
    match relation {
        Relation::OtherProtocol => "the same address and port, for another protocol",
        Relation::TargetPort => {
            "its endpoints listen at the port that was asked for, the targetPort"
        }
        Relation::OtherPort => "the same address, another port",
        Relation::NodePort => "the same port, but node ports are not served at this address",
        Relation::Endpoint => {
            "the destination is one of its endpoints, so no Service is on the way"
        }
    }
}
