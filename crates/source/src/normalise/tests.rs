use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::address::{ip, net};
use crate::context::Context;
use crate::problem::Problem;
use crate::slim;

/// The result and the problems of one object, as text.
fn check<T: std::fmt::Debug>((object, problems): (Option<T>, Vec<Problem>), expected: &Expect) {
    let mut text = match object {
        Some(object) => format!("{object:#?}\n"),
        None => "not proxied\n".to_owned(),
    };
    for problem in problems {
        writeln!(text, "{problem}").unwrap();
    }
    expected.assert_eq(&text);
}

fn service(json: &Value, expected: &Expect) {
    let text = json.to_string();
    let slim: slim::Service<'_> = serde_json::from_str(&text).unwrap();
    check(super::service(&slim, &Context::default()), expected);
}

fn slice(json: &Value, expected: &Expect) {
    let text = json.to_string();
    let slim: slim::EndpointSlice<'_> = serde_json::from_str(&text).unwrap();
    check(super::endpoint_slice(&slim, &Context::default()), expected);
}

mod services;
mod slices;

#[test]
fn addresses_are_parsed_sloppily_and_printed_canonically() {
    for (written, canonical) in [
        ("10.0.0.1", "10.0.0.1"),
        ("010.000.000.001", "10.0.0.1"),
        (" 10.0.0.1 ", "10.0.0.1"),
        ("00000010.0.0.1", "10.0.0.1"),
        ("FD00:0::01", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:010.0.0.1", "10.0.0.1"),
        ("64:ff9b::192.000.002.1", "64:ff9b::c000:201"),
    ] {
        let parsed = ip(written).map(|ip| ip.to_string());
        assert_eq!(parsed.as_deref(), Some(canonical), "{written}");
    }
    for bad in [
        "",
        "10.0.0",
        "10.0.0.0.1",
        "10.0.0.256",
        "10.0.0.+1",
        "10.0.0.-1",
        "10.0..1",
        "a",
        "fd00:::1",
        "10.0.0.1:80",
        "10.0.0.1/32",
        "[::1]",
        "fe80::1%eth0",
        "0x0a.0.0.1",
    ] {
        assert_eq!(ip(bad), None, "{bad}");
    }
}

#[test]
fn networks_are_parsed_sloppily() {
    for (written, canonical) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("010.1.2.3/08", "10.1.2.3/8"),
        ("fd00::/64", "fd00::/64"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        let parsed = net(written).map(|net| net.to_string());
        assert_eq!(parsed.as_deref(), Some(canonical), "{written}");
    }
    for bad in [
        "",
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/",
        "/8",
        "fd00::/129",
        "::ffff:10.0.0.0/95",
        "10.0.0.0/8/8",
    ] {
        assert_eq!(net(bad), None, "{bad}");
    }
}

#[test]
fn a_node_is_reduced_to_what_is_used() {
    let node = json!({
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z"},
                     "deletionTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "x", "fd00::/64"],
                 "taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]},
        "status": {"addresses": [
            {"type": "ExternalIP", "address": "198.51.100.1"}, {"type": "Hostname", "address": "n1"},
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "oops"}]}
    })
    .to_string();
    let slim: slim::Node<'_> = serde_json::from_str(&node).unwrap();
    check(
        super::node(&slim, &Context::default()),
        &expect![[r#"
            Node {
                name: "n1",
                zone: Some(
                    "z",
                ),
                addresses: [
                    192.0.2.1,
                    198.51.100.1,
                ],
                pod_cidrs: [
                    10.1.0.0/24,
                    fd00::/64,
                ],
                being_deleted: true,
                to_be_removed_by_autoscaler: true,
            }
            Node n1: status.addresses[3].address: "oops": not an IP address; ignored
            Node n1: spec.podCIDRs[1]: "x": not a network like 10.0.0.0/8; ignored
        "#]],
    );
}

#[test]
fn a_service_cidr_is_its_networks() {
    let text =
        r#"{"metadata": {"name": "k"}, "spec": {"cidrs": ["10.96.0.0/12", "", "fd00::/112"]}}"#;
    let slim: slim::ServiceCidr<'_> = serde_json::from_str(text).unwrap();
    let (object, problems) = super::service_cidr(&slim, &Context::default());
    let (name, nets) = object.unwrap();
    assert_eq!(name.to_string(), "k");
    assert_eq!(nets, ["10.96.0.0/12".parse().unwrap(), "fd00::/112".parse().unwrap()]);
    assert_eq!(problems.len(), 1);
}

/// JSON that has the field names of the API in any places, with any values.
fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        Just(json!(80)),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(65536)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<f64>().prop_map(|n| json!(n)),
    ];
    let string = prop_oneof![
        Just("10.0.0.1".to_owned()),
        Just("fd00::1".to_owned()),
        Just("None".to_owned()),
        Just("IPv4".to_owned()),
        Just("IPv6".to_owned()),
        Just("Local".to_owned()),
        Just("ClientIP".to_owned()),
        Just("TCP".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("LoadBalancer".to_owned()),
        ".{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        string.prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "metadata",
        "name",
        "namespace",
        "labels",
        "annotations",
        "spec",
        "status",
        "clusterIP",
        "clusterIPs",
        "ipFamilies",
        "externalIPs",
        "ports",
        "port",
        "nodePort",
        "protocol",
        "type",
        "sessionAffinity",
        "sessionAffinityConfig",
        "clientIP",
        "timeoutSeconds",
        "loadBalancerSourceRanges",
        "loadBalancer",
        "ingress",
        "ip",
        "ipMode",
        "healthCheckNodePort",
        "externalTrafficPolicy",
        "internalTrafficPolicy",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "ready",
        "hints",
        "forZones",
        "forNodes",
        "nodeName",
        "kubernetes.io/service-name",
        "endpoints.kubernetes.io/last-change-trigger-time",
        "podCIDRs",
        "taints",
        "cidrs",
    ]);
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|entries| entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    /// Nothing that the API server may send makes normalising fail, and what is decodable is either taken or left.
    #[test]
    fn any_json_is_survived(value in any_json()) {
        let text = value.to_string();
        let context = Context::default();
        if let Ok(object) = serde_json::from_str::<slim::Service<'_>>(&text) {
            let (service, _) = super::service(&object, &context);
            if let Some(service) = service {
                prop_assert!(service.cluster_ips.v4.is_some() || service.cluster_ips.v6.is_some());
            }
        }
        if let Ok(object) = serde_json::from_str::<slim::EndpointSlice<'_>>(&text) {
            let (slice, _) = super::endpoint_slice(&object, &context);
            if let Some(slice) = slice {
                let family = slice.family;
                prop_assert!(slice.endpoints.iter().all(|e| kube_proxy_core::IpFamily::of(&e.address) == family));
            }
        }
        if let Ok(object) = serde_json::from_str::<slim::Node<'_>>(&text) {
            super::node(&object, &context);
        }
        if let Ok(object) = serde_json::from_str::<slim::ServiceCidr<'_>>(&text) {
            super::service_cidr(&object, &context);
        }
    }

    /// An address in any spelling that the standard library reads is read as the same address.
    #[test]
    fn addresses_agree_with_the_standard_library(address in any::<std::net::IpAddr>()) {
        prop_assert_eq!(ip(&address.to_string()), Some(address.to_canonical()));
    }

    /// No text at all makes the parsers of addresses fail.
    #[test]
    fn any_text_is_survived(text in "[0-9a-fA-F.:/ x+-]{0,40}") {
        ip(&text);
        net(&text);
    }
}
