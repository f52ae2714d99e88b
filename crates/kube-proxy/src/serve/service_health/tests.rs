use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use expect_test::expect;
use kube_proxy_core::{
    EndpointSlice, Event, IpFamily, Kind, ObjectName, PerFamily, Port, Protocol, Service,
    ServicePolicy, SliceEndpoint, SlicePort, Tracker, TrafficPolicy,
};

use super::answer::{ServiceAnswer, answer};
use super::{HealthPort, HealthPorts};
use crate::serve::health::Health;
use crate::serve::http::{Asked, Handler, Reply};

fn name() -> ObjectName {
    ObjectName::new("shop", "cart")
}

fn service(health_port: Option<u16>) -> Event {
    let port = |name: &str, number: u16| Port {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: number.try_into().unwrap(),
        node_port: Some((number + 30_000).try_into().unwrap()),
    };
    let cluster_ip: IpAddr = "10.96.0.1".parse().unwrap();
    Event::ServiceApplied(Arc::new(Service {
        cluster_ips: PerFamily::from_fn(|family| (family == IpFamily::V4).then_some(cluster_ip)),
        policy: ServicePolicy {
            external_traffic_policy: TrafficPolicy::Local,
            health_check_node_port: health_port.map(|port| port.try_into().unwrap()),
            ..ServicePolicy::default()
        },
        ports: vec![port("http", 80), port("https", 443)],
        ..Service::new(name())
    }))
}

/// Endpoints by address: on this node or not, ready or not.
fn slice(endpoints: &[(&str, bool, bool)]) -> Event {
    let endpoint = |(ip, local, ready): &(&str, bool, bool)| {
        let mut endpoint = SliceEndpoint::ready(ip.parse().unwrap());
        endpoint.node = Some(if *local { "here" } else { "there" }.into());
        endpoint.conditions.ready = *ready;
        endpoint
    };
    let port = |name: &str| SlicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: 8080.try_into().unwrap(),
    };
    Event::EndpointSliceApplied(EndpointSlice {
        name: ObjectName::new("shop", "cart-1"),
        service: "cart".into(),
        family: IpFamily::V4,
        ports: vec![port("http"), port("https")],
        endpoints: endpoints.iter().map(endpoint).collect(),
        trigger_time: None,
    })
}

/// Applies events one after the other and returns what is known of the Service then.
struct World {
    tracker: Tracker,
    ports: Arc<HealthPorts>,
}

impl World {
    fn new() -> Self {
        let options = kube_proxy_core::testing::options(IpFamily::V4);
        let mut tracker = Tracker::new(options);
        for kind in [Kind::Service, Kind::EndpointSlice] {
            tracker.apply(Event::ListStarted(kind));
            tracker.apply(Event::ListDone(kind));
        }
        Self { tracker, ports: Arc::default() }
    }

    fn after(&mut self, event: Event) -> Option<HealthPort> {
        self.tracker.apply(event);
        let changes = self.tracker.fold();
        self.ports.update(self.tracker.snapshot(), &changes.services);
        self.ports.get(&name())
    }
}

#[test]
fn ready_endpoints_on_this_node_are_counted_by_address() {
    let mut world = World::new();
    let health = |port: u16, local_endpoints| {
        Some(HealthPort { port: port.try_into().unwrap(), local_endpoints })
    };
    assert_eq!(world.after(service(None)), None, "no port, no server");
    assert_eq!(world.after(service(Some(31_000))), health(31_000, 0));
    let endpoints = [
        ("10.0.0.1", true, true),
        ("10.0.0.2", true, false),
        ("10.0.0.3", false, true),
        ("10.0.0.4", true, true),
    ];
    assert_eq!(world.after(slice(&endpoints)), health(31_000, 2), "two ports each count once");
    assert_eq!(world.after(slice(&endpoints[1..3])), health(31_000, 0));
    assert_eq!(world.after(service(Some(31_001))), health(31_001, 0));
    assert_eq!(world.after(Event::ServiceDeleted(name())), None);
}

#[test]
fn endpoints_that_drain_get_no_traffic_from_load_balancers() {
    let mut world = World::new();
    world.after(service(Some(31_000)));
    let mut event = slice(&[("10.0.0.1", true, true), ("10.0.0.4", true, true)]);
    for left in [1, 0] {
        let Event::EndpointSliceApplied(slice) = &mut event else { unreachable!("made above") };
        slice.endpoints[left].weight = 0;
        let port = world.after(event.clone()).unwrap();
        assert_eq!(port.local_endpoints, left);
    }
}

#[test]
fn only_other_ports_wake_the_listeners() {
    let mut world = World::new();
    let woken = |world: &World| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let notified = world.ports.changed.notified();
        runtime.block_on(async {
            tokio::select! { biased; () = notified => true, () = std::future::ready(()) => false }
        })
    };
    world.after(service(Some(31_000)));
    assert!(woken(&world));
    world.after(slice(&[("10.0.0.1", true, true)]));
    assert!(!woken(&world), "endpoints alone open no port");
    world.after(Event::ServiceDeleted(name()));
    assert!(woken(&world));
    let changed = BTreeSet::new();
    world.ports.update(world.tracker.snapshot(), &changed);
    assert!(!woken(&world));
}

#[test]
fn the_answer_has_the_layout_of_the_go_version() {
    let healthy = answer(&name(), 2, true);
    assert_eq!(healthy.status, 200);
    let header = |name: &str| {
        let found = healthy.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.to_str().unwrap().to_owned())
    };
    assert_eq!(header("x-load-balancing-endpoint-weight").as_deref(), Some("2"));
    expect![[r#"
        {
        	"service": {
        		"namespace": "shop",
        		"name": "cart"
        	},
        	"localEndpoints": 2,
        	"serviceProxyHealthy": true
        }"#]]
    .assert_eq(std::str::from_utf8(&healthy.body).unwrap());
    assert_eq!(answer(&name(), 2, false).status, 503);
    assert_eq!(answer(&name(), 0, true).status, 503);
}

#[test]
fn a_request_that_comes_after_the_port_has_gone_gets_no_200() {
    let mut world = World::new();
    world.after(service(Some(31_000)));
    world.after(slice(&[("10.0.0.1", true, true)]));
    let health = Health::new(&[IpFamily::V4], std::time::Duration::from_secs(1), None);
    let handler = ServiceAnswer { service: name(), ports: world.ports.clone(), health };
    assert!(handler.health.keeps_up(Instant::now()));
    let status = |handler: &ServiceAnswer| match handler.answer(&Asked::get("/any")) {
        Reply::Now(answer) => answer.status.as_u16(),
        Reply::Later(_) => 0,
    };
    assert_eq!(status(&handler), 200);
    world.after(Event::ServiceDeleted(name()));
    assert_eq!(status(&handler), 503);
}
