use std::net::SocketAddr;

use super::super::{TcpFlow, TcpPhase};
use crate::testing::{applied, ip, name, port, ready, service, slice, terminating, tracker};
use crate::{Event, NoLocalEndpoints, Protocol, Service, Tracker, TrafficPolicy};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// A connection that waits for an answer from where it was sent to.
fn waiting(to: &str) -> TcpFlow {
    let to = address(to);
    TcpFlow { original_destination: to, reply_source: to, phase: TcpPhase::Waiting }
}

/// `ns/web` at 10.96.0.10:80, 192.0.2.10:80 and node port 30080.
fn web() -> Service {
    let mut web = service("ns/web", "10.96.0.10");
    web.ports[0].node_port = Some(port(30080));
    web.external_ips = vec![ip("192.0.2.10")];
    web
}

const DESTINATIONS: [&str; 4] =
    ["10.96.0.10:80", "192.0.2.10:80", "198.51.100.1:30080", "203.0.113.1:30080"];

/// Which of the connections to those destinations are early; `None` without a check.
fn early(tracker: &mut Tracker) -> Option<[bool; 4]> {
    tracker.fold();
    let check = tracker.take_early_check()?;
    let is_node = |ip: &std::net::IpAddr| *ip == address("198.51.100.1:1").ip();
    Some(DESTINATIONS.map(|to| tracker.is_early(&check, &waiting(to), is_node)))
}

/// A tracker after its first check.
fn started(services: &[Service]) -> Tracker {
    let mut tracker = tracker();
    for service in services {
        tracker.apply(applied(service.clone()));
    }
    tracker.fold();
    tracker.take_early_check().expect("the first sync is always followed by a check");
    tracker
}

#[test]
fn after_the_start_every_frontend_counts() {
    let mut tracker = tracker();
    tracker.apply(applied(web()));
    assert_eq!(early(&mut tracker), Some([true, true, true, false]));
    assert_eq!(early(&mut tracker), None, "nothing appeared since");
}

#[test]
fn frontends_that_appear_count() {
    let mut tracker = started(&[service("ns/other", "10.96.0.11")]);
    tracker.apply(applied(web()));
    assert_eq!(early(&mut tracker), Some([true, true, true, false]));
    let mut tracker = started(&[service("ns/web", "10.96.0.10")]);
    tracker.apply(applied(web()));
    assert_eq!(early(&mut tracker), Some([false, true, true, false]), "the cluster IP was there");
}

#[test]
fn changes_without_a_new_frontend_cost_nothing() {
    let mut tracker = started(&[web()]);
    let endpoints = |all| Event::EndpointSliceApplied(slice("ns/web-1", "web", all));
    tracker.apply(endpoints(vec![ready("10.0.0.1")]));
    // The rules that refused are gone, perhaps before those that translate were there.
    assert_eq!(early(&mut tracker), Some([true, true, true, false]));
    tracker.apply(endpoints(vec![ready("10.0.0.1"), terminating("10.0.0.2")]));
    assert_eq!(early(&mut tracker), None);
    tracker.apply(endpoints(vec![]));
    assert_eq!(early(&mut tracker), None);
    tracker.apply(applied(service("ns/web", "10.96.0.10")));
    assert_eq!(early(&mut tracker), None, "fewer frontends");
    tracker.apply(Event::ServiceDeleted(name("ns/web")));
    assert_eq!(early(&mut tracker), None);
    let mut udp = service("ns/dns", "10.96.0.53");
    udp.ports[0].protocol = Protocol::Udp;
    tracker.apply(applied(udp));
    assert_eq!(early(&mut tracker), None, "UDP has a check of its own");
}

#[test]
fn only_connections_that_wait_untranslated_count() {
    let mut tracker = tracker();
    tracker.apply(applied(web()));
    tracker.fold();
    let check = tracker.take_early_check().expect("a check");
    let is_early = |flow: TcpFlow| tracker.is_early(&check, &flow, |_| true);
    let early = waiting("10.96.0.10:80");
    assert!(is_early(early));
    for phase in [TcpPhase::Open, TcpPhase::Ended] {
        assert!(!is_early(TcpFlow { phase, ..early }), "{phase:?}");
    }
    assert!(!is_early(TcpFlow { reply_source: address("10.0.0.1:8080"), ..early }), "translated");
    assert!(!is_early(waiting("10.96.0.10:81")), "another port");
    assert!(!is_early(waiting("10.96.0.99:80")), "another address");
}

#[test]
fn what_passes_the_rules_is_somebody_elses() {
    let mut far = web();
    far.policy.external_traffic_policy = TrafficPolicy::Local;
    far.policy.no_local_endpoints = Some(NoLocalEndpoints::Passthrough);
    let elsewhere = |tracker: &mut Tracker, endpoints| {
        tracker.apply(Event::EndpointSliceApplied(slice("ns/web-1", "web", endpoints)));
    };
    let mut tracker = tracker();
    tracker.apply(applied(far));
    elsewhere(&mut tracker, vec![ready("10.0.0.1")]);
    assert_eq!(early(&mut tracker), Some([true, false, false, false]));
    // Now there is one here, and rules take its packets.
    elsewhere(&mut tracker, vec![crate::testing::on_node("here", ready("10.0.0.1"))]);
    assert_eq!(early(&mut tracker), Some([false, true, true, false]));
}

#[test]
fn a_check_that_failed_comes_back_with_the_next() {
    let mut tracker = started(&[]);
    tracker.apply(applied(web()));
    tracker.fold();
    let check = tracker.take_early_check().expect("a check");
    assert_eq!(check.only_destination(), None, "three frontends");
    tracker.return_early_check(check);
    tracker.apply(applied(service("ns/other", "10.96.0.11")));
    assert_eq!(early(&mut tracker), Some([true, true, true, false]));
    let mut tracker = crate::testing::tracker();
    tracker.apply(applied(web()));
    tracker.fold();
    let all = tracker.take_early_check().expect("a check");
    assert_eq!(all.only_destination(), None);
    tracker.return_early_check(all);
    assert_eq!(early(&mut tracker), Some([true, true, true, false]));
}

#[test]
fn one_new_frontend_is_the_only_destination() {
    let mut tracker = started(&[]);
    tracker.apply(applied(service("ns/web", "10.96.0.10")));
    tracker.fold();
    let check = tracker.take_early_check().expect("a check");
    assert_eq!(check.only_destination(), Some(address("10.96.0.10:80")));
}
