use kube_proxy_core::ObjectName;

use super::*;

fn name(namespace: &str, service: &str, port: &str, protocol: Protocol) -> ServicePortName {
    ServicePortName { service: ObjectName::new(namespace, service), port: port.into(), protocol }
}

/// The first is what every cluster has for its API server. The others were made with
/// `printf ns1/svc1:p80tcp | openssl dgst -sha256 -binary | base32 | cut -c1-16`.
#[test]
fn hashes_are_those_of_kubernetes() {
    let api = ServiceChains::of(&name("default", "kubernetes", "https", Protocol::Tcp));
    assert_eq!(api.cluster.as_str(), "KUBE-SVC-NPX46M4PTMTKRN6Y");
    let named = ServiceChains::of(&name("ns1", "svc1", "p80", Protocol::Tcp));
    assert_eq!(named.cluster.as_str(), "KUBE-SVC-XPGD46QRK7WJZT7O");
    assert_eq!(named.local.as_str(), "KUBE-SVL-XPGD46QRK7WJZT7O");
    assert_eq!(named.external.as_str(), "KUBE-EXT-XPGD46QRK7WJZT7O");
    assert_eq!(named.firewall.as_str(), "KUBE-FW-XPGD46QRK7WJZT7O");
    let unnamed = ServiceChains::of(&name("default", "kubernetes", "", Protocol::Tcp));
    assert_eq!(unnamed.cluster.as_str(), "KUBE-SVC-MBEGLAPII7DDIM3R");
}

#[test]
fn hashes_of_endpoints() {
    let web = name("default", "web", "http", Protocol::Tcp);
    for (address, expected) in [
        ("10.1.0.1:8080", "KUBE-SEP-TNEBFAHAS3RAPUKU"),
        ("[fd00::1]:8080", "KUBE-SEP-WCULYWWGDC2GGMCE"),
    ] {
        let sample = crate::tests::samples::service("x", "10.96.0.1").remote(address);
        assert_eq!(endpoint_chain(&web, &sample.endpoints[0]).as_str(), expected);
    }
}

#[test]
fn names_of_dispatch_chains_fit() {
    let widest = ipv4_dispatch_chain("KUBE-HPIN-", Ipv4Addr::BROADCAST, 32);
    assert_eq!(widest.as_str(), "KUBE-HPIN-255.255.255.255-32");
    let range = port_dispatch_chain("KUBE-HPIN-", Protocol::Sctp, 65535, 65535);
    assert_eq!(range.as_str(), "KUBE-HPIN-sctp-65535-65535");
    let long = ipv6_dispatch_chain("KUBE-HPIN-", Ipv6Addr::LOCALHOST, 128);
    assert_eq!(long.as_str().len(), 26);
    let other = ipv6_dispatch_chain("KUBE-HPIN-", Ipv6Addr::UNSPECIFIED, 128);
    assert_ne!(long, other);
}

#[test]
fn dispatch_chains_are_told_from_those_of_endpoints() {
    let dispatch = [
        ChainName::fixed("KUBE-SEP-HAIRPIN"),
        ipv4_dispatch_chain("KUBE-SEP-", Ipv4Addr::new(10, 244, 10, 128), 25),
        // As long as a hash.
        ipv6_dispatch_chain("KUBE-SEP-", Ipv6Addr::LOCALHOST, 112),
        port_dispatch_chain("KUBE-SEP-", Protocol::Tcp, 30000, 30015),
    ];
    assert!(!dispatch.iter().any(ChainName::is_of_endpoint));
    assert!(ChainName::fixed("KUBE-SEP-TNEBFAHAS3RAPUKU").is_of_endpoint());
}

#[test]
fn what_cannot_be_a_name_is_none() {
    for text in ["", "with space", "tab\t", "ä", "12345678901234567890123456789"] {
        assert_eq!(ChainName::new(text), None, "{text:?}");
    }
    let longest = "1234567890123456789012345678";
    assert_eq!(ChainName::new(longest).unwrap().to_string(), longest);
}
