use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use expect_test::{Expect, expect};
use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::topology::choose;
use kube_proxy_core::{
    Conditions, Endpoint, LocalTrafficDetector, NoLocalEndpoints, ObjectName, Port, Protocol,
    Service, ServiceEntry, TrafficPolicy,
};

use super::{ServiceRules, Settings};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A service with every kind of frontend.
fn service() -> Service {
    let mut service = Service::new(ObjectName::new("shop", "web"));
    service.cluster_ips.v4 = Some(ip("10.96.0.10"));
    service.cluster_ips.v6 = Some(ip("fd00::10"));
    service.external_ips = vec![ip("198.51.100.1"), ip("2001:db8::1")];
    service.load_balancer_vips = vec![ip("203.0.113.1"), ip("2001:db8::2")];
    service.ports = vec![Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: NonZeroU16::new(80).expect("not zero"),
        node_port: NonZeroU16::new(30_080),
    }];
    service
}

fn settings() -> Settings {
    Settings {
        detector: LocalTrafficDetector::Cidr("10.244.0.0/16".parse().expect("a network")),
        listen: None,
        node_ip: None,
    }
}

fn endpoint(text: &str, local: bool) -> Endpoint {
    Endpoint {
        ip: ip(text),
        port: NonZeroU16::new(8080).expect("not zero"),
        conditions: Conditions::default(),
        place: if local { Place::ThisNode } else { Place::OtherNode },
        node_hint: NodeHint::Absent,
        steering: None,
    }
}

