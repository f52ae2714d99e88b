use std::net::SocketAddr;

use super::UdpFlow;
use crate::testing::ready as ready_endpoint;
use crate::testing::{applied, ip, name, port, service, slice, terminating, tracker};
use crate::{EndpointSlice, Event, Protocol, Service, SliceEndpoint, Tracker};

fn udp_service(text: &str, cluster_ip: &str) -> Service {
    let mut service = service(text, cluster_ip);
    service.ports[0].protocol = Protocol::Udp;
    service
}

fn udp_slice(text: &str, owner: &str, endpoints: Vec<SliceEndpoint>) -> Event {
    let mut slice: EndpointSlice = slice(text, owner, endpoints);
    slice.ports[0].protocol = Protocol::Udp;
    Event::EndpointSliceApplied(slice)
}

fn flow(to: &str, from: &str) -> UdpFlow {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address and port");
    UdpFlow { original_destination: address(to), reply_source: address(from) }
}

/// Service `ns/dns` at 10.96.0.10:80 and node port 30053 with endpoints 10.0.0.1 and 10.0.0.2, all checks done.
fn settled() -> Tracker {
    let mut tracker = tracker();
    let mut dns = udp_service("ns/dns", "10.96.0.10");
    dns.ports[0].node_port = Some(port(30053));
    dns.external_ips = vec![ip("192.0.2.53")];
    tracker.apply(applied(dns));
    tracker.apply(udp_slice(
        "ns/dns-1",
        "dns",
        vec![ready_endpoint("10.0.0.1"), ready_endpoint("10.0.0.2")],
    ));
    tracker.fold();
    tracker.take_udp_check().expect("a first check");
    tracker
}

/// Which of these flows are stale after the events: to the cluster IP, the external IP, a node port here and the same port elsewhere.
fn stale(tracker: &mut Tracker, events: Vec<Event>, from: &str) -> Vec<bool> {
    for event in events {
        tracker.apply(event);
    }
    tracker.fold();
    let Some(check) = tracker.take_udp_check() else {
        return Vec::new();
    };
    ["10.96.0.10:80", "192.0.2.53:80", "198.51.100.1:30053", "203.0.113.1:30053"]
        .iter()
        .map(|to| check.is_stale(&flow(to, from), |a| *a == ip("198.51.100.1")))
        .collect()
}

#[test]
fn the_first_sync_leaves_right_flows_alone() {
    let mut tracker = settled();
    tracker.apply(Event::ServiceDeleted(name("ns/none")));
    assert!(tracker.take_udp_check().is_none(), "nothing changed, nothing to check");
    let one = vec![udp_slice("ns/dns-1", "dns", vec![ready_endpoint("10.0.0.1")])];
    assert_eq!(stale(&mut tracker, one, "10.0.0.1:8080"), [false; 4]);
}

#[test]
fn flows_to_a_removed_endpoint_go_but_not_those_elsewhere() {
    let one = vec![udp_slice("ns/dns-1", "dns", vec![ready_endpoint("10.0.0.1")])];
    assert_eq!(stale(&mut settled(), one, "10.0.0.2:8080"), [true, true, true, false]);
}

#[test]
fn a_serving_endpoint_keeps_its_flows_while_it_terminates() {
    let one = vec![udp_slice(
        "ns/dns-1",
        "dns",
        vec![ready_endpoint("10.0.0.1"), terminating("10.0.0.2")],
    )];
    assert_eq!(stale(&mut settled(), one, "10.0.0.2:8080"), [false; 4]);
}

#[test]
fn an_endpoint_keeps_its_flows_while_it_drains() {
    let drained = |address| SliceEndpoint { weight: 0, ..ready_endpoint(address) };
    let one =
        vec![udp_slice("ns/dns-1", "dns", vec![ready_endpoint("10.0.0.1"), drained("10.0.0.2")])];
    assert_eq!(stale(&mut settled(), one, "10.0.0.2:8080"), [false; 4]);
    let all = vec![udp_slice("ns/dns-1", "dns", vec![drained("10.0.0.1"), drained("10.0.0.2")])];
    assert_eq!(stale(&mut settled(), all, "10.0.0.2:8080"), [false; 4], "also where all do");
}

#[test]
fn a_service_scaled_to_zero_keeps_no_flow() {
    let none = vec![Event::EndpointSliceDeleted(name("ns/dns-1"))];
    assert_eq!(stale(&mut settled(), none, "10.0.0.1:8080"), [true, true, true, false]);
}

