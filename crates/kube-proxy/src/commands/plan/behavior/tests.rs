use kube_proxy_core::explain::{LoopbackNodePorts, ModeBehavior, OtherPorts};
use kube_proxy_core::testing::{applied, ready, service, slice, tracker};
use kube_proxy_core::{Event, LocalTrafficDetector, NodePortAddresses, Tracker};

use super::*;

/// A Service with a node port, in front of two endpoints.
fn served() -> Tracker {
    let mut tracker = tracker();
    let mut web = service("shop/web", "10.96.0.1");
    web.ports[0].node_port = Some(30_080.try_into().unwrap());
    tracker.apply(applied(web));
    let endpoints = vec![ready("10.0.0.1"), ready("10.0.0.2")];
    tracker.apply(Event::EndpointSliceApplied(slice("shop/web-1", "web", endpoints)));
    tracker.fold();
    tracker
}

fn facts() -> NodeFacts {
    NodeFacts {
        local_traffic: LocalTrafficDetector::None,
        pod_cidrs: Vec::new(),
        addresses: vec!["192.0.2.1".parse().unwrap(), "192.0.2.77".parse().unwrap()],
        node_ports: NodePortAddresses::All,
        masquerade_all: false,
        without_short_circuit: std::collections::BTreeSet::new(),
        mode: ModeBehavior { loopback: LoopbackNodePorts::Served, ..ModeBehavior::default() },
    }
}

fn found(new: &NodeFacts) -> Vec<(Severity, String, String)> {
    let tracker = served();
    let all = findings(&tracker, &facts(), new);
    all.into_iter().map(|finding| (finding.severity, finding.id, finding.what)).collect()
}

#[test]
fn the_same_mode_differs_in_nothing() {
    assert_eq!(found(&facts()), []);
}

#[test]
fn what_clients_lose_is_a_warning_with_its_places() {
    let only = vec!["192.0.2.1/32".parse().unwrap()];
    let new = NodeFacts {
        node_ports: NodePortAddresses::Within(only),
        without_short_circuit: std::collections::BTreeSet::new(),
        mode: ModeBehavior::default(),
        ..facts()
    };
    let expected = [
        (Severity::Warning, "localhost-node-ports".to_owned(), "IPv4: connections of this node to node ports on its loopback address will find no rule of kube-proxy; now they reach an endpoint\n    127.0.0.1:30080/tcp (shop/web)".to_owned()),
        (Severity::Warning, "node-ports".to_owned(), "IPv4: connections to node ports will find no rule of kube-proxy; now they reach an endpoint\n    192.0.2.77:30080/tcp (shop/web)".to_owned()),
    ];
    assert_eq!(found(&new), expected);
}

#[test]
fn what_they_see_otherwise_is_a_note() {
    let mode = ModeBehavior { other_ports: OtherPorts::RefusedAtClusterIps, ..facts().mode };
    let found_ports = found(&NodeFacts { mode, ..facts() });
    let [(severity, id, what)] = &found_ports[..] else { panic!("{found_ports:?}") };
    assert_eq!((*severity, id.as_str()), (Severity::Note, "other-ports"));
    assert!(what.contains("will be refused; now no rule of kube-proxy is for them"), "{what}");
    let masqueraded = found(&NodeFacts { masquerade_all: true, ..facts() });
    let [(severity, id, what)] = &masqueraded[..] else { panic!("{masqueraded:?}") };
    assert_eq!((*severity, id.as_str()), (Severity::Note, "service-addresses"));
    assert!(what.contains("will come from the address of this node"), "{what}");
}
