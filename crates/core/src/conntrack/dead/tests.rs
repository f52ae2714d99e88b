use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::{TcpFlow, TcpPhase};
use super::{DeadCheck, Departures, Fate, PATIENCE};
use crate::testing::{applied, name, port, ready, service, slice, terminating, tracker};
use crate::{Event, Protocol, Service, SliceEndpoint, Tracker};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

fn open(to: &str, from: &str) -> TcpFlow {
    let (original_destination, reply_source) = (address(to), address(from));
    TcpFlow { original_destination, reply_source, phase: TcpPhase::Open }
}

/// `ns/NAME` with a node port, whose connections are to be ended.
fn ending(text: &str, cluster_ip: &str, node_port: u16) -> Service {
    let mut service = service(text, cluster_ip);
    service.ports[0].node_port = Some(port(node_port));
    service.policy.reset_dead_connections = true;
    service
}

fn web() -> Service {
    ending("ns/web", "10.96.0.10", 30080)
}

struct Bench {
    tracker: Tracker,
    departures: Departures,
    now: Instant,
}

impl Bench {
    /// With `ns/web` and these endpoints, after the check that follows the first sync.
    fn new(service: Service, endpoints: Vec<SliceEndpoint>) -> Self {
        let now = Instant::now();
        let mut bench = Self { tracker: tracker(), departures: Departures::default(), now };
        bench.tracker.apply(applied(service));
        bench.set("web", endpoints);
        bench.later(PATIENCE);
        bench
    }

    fn set(&mut self, service: &str, endpoints: Vec<SliceEndpoint>) {
        let slice = slice(&format!("ns/{service}-1"), service, endpoints);
        self.tracker.apply(Event::EndpointSliceApplied(slice));
        self.sync();
    }

    fn sync(&mut self) {
        self.tracker.fold();
        self.departures.add(self.tracker.take_left(), self.now);
    }

    fn later(&mut self, time: Duration) -> Option<DeadCheck> {
        self.now += time;
        self.departures.take_check(self.tracker.snapshot(), self.now)
    }
}

const NODE: &str = "198.51.100.1";

fn fate(check: &DeadCheck, flow: &TcpFlow) -> Fate {
    let is_node = |ip: &std::net::IpAddr| ip.to_string() == NODE;
    check.fate(flow, is_node, is_node)
}

#[test]
fn connections_to_an_endpoint_that_left_are_reset() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1"), ready("10.0.0.2")]);
    bench.set("web", vec![ready("10.0.0.1")]);
    assert_eq!(bench.departures.due(), Some(bench.now + PATIENCE));
    let check = bench.later(PATIENCE).expect("a check");
    let fate = |flow: TcpFlow| fate(&check, &flow);
    let dead = open("10.96.0.10:80", "10.0.0.2:8080");
    assert_eq!(fate(dead), Fate::Reset);
    assert_eq!(fate(open("198.51.100.1:30080", "10.0.0.2:8080")), Fate::Reset);
    assert_eq!(fate(TcpFlow { phase: TcpPhase::Waiting, ..dead }), Fate::Forgotten);
    for (what, flow) in [
        ("it ended", TcpFlow { phase: TcpPhase::Ended, ..dead }),
        ("it is to another endpoint", open("10.96.0.10:80", "10.0.0.1:8080")),
        ("it is not translated", open("10.96.0.10:80", "10.96.0.10:80")),
        ("it is to another port", open("10.96.0.10:81", "10.0.0.2:8080")),
        ("it is to another address", open("203.0.113.1:30080", "10.0.0.2:8080")),
        ("it is to the pod itself", open("10.0.0.2:8080", "10.0.0.2:8080")),
        ("this node is the endpoint", open("10.96.0.10:80", "198.51.100.1:8080")),
    ] {
        assert_eq!(fate(flow), Fate::Kept, "{what}");
    }
    assert_eq!(bench.departures.due(), None);
    assert!(bench.later(PATIENCE).is_none(), "once is enough");
}

#[test]
fn an_endpoint_that_terminates_or_is_not_ready_has_not_left() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1"), ready("10.0.0.2")]);
    let mut unready = ready("10.0.0.2");
    unready.conditions.ready = false;
    unready.conditions.serving = false;
    bench.set("web", vec![terminating("10.0.0.1"), unready]);
    assert_eq!(bench.departures.due(), None);
    assert!(bench.later(PATIENCE).is_none());
}

