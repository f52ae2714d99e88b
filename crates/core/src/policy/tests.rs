//! What becomes of packets for each kind of frontend, and what a policy costs.

use std::sync::Arc;

use super::{Masquerade, NoLocalEndpoints, ServicePolicy, TrafficPolicy, Unserved};
use crate::testing::{applied, ip, on_node, port, port_name, ready, service, slice, tracker};
use crate::{Event, FrontendKind, Service, ServiceEntry};

const RANGE: &str = "198.51.100.0/24";

/// A Service with every kind of frontend, and an endpoint on this node or on another.
fn entry(local: bool, endpoint: Option<&str>, change: impl FnOnce(&mut Service)) -> ServiceEntry {
    let mut service = service("ns/a", "10.96.0.1");
    service.external_ips = vec![ip("192.0.2.1")];
    service.load_balancer_vips = vec![ip("203.0.113.1")];
    service.ports[0].node_port = Some(port(30080));
    if local {
        service.policy.internal_traffic_policy = TrafficPolicy::Local;
        service.policy.external_traffic_policy = TrafficPolicy::Local;
    }
    change(&mut service);
    let mut tracker = tracker();
    tracker.apply(applied(service));
    let endpoints = endpoint.map(|node| on_node(node, ready("10.0.0.1")));
    if let Some(endpoint) = endpoints {
        tracker.apply(Event::EndpointSliceApplied(slice("ns/a-1", "a", vec![endpoint])));
    }
    tracker.fold();
    (*tracker.snapshot().services[&port_name("ns/a", "")]).clone()
}

#[test]
fn only_external_frontends_under_policy_local_are_short_circuited() {
    for kind in FrontendKind::ALL {
        let cluster = entry(false, Some("there"), |_| ());
        let treatment = cluster.treatment(kind);
        assert_eq!((treatment.policy, treatment.short_circuit), (TrafficPolicy::Cluster, false));
        assert_eq!(treatment.unserved, None);
        let always =
            if kind.is_external() { Masquerade::Always } else { Masquerade::FromElsewhere };
        assert_eq!(treatment.masquerade, always);
        let local = entry(true, Some("here"), |_| ());
        let treatment = local.treatment(kind);
        assert_eq!(treatment.policy, TrafficPolicy::Local);
        assert_eq!(treatment.short_circuit, kind.is_external());
        assert_eq!(treatment.unserved, None);
        let kept = if kind.is_external() { Masquerade::Never } else { Masquerade::FromElsewhere };
        assert_eq!(treatment.masquerade, kept);
    }
}

#[test]
fn without_endpoints_clients_are_refused_and_without_local_ones_it_is_as_asked() {
    let reject = |service: &mut Service| {
        service.policy.no_local_endpoints = Some(NoLocalEndpoints::Reject);
    };
    let elsewhere = entry(true, Some("there"), reject);
    for kind in FrontendKind::ALL {
        let none = entry(true, None, |_| ());
        assert_eq!(none.treatment(kind).unserved, Some(Unserved::NoEndpoints));
        let action =
            if kind.is_external() { NoLocalEndpoints::Reject } else { NoLocalEndpoints::Drop };
        let unserved = elsewhere.treatment(kind).unserved.expect("no local endpoint");
        assert_eq!(unserved, Unserved::NoLocalEndpoints(action));
        assert_eq!(unserved.action(), action);
    }
    assert_eq!(Unserved::NoEndpoints.action(), NoLocalEndpoints::Reject);
}

#[test]
fn source_ranges_are_for_vips_and_of_the_family() {
    let ranged = entry(false, Some("here"), |service| {
        service.policy.load_balancer_source_ranges =
            [RANGE, "2001:db8::/32"].map(|net| net.parse().unwrap()).to_vec();
    });
    for kind in FrontendKind::ALL {
        let sources = ranged.treatment(kind).sources.map(<[_]>::to_vec);
        let vip = kind == FrontendKind::LoadBalancerVip;
        assert_eq!(sources, vip.then(|| vec![RANGE.parse().unwrap()]));
    }
    let everybody = entry(false, Some("here"), |service| {
        service.policy.load_balancer_source_ranges =
            [RANGE, "0.0.0.0/0"].map(|net| net.parse().unwrap()).to_vec();
    });
    assert_eq!(everybody.treatment(FrontendKind::LoadBalancerVip).sources, None);
}

#[test]
fn ports_share_the_policy_of_their_service_and_services_the_default() {
    let mut many = service("ns/a", "10.96.0.1");
    many.ports.push(crate::Port { name: "other".into(), port: port(81), ..many.ports[0].clone() });
    many.policy.session_affinity = Some(std::time::Duration::from_mins(1));
    let plain = |text: &str, ip: &str| applied(service(text, ip));
    let mut tracker = tracker();
    for event in [applied(many), plain("ns/b", "10.96.0.2"), plain("ns/c", "10.96.0.3")] {
        tracker.apply(event);
    }
    tracker.fold();
    let of =
        |name: &str, port: &str| &tracker.snapshot().services[&port_name(name, port)].port.policy;
    assert!(Arc::ptr_eq(of("ns/a", ""), of("ns/a", "other")));
    assert!(Arc::ptr_eq(of("ns/b", ""), of("ns/c", "")));
    assert_eq!(**of("ns/b", ""), ServicePolicy::default());
}
