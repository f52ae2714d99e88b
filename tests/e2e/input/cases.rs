//! The bad objects.

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};

use super::Case;
use crate::objects::{NAMESPACE, Svc};

pub(super) fn all() -> Vec<Case> {
    services().into_iter().chain(slices()).chain(others()).collect()
}

/// A Service with one field changed.
fn service(name: &str, pointer: &str, value: Value, named: &'static [&'static str]) -> Case {
    Case { object: fresh(name).with(pointer, value).object(), named }
}

/// A Service that shares no address with another.
fn fresh(name: &str) -> Svc {
    static NUMBER: AtomicU8 = AtomicU8::new(50);
    Svc::new(name, NUMBER.fetch_add(1, Ordering::Relaxed))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn services() -> Vec<Case> {
    vec![
        service(
            "bad-cluster-ip",
            "/spec/clusterIPs/0",
            json!("10.96.0.300"),
            &["spec.clusterIPs[0]", "10.96.0.300"],
        ),
        service(
            "bad-families",
            "/spec/ipFamilies",
            json!(["IPv6", "IPv4"]),
            &["spec.clusterIPs[0]", "ipFamilies"],
        ),
        service(
            "bad-external-ip",
            "/spec/externalIPs",
            json!(["example.com"]),
            &["spec.externalIPs[0]", "example.com"],
        ),
        service("port-zero", "/spec/ports/0/port", json!(0), &["spec.ports[0].port", "\"0\""]),
        service(
            "port-large",
            "/spec/ports/0/port",
            json!(70_000),
            &["spec.ports[0].port", "70000"],
        ),
        service("port-negative", "/spec/ports/0/port", json!(-1), &["spec.ports[0].port", "-1"]),
        service("port-text", "/spec/ports/0/port", json!("x"), &["spec.ports[0].port"]),
        service("port-huge", "/spec/ports/0/port", json!(1e300), &["spec.ports[0].port"]),
        service(
            "node-port-large",
            "/spec/ports/0/nodePort",
            json!(99_999),
            &["spec.ports[0].nodePort", "99999"],
        ),
        service(
            "protocol",
            "/spec/ports/0/protocol",
            json!("QUIC"),
            &["spec.ports[0].protocol", "QUIC"],
        ),
        service("protocol-number", "/spec/ports/0/protocol", json!(6), &["spec.ports[0].protocol"]),
        service("ports-null", "/spec/ports", Value::Null, &[]),
        service("ports-empty", "/spec/ports", json!([]), &[]),
        service("ports-object", "/spec/ports", json!({ "a": 1 }), &["spec.ports"]),
        service(
            "ports-twice",
            "/spec/ports",
            json!([
                { "name": "p", "protocol": "TCP", "port": 80 },
                { "name": "p", "protocol": "TCP", "port": 81 },
            ]),
            &["spec.ports[1].name", "second"],
        ),
        service("spec-null", "/spec", Value::Null, &[]),
        service("spec-list", "/spec", json!([]), &["spec"]),
        service(
            "policy",
            "/spec/internalTrafficPolicy",
            json!("Nearby"),
            &["spec.internalTrafficPolicy", "Nearby"],
        ),
        service(
            "annotation",
            "/metadata/annotations",
            json!({ "kube-proxy.io/no-local-endpoints": "Reject" }),
            &["kube-proxy.io/no-local-endpoints", "Reject"],
        ),
        service(
            "affinity",
            "/spec/sessionAffinity",
            json!("Cookie"),
            &["spec.sessionAffinity", "Cookie"],
        ),
        Case {
            object: fresh("affinity-timeout").affinity(1_000_000).object(),
            named: &["timeoutSeconds", "1000000"],
        },
        Case {
            object: fresh("vip")
                .with("/spec/type", "LoadBalancer")
                .with("/status/loadBalancer/ingress", json!([{ "ip": "1.2.3" }]))
                .object(),
            named: &["status.loadBalancer.ingress[0].ip", "1.2.3"],
        },
        Case {
            object: fresh("ranges")
                .load_balancer()
                .with("/spec/ports/0/nodePort", Value::Null)
                .with("/status/loadBalancer", Value::Null)
                .with("/spec/loadBalancerSourceRanges", json!(["10.0.0.0/33", "10.0.0.0/8"]))
                .object(),
            named: &["spec.loadBalancerSourceRanges[0]", "10.0.0.0/33"],
        },
        Case {
            object: fresh("health-port")
                .with("/spec/type", "LoadBalancer")
                .external_local()
                .with("/spec/healthCheckNodePort", 0)
                .object(),
            named: &["spec.healthCheckNodePort"],
        },
        Case { object: fresh(&"long-".repeat(200)).object(), named: &[] },
        service("labels-list", "/metadata/labels", json!([]), &["metadata.labels"]),
    ]
}

/// A slice with one field changed.
fn slice(name: &str, change: impl FnOnce(&mut Value), named: &'static [&'static str]) -> Case {
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": "nobody" },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "p", "protocol": "TCP", "port": 80 }],
        "endpoints": [{ "addresses": ["10.244.9.9"], "conditions": { "ready": true } }],
    });
    change(&mut object);
    Case { object, named }
}

