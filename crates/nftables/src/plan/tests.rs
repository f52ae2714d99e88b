use std::fmt::Write as _;

use expect_test::{Expect, expect};
use kube_proxy_core::{
    Conditions, EndpointSlice, Event, IpFamily, LocalTrafficDetector, NodePortAddresses,
    ObjectName, Port, Protocol, Service, SliceEndpoint, SlicePort, Tracker, TrackerOptions,
};

use super::*;
use crate::text::text;

fn config(family: IpFamily) -> Config {
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Bridge("cni0".into()),
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

fn service() -> Service {
    let mut service = Service::new(ObjectName::new("ns", "web"));
    service.cluster_ips.v4 = Some([10, 96, 0, 1].into());
    service.cluster_ips.v6 = Some("fd00::1".parse().unwrap());
    service.ports = vec![Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80.try_into().unwrap(),
        node_port: None,
    }];
    service
}

fn everything() -> Service {
    let mut service = service();
    service.external_ips = vec![[198, 51, 100, 1].into()];
    service.load_balancer_vips = vec![[203, 0, 113, 1].into()];
    service.ports[0].node_port = Some(30_080.try_into().unwrap());
    service
}

/// The plan as text. Endpoints: number of the address, and whether it is on this node.
fn plan_text(config: &Config, service: Service, endpoints: &[(u8, bool)]) -> String {
    let family = config.family;
    let mut tracker = Tracker::new(TrackerOptions {
        node_ip: Some([10, 0, 0, 5].into()),
        ..kube_proxy_core::testing::options(family)
    });
    tracker.apply(Event::ServiceApplied(Arc::new(service)));
    let endpoints = endpoints.iter().map(|(number, local)| {
        let ip = match family {
            IpFamily::V4 => [10, 244, 0, *number].into(),
            IpFamily::V6 => format!("fd00:244::{number}").parse().unwrap(),
        };
        let node = Some(if *local { "here" } else { "there" }.into());
        SliceEndpoint { node, conditions: Conditions::default(), ..SliceEndpoint::ready(ip) }
    });
    tracker.apply(Event::EndpointSliceApplied(EndpointSlice {
        name: ObjectName::new("ns", "web-1"),
        service: "web".into(),
        family,
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080.try_into().unwrap(),
        }],
        endpoints: endpoints.collect(),
        trigger_time: None,
    }));
    tracker.fold();
    let mut actual = String::new();
    for (name, entry) in &tracker.snapshot().services {
        let node_ip = tracker.snapshot().node_ip;
        let plan = Plan::new(entry, node_ip, &OldSlots::default());
        plan.elements(name, config, &mut |set, item| {
            let _ = writeln!(actual, "{}", text(set, &item, family));
        });
        plan.shares(config, &mut |share| {
            let _ = match (share.element(), share.chain()) {
                (Some((set, item)), _) => writeln!(actual, "{}", text(set, &item, family)),
                (None, chain) => writeln!(actual, "chain {}", chain.unwrap()),
            };
        });
    }
    actual
}

fn check_with(config: &Config, service: Service, endpoints: &[(u8, bool)], expected: &Expect) {
    expected.assert_eq(&plan_text(config, service, endpoints));
}

fn check(service: Service, endpoints: &[(u8, bool)], expected: &Expect) {
    check_with(&config(IpFamily::V4), service, endpoints, expected);
}

const BOTH: &[(u8, bool)] = &[(1, true), (2, false)];

