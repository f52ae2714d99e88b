use std::net::IpAddr;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses};

use crate::testing::flags;

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace().map(|net| net.parse().unwrap()).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn local_traffic_by_mode() {
    let cidr = |text: &str| LocalTrafficDetector::Cidr(text.parse().unwrap());
    let pods = nets("10.1.0.0/24 10.2.0.0/24 fd01::/64");
    for (line, v4, v6) in [
        ("", LocalTrafficDetector::None, LocalTrafficDetector::None),
        ("--cluster-cidr=10.0.3.4/8", cidr("10.0.0.0/8"), LocalTrafficDetector::None),
        ("--cluster-cidr=fd00::/48,10.0.0.0/8", cidr("10.0.0.0/8"), cidr("fd00::/48")),
        ("--detect-local-mode=NodeCIDR", cidr("10.1.0.0/24"), cidr("fd01::/64")),
        (
            "--detect-local-mode=BridgeInterface --pod-bridge-interface=cbr0",
            LocalTrafficDetector::Bridge("cbr0".to_owned()),
            LocalTrafficDetector::Bridge("cbr0".to_owned()),
        ),
        (
            "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=veth",
            LocalTrafficDetector::InterfacePrefix("veth".to_owned()),
            LocalTrafficDetector::InterfacePrefix("veth".to_owned()),
        ),
    ] {
        let effective = flags(line).effective;
        assert_eq!(effective.local_traffic_detector(IpFamily::V4, &pods), v4, "{line}");
        assert_eq!(effective.local_traffic_detector(IpFamily::V6, &pods), v6, "{line}");
    }
}

#[test]
fn node_port_addresses_of_a_family() {
    let within = |text: &str| NodePortAddresses::Within(nets(text));
    let primary = flags("--nodeport-addresses=primary").effective;
    assert_eq!(
        primary.node_port_addresses(IpFamily::V4, Some(ip("10.0.0.1"))),
        within("10.0.0.1/32")
    );
    assert_eq!(
        primary.node_port_addresses(IpFamily::V6, Some(ip("fd00::1"))),
        within("fd00::1/128")
    );
    // An unknown, unusable or wrong address closes the family instead of opening it.
    for address in [None, Some(ip("127.0.0.1")), Some(ip("0.0.0.0")), Some(ip("fd00::1"))] {
        assert_eq!(primary.node_port_addresses(IpFamily::V4, address), within(""));
    }
    let mixed = flags("--nodeport-addresses=primary,192.0.2.0/24,localhost").effective;
    assert_eq!(
        mixed.node_port_addresses(IpFamily::V4, Some(ip("10.0.0.1"))),
        within("192.0.2.0/24 127.0.0.0/8 10.0.0.1/32")
    );
    assert_eq!(mixed.node_port_addresses(IpFamily::V6, None), within("::1/128"), "not open");
    let some = flags("--nodeport-addresses=primary,192.0.2.0/24").effective;
    assert_eq!(some.node_port_addresses(IpFamily::V6, None), within(""), "not open");
    let twice = flags("--nodeport-addresses=primary,10.0.0.1/32,primary").effective;
    assert_eq!(
        twice.node_port_addresses(IpFamily::V4, Some(ip("10.0.0.1"))),
        within("10.0.0.1/32")
    );
    for all in ["all", "all,primary", "localhost,all", "primary,0.0.0.0/0,::/0"] {
        let all = flags(&format!("--nodeport-addresses={all}")).effective;
        for family in IpFamily::BOTH {
            assert_eq!(all.node_port_addresses(family, None), NodePortAddresses::All);
        }
    }
    let listed = flags("--nodeport-addresses=10.0.0.0/8,192.168.0.0/16").effective;
    assert_eq!(listed.node_port_addresses(IpFamily::V4, None), within("10.0.0.0/8 192.168.0.0/16"));
    assert_eq!(listed.node_port_addresses(IpFamily::V6, None), NodePortAddresses::All);
    assert_eq!(flags("").effective.node_port_addresses(IpFamily::V4, None), NodePortAddresses::All);
}

#[test]
fn listening_on_localhost() {
    let check = |line: &str, expected: [bool; 2]| {
        let effective = flags(line).effective;
        assert_eq!(
            IpFamily::BOTH.map(|family| effective.listens_on_localhost(family)),
            expected,
            "{line}"
        );
    };
    let nftables = |rest: &str, expected| check(&format!("--proxy-mode=nftables {rest}"), expected);
    nftables("", [false, false]);
    nftables("--nodeport-addresses=primary,localhost", [true, true]);
    nftables("--nodeport-addresses=127.0.0.1/32", [true, false]);
    nftables("--nodeport-addresses=127.0.0.0/8,::1/128", [true, true]);
    // Not the address that is listened at.
    nftables("--nodeport-addresses=127.0.0.2/32", [false, false]);
    // Not named.
    nftables("--nodeport-addresses=all", [false, false]);
    nftables("--nodeport-addresses=0.0.0.0/0,::/0,126.0.0.0/7,0.0.0.0/1", [false, false]);
    let gate = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false";
    nftables(&format!("--nodeport-addresses=localhost {gate}"), [false, false]);
    nftables(&format!("--nftables-localhost-nodeports {gate}"), [true, true]);
    nftables("--nftables-localhost-nodeports=false --nodeport-addresses=localhost", [false, false]);
    check("--nodeport-addresses=localhost", [false, false]);
}

/// What is listened at is not refused; without the gate nothing is, unless a flag asks for listening.
#[test]
fn refused_on_localhost() {
    use kube_proxy_core::Protocol::{Sctp, Tcp, Udp};
    let check = |line: &str, expected: [&[kube_proxy_core::Protocol]; 2]| {
        let effective = flags(&format!("--proxy-mode=nftables {line}")).effective;
        let refused = IpFamily::BOTH.map(|family| effective.refused_on_localhost(family));
        assert_eq!(refused, expected, "{line}");
    };
    let all: &[_] = &[Tcp, Udp, Sctp];
    check("", [all, all]);
    check("--nodeport-addresses=localhost", [&[Sctp], &[Sctp]]);
    check("--nodeport-addresses=127.0.0.0/8", [&[Sctp], all]);
    check("--nodeport-addresses=127.0.0.2/32", [all, all]);
    check("--nodeport-addresses=all", [all, all]);
    check("--nftables-localhost-nodeports=false --nodeport-addresses=localhost", [all, all]);
    let gate = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false";
    check(gate, [&[], &[]]);
    check(&format!("--nodeport-addresses=localhost {gate}"), [&[], &[]]);
    check(&format!("--nftables-localhost-nodeports {gate}"), [&[Sctp], &[Sctp]]);
}

#[test]
fn userspace_ports() {
    for (text, range) in [
        ("", None),
        ("0-0", None),
        ("100-200", Some(100..=200)),
        ("100+5", Some(100..=105)),
        ("100", Some(100..=100)),
        ("65000+9999", Some(65_000..=65_535)),
    ] {
        let line = format!("--proxy-mode=userspace --proxy-port-range={text}");
        assert_eq!(flags(&line).effective.userspace.port_range, range, "{text}");
    }
}
