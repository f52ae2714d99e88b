//! One address of a Service is one frontend of one kind.

use crate::testing::{ip, service};
use crate::{
    Frontend, FrontendKind, IpFamily, NoLocalEndpoints, Protocol, Service, ServicePolicy,
    ServicePort, TrafficPolicy,
};

fn only_port(service: &Service) -> ServicePort {
    let mut ports = service.service_ports(IpFamily::V4);
    assert_eq!(ports.len(), 1);
    ports.remove(0).1
}

fn frontend(address: &str) -> Frontend {
    Frontend::address(Protocol::Tcp, ip(address), 80)
}

/// A Service with source ranges whose address lists overlap.
fn overlapping() -> Service {
    Service {
        external_ips: vec![ip("192.0.2.9"), ip("192.0.2.1"), ip("192.0.2.1"), ip("10.96.0.1")],
        load_balancer_vips: vec![ip("10.96.0.1"), ip("192.0.2.1"), ip("192.0.2.2")],
        policy: ServicePolicy {
            load_balancer_source_ranges: vec!["198.51.100.0/24".parse().unwrap()],
            external_traffic_policy: TrafficPolicy::Local,
            ..ServicePolicy::default()
        },
        ..service("ns/a", "10.96.0.1")
    }
}

#[test]
fn a_vip_is_no_external_ip_and_a_cluster_ip_is_neither() {
    let port = only_port(&overlapping());
    assert_eq!(port.cluster_ip, ip("10.96.0.1"));
    let expected = [
        (frontend("10.96.0.1"), FrontendKind::ClusterIp),
        (frontend("192.0.2.1"), FrontendKind::LoadBalancerVip),
        (frontend("192.0.2.2"), FrontendKind::LoadBalancerVip),
        (frontend("192.0.2.9"), FrontendKind::ExternalIp),
    ];
    assert_eq!(&*port.frontends, expected);
    assert!(port.source_ranges().is_some());
}

#[test]
fn a_vip_stays_where_external_ips_are_not_allowed() {
    let mut port = only_port(&overlapping());
    port.forbid_external_ips();
    let expected = [frontend("10.96.0.1"), frontend("192.0.2.1"), frontend("192.0.2.2")];
    assert!(port.frontends.iter().map(|(frontend, _)| *frontend).eq(expected));
    assert_eq!(port.policy.external_traffic_policy, TrafficPolicy::Local);
}

#[test]
fn a_service_whose_only_external_address_is_its_cluster_ip_is_not_reachable_from_outside() {
    let port = only_port(&Service {
        external_ips: vec![ip("10.96.0.1")],
        policy: ServicePolicy {
            external_traffic_policy: TrafficPolicy::Local,
            ..ServicePolicy::default()
        },
        ..service("ns/a", "10.96.0.1")
    });
    assert!(!port.externally_reachable());
    assert_eq!(port.policy.external_traffic_policy, TrafficPolicy::Cluster);
}

#[test]
fn what_happens_without_local_endpoints_depends_on_the_frontend() {
    use NoLocalEndpoints::{Drop, Reject};
    let mut local = overlapping();
    local.policy.no_local_endpoints = Some(Reject);
    let port = only_port(&local);
    assert_eq!(port.without_local_endpoints(FrontendKind::ExternalIp), Reject);
    assert_eq!(
        port.without_local_endpoints(FrontendKind::LoadBalancerVip),
        Drop,
        "behind source ranges"
    );
    assert_eq!(port.without_local_endpoints(FrontendKind::ClusterIp), Drop);
    let mut open = local.clone();
    open.policy.load_balancer_source_ranges.clear();
    assert_eq!(only_port(&open).without_local_endpoints(FrontendKind::LoadBalancerVip), Reject);
    let mut cluster = local;
    cluster.policy.external_traffic_policy = TrafficPolicy::Cluster;
    assert_eq!(only_port(&cluster).policy.no_local_endpoints, None, "it does not matter");
}
