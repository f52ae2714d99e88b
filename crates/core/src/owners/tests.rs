//! One owner for each frontend, whatever the order of claims; and conflicts are reported once.

use std::collections::BTreeSet;

use super::{Conflict, Owners};
use crate::testing::{applied, ip, name, port, port_name, service, tracker};
use crate::{Event, Frontend, FrontendKind, Protocol, Service, ServicePort, Tracker};

/// The external IPs that service `ns/NAME` has in the snapshot.
fn external_ips(tracker: &Tracker, service: &str) -> Vec<String> {
    addresses(tracker, service, FrontendKind::ExternalIp)
}

fn vips(tracker: &Tracker, service: &str) -> Vec<String> {
    addresses(tracker, service, FrontendKind::LoadBalancerVip)
}

fn cluster_ips(tracker: &Tracker, service: &str) -> Vec<String> {
    addresses(tracker, service, FrontendKind::ClusterIp)
}

fn addresses(tracker: &Tracker, service: &str, of: FrontendKind) -> Vec<String> {
    let own = entry(tracker, service).frontends.iter().filter(|(_, kind)| *kind == of);
    own.filter_map(|(frontend, _)| Some(frontend.ip()?.to_string())).collect()
}

fn entry<'a>(tracker: &'a Tracker, service: &str) -> &'a ServicePort {
    &tracker.snapshot().services[&port_name(&format!("ns/{service}"), "")].port
}

fn with_external_ip(text: &str, cluster_ip: &str, external: &str) -> Service {
    Service { external_ips: vec![ip(external)], ..service(text, cluster_ip) }
}

fn with_vip(text: &str, cluster_ip: &str, vip: &str) -> Service {
    Service { load_balancer_vips: vec![ip(vip)], ..service(text, cluster_ip) }
}

/// A tracker that was folded after each event.
fn stepwise(events: impl IntoIterator<Item = Event>) -> Tracker {
    let mut tracker = tracker();
    for event in events {
        tracker.apply(event);
        tracker.fold();
    }
    tracker
}

#[test]
fn the_first_by_name_owns_an_external_ip_and_leaves_it_to_the_next() {
    let a = || applied(with_external_ip("ns/a", "10.96.0.1", "192.0.2.1"));
    let b = || applied(with_external_ip("ns/b", "10.96.0.2", "192.0.2.1"));
    for events in [[a(), b()], [b(), a()]] {
        let mut tracker = stepwise(events);
        assert_eq!(external_ips(&tracker, "a"), ["192.0.2.1"]);
        assert!(external_ips(&tracker, "b").is_empty());
        assert_eq!(tracker.contested_frontends(), 1);
        tracker.apply(Event::ServiceDeleted(name("ns/a")));
        let changes = tracker.fold();
        assert!(changes.services.contains(&port_name("ns/b", "")), "it got something");
        assert_eq!(external_ips(&tracker, "b"), ["192.0.2.1"]);
        assert_eq!(tracker.contested_frontends(), 0);
    }
}

#[test]
fn a_cluster_ip_goes_before_a_vip_and_a_vip_before_an_external_ip() {
    let external = || applied(with_external_ip("ns/a", "10.96.0.1", "192.0.2.1"));
    let vip = || applied(with_vip("ns/b", "10.96.0.2", "192.0.2.1"));
    let cluster_ip = || applied(service("ns/c", "192.0.2.1"));
    for events in [[external(), vip(), cluster_ip()], [cluster_ip(), vip(), external()]] {
        let mut tracker = stepwise(events);
        assert!(external_ips(&tracker, "a").is_empty());
        assert!(vips(&tracker, "b").is_empty());
        assert!(!entry(&tracker, "b").externally_reachable());
        tracker.apply(Event::ServiceDeleted(name("ns/c")));
        tracker.fold();
        assert!(external_ips(&tracker, "a").is_empty(), "its ranges may be closed");
        assert_eq!(vips(&tracker, "b"), ["192.0.2.1"]);
    }
}