fn slices() -> Vec<Case> {
    vec![
        slice("slice-of-nobody", |_| (), &[]),
        slice("slice-without-label", |s| s["metadata"]["labels"] = Value::Null, &[]),
        slice("slice-fqdn", |s| s["addressType"] = json!("FQDN"), &["addressType", "FQDN"]),
        slice(
            "slice-address",
            |s| s["endpoints"][0]["addresses"] = json!(["1.2.3.4.5"]),
            &["endpoints[0].addresses[0]", "1.2.3.4.5"],
        ),
        slice(
            "slice-family",
            |s| s["endpoints"][0]["addresses"] = json!(["fd00::1"]),
            &["endpoints[0].addresses[0]", "fd00::1"],
        ),
        slice(
            "slice-loopback",
            |s| s["endpoints"][0]["addresses"] = json!(["127.0.0.1"]),
            &["endpoints[0].addresses[0]", "127.0.0.1"],
        ),
        slice(
            "slice-no-address",
            |s| s["endpoints"][0]["addresses"] = json!([]),
            &["endpoints[0].addresses"],
        ),
        slice(
            "slice-null-address",
            |s| s["endpoints"][0]["addresses"] = Value::Null,
            &["endpoints[0].addresses"],
        ),
        slice("slice-no-endpoints", |s| s["endpoints"] = Value::Null, &[]),
        slice("slice-endpoints-text", |s| s["endpoints"] = json!("many"), &["endpoints"]),
        slice("slice-ports-null", |s| s["ports"] = Value::Null, &[]),
        slice("slice-port-null", |s| s["ports"][0]["port"] = Value::Null, &[]),
        slice(
            "slice-port-large",
            |s| s["ports"][0]["port"] = json!(1_000_000),
            &["ports[0].port", "1000000"],
        ),
        slice(
            "slice-protocol",
            |s| s["ports"][0]["protocol"] = json!("tcp"),
            &["ports[0].protocol", "tcp"],
        ),
        slice(
            "slice-ready-text",
            |s| s["endpoints"][0]["conditions"]["ready"] = json!("yes"),
            &["endpoints[0].conditions.ready"],
        ),
        slice(
            "slice-hints",
            |s| s["endpoints"][0]["hints"] = json!({ "forZones": [{}, { "name": null }] }),
            &[],
        ),
        slice(
            "slice-trigger",
            |s| {
                s["metadata"]["annotations"] =
                    json!({ "endpoints.kubernetes.io/last-change-trigger-time": "yesterday" });
            },
            &["last-change-trigger-time", "yesterday"],
        ),
        slice(
            "slice-weight",
            |s| s["metadata"]["annotations"] = json!({ "service.cilium.io/weight": "heavy" }),
            &["service.cilium.io/weight", "heavy"],
        ),
        slice(
            "slice-endpoint-weights",
            |s| {
                s["metadata"]["annotations"] =
                    json!({ "kube-proxy.io/endpoint-weights": "10.244.9.9=-1" });
            },
            &["kube-proxy.io/endpoint-weights", "10.244.9.9=-1"],
        ),
    ]
}

fn others() -> Vec<Case> {
    let cidr = |name: &str, cidrs: Value, named| Case {
        object: json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": { "name": name },
            "spec": { "cidrs": cidrs },
        }),
        named,
    };
    vec![cidr("cidr-bad", json!(["10.96.0.0/40"]), &["spec.cidrs[0]", "10.96.0.0/40"])]
}