fn check(service: &Service, endpoints: &[Endpoint], settings: &Settings, expected: &Expect) {
    let family = kube_proxy_core::IpFamily::of(
        &endpoints.first().map_or(ip("10.0.0.1"), |endpoint| endpoint.ip),
    );
    let endpoints: Arc<[Endpoint]> = endpoints.into();
    let mut text = String::new();
    for (name, port) in service.service_ports(family) {
        let choice = choose(&port, &endpoints, None);
        let entry = ServiceEntry { port, endpoints: endpoints.clone(), choice };
        let [cluster, local] = super::classes(&entry.port);
        let ports = [cluster.then_some(4001), local.then_some(4002)];
        let rules = ServiceRules { settings, name: &name, entry: &entry, ports };
        let frontends = entry.port.frontends.iter();
        let of_frontends = frontends.flat_map(|(at, kind)| rules.of_frontend(*at, *kind));
        for (chain, rule) in of_frontends.chain(rules.of_ports()) {
            writeln!(text, "{} {rule}", chain.name()).expect("a string");
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn cluster_policy() {
    check(
        &service(),
        &[endpoint("10.244.1.1", true)],
        &settings(),
        &expect![[r#"
            KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn local_policy() {
    let mut service = service();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    check(
        &service,
        &[endpoint("10.244.1.1", true)],
        &settings(),
        &expect![[r#"
            KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -s 10.244.0.0/16 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 30080 -j REDIRECT --to-ports 4002
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn local_policy_without_local_endpoints() {
    let mut service = service();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    service.policy.internal_traffic_policy = TrafficPolicy::Local;
    check(
        &service,
        &[endpoint("10.244.1.1", false)],
        &settings(),
        &expect![[r#"
            KUBE-USERSPACE-FIREWALL -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j DROP
            KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j DROP
            KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j DROP
            KUBE-NODEPORT-CONTAINER -s 10.244.0.0/16 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 30080 -m addrtype --dst-type LOCAL -j DROP
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn source_ranges() {
    let mut service = service();
    let ranges = ["172.18.0.0/16", "10.244.7.0/24"];
    service.policy.load_balancer_source_ranges =
        ranges.iter().map(|range| range.parse().expect("a network")).collect();
    let here = Settings { node_ip: Some(ip("172.18.0.2")), ..settings() };
    check(
        &service,
        &[endpoint("10.244.1.1", true)],
        &here,
        &expect![[r#"
            KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 10.244.7.0/24 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -s 10.244.7.0/24 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 172.18.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -s 172.18.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 203.0.113.1/32 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -s 203.0.113.1/32 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http is not for everybody" -m tcp --dport 80 -j DROP
            KUBE-PORTALS-CONTAINER -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack ! --ctstate DNAT -j DROP
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    check(
        &service,
        &[endpoint("10.244.1.1", true)],
        &here,
        &expect![[r#"
            KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 10.244.7.0/24 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 10.244.7.0/24 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -s 10.244.7.0/24 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 172.18.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -s 172.18.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -s 203.0.113.1/32 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -s 203.0.113.1/32 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http is not for everybody" -m tcp --dport 80 -j DROP
            KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-PORTALS-CONTAINER -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j REDIRECT --to-ports 4002
            KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -s 10.244.0.0/16 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 30080 -j REDIRECT --to-ports 4002
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack ! --ctstate DNAT -j DROP
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack ! --ctstate DNAT -j DROP
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn without_endpoints_clients_are_refused() {
    let mut service = service();
    service.policy.load_balancer_source_ranges = vec!["192.0.2.0/24".parse().expect("a network")];
    check(
        &service,
        &[],
        &settings(),
        &expect![[r#"
            KUBE-USERSPACE-FIREWALL -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT
            KUBE-USERSPACE-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT
            KUBE-USERSPACE-FIREWALL -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 30080 -m addrtype --dst-type LOCAL -j REJECT
            KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack ! --ctstate DNAT -j DROP
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn an_address_to_listen_on_and_ipv6() {
    let settings = Settings {
        listen: Some(ip("fd00::5")),
        detector: LocalTrafficDetector::InterfacePrefix("cni".into()),
        node_ip: None,
    };
    let mut service = service();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    check(
        &service,
        &[endpoint("fd00:1::1", true)],
        &settings,
        &expect![[r#"
            KUBE-PORTALS-CONTAINER -d fd00::10/128 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-PORTALS-HOST -d fd00::10/128 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-PORTALS-CONTAINER -d 2001:db8::2/128 -i cni+ -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-PORTALS-CONTAINER -d 2001:db8::2/128 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4002
            KUBE-PORTALS-HOST -d 2001:db8::2/128 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-PORTALS-CONTAINER -d 2001:db8::1/128 -i cni+ -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-PORTALS-CONTAINER -d 2001:db8::1/128 -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4002
            KUBE-PORTALS-HOST -d 2001:db8::1/128 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j DNAT --to-destination [fd00::5]:4001
            KUBE-NODEPORT-CONTAINER -i cni+ -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j DNAT --to-destination [fd00::5]:4001
            KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 30080 -j DNAT --to-destination [fd00::5]:4002
            KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j DNAT --to-destination [fd00::5]:4001
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
            KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
        "#]],
    );
}

#[test]
fn what_is_not_dropped_without_local_endpoints() {
    let mut service = service();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    service.policy.internal_traffic_policy = TrafficPolicy::Local;
    service.policy.no_local_endpoints = Some(NoLocalEndpoints::Reject);
    check(
        &service,
        &[endpoint("10.244.1.1", false)],
        &settings(),
        &expect![[r#"
        KUBE-USERSPACE-FIREWALL -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j DROP
        KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-PORTALS-HOST -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-USERSPACE-FIREWALL -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j REJECT
        KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-USERSPACE-FIREWALL -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j REJECT
        KUBE-NODEPORT-CONTAINER -s 10.244.0.0/16 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
        KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
        KUBE-USERSPACE-FIREWALL -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 30080 -m addrtype --dst-type LOCAL -j REJECT
        KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
        KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
    "#]],
    );
    service.policy.no_local_endpoints = Some(NoLocalEndpoints::Passthrough);
    check(
        &service,
        &[endpoint("10.244.1.1", false)],
        &settings(),
        &expect![[r#"
        KUBE-USERSPACE-FIREWALL -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http has no local endpoints" -m tcp --dport 80 -j DROP
        KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-PORTALS-HOST -d 203.0.113.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-PORTALS-CONTAINER -s 10.244.0.0/16 -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-PORTALS-HOST -d 198.51.100.1/32 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 4001
        KUBE-NODEPORT-CONTAINER -s 10.244.0.0/16 -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
        KUBE-NODEPORT-HOST -p tcp -m comment --comment "shop/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 4001
        KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http" -m tcp --dport 4001 -m conntrack --ctstate DNAT -j ACCEPT
        KUBE-NODEPORT-NON-LOCAL -p tcp -m comment --comment "shop/web:http local endpoints" -m tcp --dport 4002 -m conntrack --ctstate DNAT -j ACCEPT
    "#]],
    );
}