#[test]
fn a_deleted_service_keeps_no_redirected_flow() {
    let gone = vec![Event::ServiceDeleted(name("ns/dns"))];
    assert_eq!(stale(&mut settled(), gone.clone(), "10.0.0.1:8080"), [true, true, true, false]);
    let mut tracker = settled();
    for event in gone {
        tracker.apply(event);
    }
    tracker.fold();
    let check = tracker.take_udp_check().expect("a check");
    let direct = flow("10.96.0.10:80", "10.96.0.10:80");
    assert!(!check.is_stale(&direct, |_| false), "never redirected, nobody's business");
}

#[test]
fn a_removed_frontend_loses_its_flows_and_the_others_keep_theirs() {
    let mut changed = udp_service("ns/dns", "10.96.0.10");
    changed.ports[0].node_port = Some(port(30053));
    assert_eq!(
        stale(&mut settled(), vec![applied(changed)], "10.0.0.1:8080"),
        [false, true, false, false]
    );
}

#[test]
fn flows_sent_into_the_void_before_the_service_existed_go() {
    let mut tracker = tracker();
    tracker.apply(applied(udp_service("ns/dns", "10.96.0.10")));
    tracker.apply(udp_slice("ns/dns-1", "dns", vec![ready_endpoint("10.0.0.1")]));
    tracker.fold();
    let check = tracker.take_udp_check().expect("a check");
    assert!(check.is_stale(&flow("10.96.0.10:80", "10.96.0.10:80"), |_| false));
    assert_eq!(check.only_destination(), Some("10.96.0.10:80".parse().unwrap()));
}

#[test]
fn a_cluster_ip_that_moves_to_another_service_is_judged_by_the_new_one() {
    let mut tracker = settled();
    let events = vec![
        Event::ServiceDeleted(name("ns/dns")),
        applied(udp_service("ns/a-new", "10.96.0.10")),
        udp_slice("ns/new-1", "a-new", vec![ready_endpoint("10.0.0.2")]),
    ];
    assert!(stale(&mut tracker, events.clone(), "10.0.0.1:8080")[0]);
    assert!(!stale(&mut settled(), events, "10.0.0.2:8080")[0]);
}

#[test]
fn a_check_that_failed_comes_back_with_the_next() {
    let mut tracker = settled();
    tracker.apply(Event::EndpointSliceDeleted(name("ns/dns-1")));
    tracker.fold();
    let check = tracker.take_udp_check().expect("a check");
    tracker.return_udp_check(&check);
    // In the meantime the endpoint is back: the newest state decides.
    let back = vec![udp_slice("ns/dns-1", "dns", vec![ready_endpoint("10.0.0.1")])];
    assert_eq!(stale(&mut tracker, back, "10.0.0.1:8080"), [false; 4]);
    let mut tracker = settled();
    tracker.apply(Event::ServiceDeleted(name("ns/dns")));
    tracker.fold();
    let check = tracker.take_udp_check().expect("a check");
    tracker.return_udp_check(&check);
    assert_eq!(stale(&mut tracker, vec![], "10.0.0.1:8080"), [true, true, true, false]);
}

#[test]
fn tcp_is_never_looked_at() {
    let mut tracker = tracker();
    tracker.apply(applied(service("ns/a", "10.96.0.1")));
    tracker.apply(Event::EndpointSliceApplied(slice(
        "ns/a",
        "a",
        vec![ready_endpoint("10.0.0.1")],
    )));
    tracker.fold();
    assert!(tracker.take_udp_check().is_none());
}

#[test]
fn a_frontend_that_two_services_want_is_judged_by_the_one_that_has_it() {
    let mut tracker = settled();
    let mut other = udp_service("ns/another", "10.96.0.11");
    other.external_ips = vec![ip("192.0.2.53")];
    // The other one is first by name and has the external IP, but never a cluster IP of another.
    let mut greedy = other.clone();
    greedy.external_ips.push(ip("10.96.0.10"));
    let endpoints = udp_slice("ns/another-1", "another", vec![ready_endpoint("10.0.0.9")]);
    let events = vec![applied(greedy), endpoints];
    assert_eq!(stale(&mut tracker, events, "10.0.0.9:8080"), [true, false, true, false]);
    // The loser no longer asks for it: nothing is different.
    let mut dns = udp_service("ns/dns", "10.96.0.10");
    dns.ports[0].node_port = Some(port(30053));
    assert_eq!(stale(&mut tracker, vec![applied(dns)], "10.0.0.9:8080"), []);
}