#[test]
fn a_contested_cluster_ip_has_one_owner_and_goes_to_the_next() {
    let a = || applied(service("ns/a", "10.96.0.1"));
    let b = || applied(with_external_ip("ns/b", "10.96.0.1", "192.0.2.1"));
    for events in [[a(), b()], [b(), a()]] {
        let mut tracker = stepwise(events);
        assert_eq!(cluster_ips(&tracker, "a"), ["10.96.0.1"]);
        assert!(cluster_ips(&tracker, "b").is_empty(), "no two entries have one frontend");
        assert_eq!(external_ips(&tracker, "b"), ["192.0.2.1"], "it keeps what is its own");
        assert_eq!(entry(&tracker, "b").cluster_ip, ip("10.96.0.1"), "what it is known by");
        tracker.apply(Event::ServiceDeleted(name("ns/a")));
        let changes = tracker.fold();
        assert!(changes.services.contains(&port_name("ns/b", "")), "it got something");
        assert_eq!(cluster_ips(&tracker, "b"), ["10.96.0.1"]);
    }
}

#[test]
fn other_ports_and_protocols_are_other_frontends() {
    let mut udp = with_external_ip("ns/b", "10.96.0.2", "192.0.2.1");
    udp.ports[0].protocol = Protocol::Udp;
    let mut other = with_external_ip("ns/c", "10.96.0.3", "192.0.2.1");
    other.ports[0].port = port(81);
    let first = with_external_ip("ns/a", "10.96.0.1", "192.0.2.1");
    let tracker = stepwise([applied(first), applied(udp), applied(other)]);
    assert_eq!(tracker.contested_frontends(), 0);
}

#[test]
fn a_node_port_has_one_owner() {
    let node_port = |text: &str, cluster_ip: &str| {
        let mut service = service(text, cluster_ip);
        service.ports[0].node_port = Some(port(30080));
        applied(service)
    };
    let tracker = stepwise([node_port("ns/b", "10.96.0.2"), node_port("ns/a", "10.96.0.1")]);
    assert_eq!(entry(&tracker, "a").node_port(), Some(30080));
    assert_eq!(entry(&tracker, "b").node_port(), None);
}

#[test]
fn a_conflict_is_reported_once_for_as_long_as_it_lasts() {
    let a = || applied(with_external_ip("ns/a", "10.96.0.1", "192.0.2.1"));
    let mut tracker = stepwise([a(), applied(with_external_ip("ns/b", "10.96.0.2", "192.0.2.1"))]);
    let conflict = Conflict {
        frontend: Frontend::Address(Protocol::Tcp, "192.0.2.1:80".parse().unwrap()),
        owner: port_name("ns/a", ""),
        loser: port_name("ns/b", ""),
    };
    assert_eq!(tracker.take_new_conflicts(), std::slice::from_ref(&conflict));
    let mut changed = with_external_ip("ns/a", "10.96.0.1", "192.0.2.1");
    changed.external_ips.push(ip("192.0.2.2"));
    tracker.apply(applied(changed));
    tracker.fold();
    assert!(tracker.take_new_conflicts().is_empty(), "it lasts");
    tracker.apply(Event::ServiceDeleted(name("ns/a")));
    tracker.fold();
    assert!(tracker.take_new_conflicts().is_empty());
    tracker.apply(a());
    tracker.fold();
    assert_eq!(tracker.take_new_conflicts(), [conflict], "it is a new one");
}

#[test]
fn nothing_is_left_of_services_that_are_gone() {
    let mut owners = Owners::default();
    let mut affected = BTreeSet::new();
    let ports: Vec<_> = ["ns/a", "ns/b", "ns/c"]
        .iter()
        .flat_map(|text| {
            with_vip(text, "10.96.0.1", "192.0.2.1").service_ports(crate::IpFamily::V4)
        })
        .collect();
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        for (name, port) in &ports {
            owners.claim(name, port, &mut affected);
        }
        for index in order {
            let (name, port) = &ports[index];
            owners.release(name, port, &mut affected);
        }
        assert!(owners.holders.is_empty() && owners.waiting.is_empty(), "{owners:?}");
    }
    owners.take_new_conflicts();
    assert!(owners.reported.is_empty() && owners.unsettled.is_empty());
}