#[test]
fn an_endpoint_that_comes_back_in_time_has_not_left() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1")]);
    bench.set("web", vec![]);
    assert!(bench.later(PATIENCE / 2).is_none());
    bench.set("web", vec![ready("10.0.0.1")]);
    let check = bench.later(PATIENCE).expect("a look");
    assert_eq!(fate(&check, &open("10.96.0.10:80", "10.0.0.1:8080")), Fate::Kept);
}

#[test]
fn each_endpoint_has_its_own_time() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1"), ready("10.0.0.2")]);
    bench.set("web", vec![ready("10.0.0.1")]);
    assert!(bench.later(PATIENCE / 2).is_none());
    bench.set("web", vec![]);
    let check = bench.later(PATIENCE / 2).expect("a check");
    let flow = |ip: &str| open("10.96.0.10:80", &format!("{ip}:8080"));
    assert_eq!(fate(&check, &flow("10.0.0.2")), Fate::Reset);
    assert_eq!(fate(&check, &flow("10.0.0.1")), Fate::Kept, "not long enough");
    let check = bench.later(PATIENCE / 2).expect("a check");
    assert_eq!(fate(&check, &flow("10.0.0.1")), Fate::Reset);
}

#[test]
fn an_endpoint_that_stays_in_another_service_keeps_the_connections_through_that() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1")]);
    bench.tracker.apply(applied(ending("ns/other", "10.96.0.11", 30081)));
    bench.set("other", vec![ready("10.0.0.1")]);
    bench.later(PATIENCE);
    bench.set("web", vec![]);
    let check = bench.later(PATIENCE).expect("a check");
    assert_eq!(fate(&check, &open("10.96.0.10:80", "10.0.0.1:8080")), Fate::Reset);
    assert_eq!(fate(&check, &open("10.96.0.11:80", "10.0.0.1:8080")), Fate::Kept);
}

#[test]
fn who_does_not_ask_for_it_pays_nothing() {
    let mut plain = web();
    plain.policy.reset_dead_connections = false;
    let mut bench = Bench::new(plain, vec![ready("10.0.0.1")]);
    bench.set("web", vec![]);
    assert_eq!(bench.departures.due(), None);
    let mut udp = web();
    udp.ports[0].protocol = Protocol::Udp;
    bench.tracker.apply(applied(udp));
    bench.sync();
    assert_eq!(bench.departures.due(), None, "UDP has a check of its own");
}

#[test]
fn a_check_that_failed_is_made_again_with_what_is_there_then() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1"), ready("10.0.0.2")]);
    bench.set("web", vec![]);
    let check = bench.later(PATIENCE).expect("a check");
    bench.departures.take_back(check, bench.now);
    bench.set("web", vec![ready("10.0.0.2")]);
    let check = bench.later(PATIENCE).expect("the check again");
    let flow = |ip: &str| open("10.96.0.10:80", &format!("{ip}:8080"));
    assert_eq!(fate(&check, &flow("10.0.0.1")), Fate::Reset);
    assert_eq!(fate(&check, &flow("10.0.0.2")), Fate::Kept);
}

#[test]
fn a_service_that_is_deleted_ends_nothing() {
    let mut bench = Bench::new(web(), vec![ready("10.0.0.1")]);
    bench.set("web", vec![]);
    bench.tracker.apply(Event::ServiceDeleted(name("ns/web")));
    bench.sync();
    assert!(bench.later(PATIENCE).is_none());
    assert_eq!(bench.departures.due(), None);
}

#[test]
fn what_left_while_no_proxy_ran_is_found_after_the_start() {
    let mut tracker = tracker();
    tracker.apply(applied(web()));
    tracker.apply(Event::EndpointSliceApplied(slice("ns/web-1", "web", vec![ready("10.0.0.1")])));
    let now = Instant::now();
    let mut bench = Bench { tracker, departures: Departures::default(), now };
    bench.sync();
    let check = bench.later(PATIENCE).expect("a check");
    assert_eq!(fate(&check, &open("10.96.0.10:80", "10.0.0.9:8080")), Fate::Reset);
    assert_eq!(fate(&check, &open("10.96.0.10:80", "10.0.0.1:8080")), Fate::Kept);
    assert_eq!(check.only_destination(), None, "a node port");
}