#[test]
fn cluster_ip() {
    check(
        service(),
        BOTH,
        &expect![[r#"
        frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-outside-cluster-2 (ns/web:http)
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
        hairpin-connections: 10.244.0.1 . 10.244.0.1 . tcp . 8080
    "#]],
    );
    check_with(
        &config(IpFamily::V6),
        service(),
        BOTH,
        &expect![[r#"
        frontend-ips: fd00::1 . tcp . 80 : goto masq-outside-cluster-2 (ns/web:http)
        cluster-endpoints: fd00::1 . tcp . 80 . 0 : fd00:244::1 . 8080
        cluster-endpoints: fd00::1 . tcp . 80 . 1 : fd00:244::2 . 8080
        cluster-ips: fd00::1
        hairpin-connections: fd00:244::1 . fd00:244::1 . tcp . 8080
    "#]],
    );
}

#[test]
fn cluster_ip_masquerading() {
    let all = Config { masquerade_all: true, ..config(IpFamily::V4) };
    check_with(
        &all,
        service(),
        &BOTH[1..],
        &expect![[r#"
        frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-cluster-1 (ns/web:http)
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
    "#]],
    );
    let unknown = Config { local_traffic: LocalTrafficDetector::None, ..config(IpFamily::V4) };
    check_with(
        &unknown,
        service(),
        &BOTH[1..],
        &expect![[r#"
        frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-1 (ns/web:http)
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
    "#]],
    );
}

/// Only node ports, only of protocols that nothing serves there, whatever the endpoints are.
#[test]
fn refused_on_loopback() {
    let lines = |refused: &[Protocol], endpoints: &[_]| {
        let config = Config { refused_on_loopback: refused.to_vec(), ..config(IpFamily::V4) };
        let plan = plan_text(&config, everything(), endpoints);
        plan.lines().filter(|line| line.starts_with("loopback")).collect::<Vec<_>>().join("\n")
    };
    let refused = "loopback-nodeports: tcp . 30080 : goto reject-chain (ns/web:http)";
    assert_eq!(lines(&[Protocol::Tcp, Protocol::Sctp], BOTH), refused);
    assert_eq!(lines(&[Protocol::Tcp], &[]), refused);
    assert_eq!(lines(&[Protocol::Udp, Protocol::Sctp], BOTH), "");
}

#[test]
fn every_frontend() {
    check(
        everything(),
        BOTH,
        &expect![[r#"
        frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-outside-cluster-2 (ns/web:http)
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        cluster-endpoints: 10.96.0.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
        frontend-ips: 203.0.113.1 . tcp . 80 : goto masq-cluster-2 (ns/web:http)
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
        frontend-ips: 198.51.100.1 . tcp . 80 : goto masq-cluster-2 (ns/web:http)
        cluster-endpoints: 198.51.100.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        cluster-endpoints: 198.51.100.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
        frontend-nodeports: tcp . 30080 : goto masq-nodeport-cluster-2 (ns/web:http)
        nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.1 . 8080
        nodeport-cluster-endpoints: tcp . 30080 . 1 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
        hairpin-connections: 10.244.0.1 . 10.244.0.1 . tcp . 8080
    "#]],
    );
}

#[test]
fn local_policies() {
    let mut service = everything();
    service.policy.internal_traffic_policy = TrafficPolicy::Local;
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    service.external_ips.clear();
    check(
        service.clone(),
        BOTH,
        &expect![[r#"
        frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-outside-local-1 (ns/web:http)
        local-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        frontend-ips: 203.0.113.1 . tcp . 80 : goto local-1 (ns/web:http)
        short-circuit-ips: 203.0.113.1 . tcp . 80 : goto masq-node-cluster-2 (ns/web:http)
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
        local-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
        frontend-nodeports: tcp . 30080 : goto nodeport-local-1 (ns/web:http)
        short-circuit-nodeports: tcp . 30080 : goto masq-node-nodeport-cluster-2 (ns/web:http)
        nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.1 . 8080
        nodeport-cluster-endpoints: tcp . 30080 . 1 : 10.244.0.2 . 8080
        nodeport-local-endpoints: tcp . 30080 . 0 : 10.244.0.1 . 8080
        cluster-ips: 10.96.0.1
        hairpin-connections: 10.244.0.1 . 10.244.0.1 . tcp . 8080
        hairpin-connections: 10.244.0.1 . 10.244.0.1 . tcp . 8080
    "#]],
    );
    // None on this node.
    check(
        service,
        &BOTH[1..],
        &expect![[r#"
        unserved-ips: 10.96.0.1 . tcp . 80 : drop (ns/web:http)
        unserved-ips: 203.0.113.1 . tcp . 80 : drop (ns/web:http)
        short-circuit-ips: 203.0.113.1 . tcp . 80 : goto masq-node-cluster-1 (ns/web:http)
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
        unserved-nodeports: tcp . 30080 : drop (ns/web:http)
        short-circuit-nodeports: tcp . 30080 : goto masq-node-nodeport-cluster-1 (ns/web:http)
        nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
    "#]],
    );
}

#[test]
fn no_local_endpoints() {
    let service = |value| {
        let mut service = everything();
        service.external_ips = Vec::new();
        service.policy.internal_traffic_policy = TrafficPolicy::Local;
        service.policy.external_traffic_policy = TrafficPolicy::Local;
        service.policy.no_local_endpoints = Some(value);
        service
    };
    check(
        service(NoLocalEndpoints::Reject),
        &BOTH[1..],
        &expect![[r#"
        unserved-ips: 10.96.0.1 . tcp . 80 : drop (ns/web:http)
        unserved-ips: 203.0.113.1 . tcp . 80 : goto reject-chain (ns/web:http)
        short-circuit-ips: 203.0.113.1 . tcp . 80 : goto masq-node-cluster-1 (ns/web:http)
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
        unserved-nodeports: tcp . 30080 : goto reject-chain (ns/web:http)
        short-circuit-nodeports: tcp . 30080 : goto masq-node-nodeport-cluster-1 (ns/web:http)
        nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
    "#]],
    );
    check(
        service(NoLocalEndpoints::Passthrough),
        &BOTH[1..],
        &expect![[r#"
        unserved-ips: 10.96.0.1 . tcp . 80 : drop (ns/web:http)
        short-circuit-ips: 203.0.113.1 . tcp . 80 : goto masq-node-cluster-1 (ns/web:http)
        cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
        short-circuit-nodeports: tcp . 30080 : goto masq-node-nodeport-cluster-1 (ns/web:http)
        nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.2 . 8080
        cluster-ips: 10.96.0.1
    "#]],
    );
}

#[test]
fn no_endpoints() {
    check(
        everything(),
        &[],
        &expect![[r#"
        unserved-ips: 10.96.0.1 . tcp . 80 : goto reject-chain (ns/web:http)
        unserved-ips: 203.0.113.1 . tcp . 80 : goto reject-chain (ns/web:http)
        unserved-ips: 198.51.100.1 . tcp . 80 : goto reject-chain (ns/web:http)
        unserved-nodeports: tcp . 30080 : goto reject-chain (ns/web:http)
        cluster-ips: 10.96.0.1
    "#]],
    );
}

#[test]
fn session_affinity() {
    let mut service = service();
    service.policy.session_affinity = Some(std::time::Duration::from_hours(3));
    service.ports[0].node_port = Some(30_080.try_into().unwrap());
    check(
        service,
        BOTH,
        &expect![[r#"
            sticky-ips: 10.96.0.1 . tcp . 80 : goto remember-10.96.0.1-tcp-80-10800 (ns/web:http)
            frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-outside-cluster-2-affinity-10.96.0.1-tcp-80 (ns/web:http)
            cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.1 . 8080
            cluster-endpoints: 10.96.0.1 . tcp . 80 . 1 : 10.244.0.2 . 8080
            sticky-nodeports: tcp . 30080 : goto remember-10.96.0.1-tcp-80-10800 (ns/web:http)
            frontend-nodeports: tcp . 30080 : goto masq-nodeport-cluster-2-affinity-10.96.0.1-tcp-80 (ns/web:http)
            nodeport-cluster-endpoints: tcp . 30080 . 0 : 10.244.0.1 . 8080
            nodeport-cluster-endpoints: tcp . 30080 . 1 : 10.244.0.2 . 8080
            cluster-ips: 10.96.0.1
            hairpin-connections: 10.244.0.1 . 10.244.0.1 . tcp . 8080
            chain remember-10.96.0.1-tcp-80-10800
            chain masq-outside-cluster-2-affinity-10.96.0.1-tcp-80
            chain cluster-2-affinity-10.96.0.1-tcp-80
            chain remember-10.96.0.1-tcp-80-10800
            chain masq-nodeport-cluster-2-affinity-10.96.0.1-tcp-80
            chain nodeport-cluster-2-affinity-10.96.0.1-tcp-80
        "#]],
    );
}

#[test]
fn source_ranges() {
    let mut service = everything();
    service.ports[0].node_port = None;
    service.external_ips.clear();
    service.policy.load_balancer_source_ranges =
        ["192.0.2.0/24", "192.0.3.0/24", "192.0.2.128/25"].map(|net| net.parse().unwrap()).into();
    check(
        service.clone(),
        &[],
        &expect![[r#"
            unserved-ips: 10.96.0.1 . tcp . 80 : goto reject-chain (ns/web:http)
            unserved-ips: 203.0.113.1 . tcp . 80 : goto reject-chain (ns/web:http)
            firewall-dropped: 203.0.113.1 . tcp . 80 : drop (ns/web:http)
            firewall-addresses: 203.0.113.1 . tcp . 80 (ns/web:http)
            firewall-sources: 203.0.113.1 . tcp . 80 . 192.0.2.0 to 203.0.113.1 . tcp . 80 . 192.0.3.255
            cluster-ips: 10.96.0.1
        "#]],
    );
    // This node is a source: then the address itself is one.
    service.policy.load_balancer_source_ranges = vec!["10.0.0.0/24".parse().unwrap()];
    check(
        service,
        &[],
        &expect![[r#"
            unserved-ips: 10.96.0.1 . tcp . 80 : goto reject-chain (ns/web:http)
            unserved-ips: 203.0.113.1 . tcp . 80 : goto reject-chain (ns/web:http)
            firewall-dropped: 203.0.113.1 . tcp . 80 : drop (ns/web:http)
            firewall-addresses: 203.0.113.1 . tcp . 80 (ns/web:http)
            firewall-sources: 203.0.113.1 . tcp . 80 . 10.0.0.0 to 203.0.113.1 . tcp . 80 . 10.0.0.255
            firewall-sources: 203.0.113.1 . tcp . 80 . 203.0.113.1 to 203.0.113.1 . tcp . 80 . 203.0.113.1
            cluster-ips: 10.96.0.1
        "#]],
    );
}

#[test]
fn an_address_that_is_named_twice_is_one_frontend() {
    let mut service = everything();
    service.external_ips = vec![[10, 96, 0, 1].into(), [203, 0, 113, 1].into()];
    service.ports[0].node_port = None;
    service.policy.load_balancer_source_ranges = vec!["192.0.2.0/24".parse().unwrap()];
    check(
        service,
        &BOTH[1..],
        &expect![[r#"
            frontend-ips: 10.96.0.1 . tcp . 80 : goto masq-outside-cluster-1 (ns/web:http)
            cluster-endpoints: 10.96.0.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
            frontend-ips: 203.0.113.1 . tcp . 80 : goto masq-cluster-1 (ns/web:http)
            cluster-endpoints: 203.0.113.1 . tcp . 80 . 0 : 10.244.0.2 . 8080
            firewall-dropped: 203.0.113.1 . tcp . 80 : drop (ns/web:http)
            firewall-addresses: 203.0.113.1 . tcp . 80 (ns/web:http)
            firewall-sources: 203.0.113.1 . tcp . 80 . 192.0.2.0 to 203.0.113.1 . tcp . 80 . 192.0.2.255
            cluster-ips: 10.96.0.1
        "#]],
    );
}
