//! JSON and protobuf of the same object give the same event.

use fake_apiserver::{protobuf_event, protobuf_list};
use kube_proxy_testkit::generate::Scale;
use proptest::collection::vec;
use proptest::option;
use serde_json::{Map, Value, json};

use super::*;

/// One of these values.
fn any_of(values: &[&str]) -> BoxedStrategy<Value> {
    let values: Vec<Value> = values.iter().map(|value| json!(value)).collect();
    prop::sample::select(values).boxed()
}

/// An object that has each of these fields or not.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields = fields.into_iter().map(|(name, value)| {
        option::weighted(0.8, value).prop_map(move |value| Some((name.to_owned(), value?)))
    });
    let entries = |entries: Vec<Option<_>>| Value::Object(entries.into_iter().flatten().collect());
    fields.collect::<Vec<_>>().prop_map(entries).boxed()
}

fn list(element: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    vec(element, 0..4).prop_map(Value::Array).boxed()
}

fn number() -> BoxedStrategy<Value> {
    let some = [0, 1, 80, 65535, 65536, -1, i64::from(i32::MIN), i64::MAX].map(|n| json!(n));
    prop::sample::select(some.to_vec()).boxed()
}

fn flag() -> BoxedStrategy<Value> {
    any::<bool>().prop_map(|flag| json!(flag)).boxed()
}

fn address() -> BoxedStrategy<Value> {
    any_of(&["10.96.0.1", "192.0.2.7", "fd00::1", "010.0.0.1", "None", "", "oops", "é\"\\\n"])
}

fn network() -> BoxedStrategy<Value> {
    any_of(&["10.0.0.0/8", "fd00::/64", "10.0.0.1/8", "", "x"])
}

fn metadata() -> BoxedStrategy<Value> {
    object(vec![
        ("name", any_of(&["a", "b", ""])),
        ("namespace", any_of(&["n", ""])),
        ("resourceVersion", any_of(&["7", "18446744073709551615"])),
        ("generation", number()),
        ("deletionTimestamp", any_of(&["2026-01-01T00:00:01Z"])),
        (
            "labels",
            object(vec![
                ("kubernetes.io/service-name", any_of(&["s", ""])),
                ("service.kubernetes.io/service-proxy-name", any_of(&["p", ""])),
                ("service.kubernetes.io/headless", any_of(&["", "x"])),
                ("topology.kubernetes.io/zone", any_of(&["z", ""])),
                ("app", any_of(&["web"])),
            ]),
        ),
        (
            "annotations",
            object(vec![
                (
                    "endpoints.kubernetes.io/last-change-trigger-time",
                    any_of(&["2026-01-01T00:00:00.5Z", "x"]),
                ),
                ("kube-proxy.io/ipvs-scheduler", any_of(&["rr", ""])),
                ("kube-proxy.io/userspace-proxy-protocol", any_of(&["v1", "v3"])),
                ("kube-proxy.io/fast-path", any_of(&["true", "x"])),
                ("kube-proxy.io/no-local-endpoints", any_of(&["Reject", "x"])),
                ("kube-proxy.io/lb-algorithm", any_of(&["source-hash", "x"])),
                ("kube-proxy.io/weight", any_of(&["0", "7", "65536"])),
                ("kube-proxy.io/endpoint-weights", any_of(&["10.0.0.1=2", "fd00::1 = 3, x", ""])),
                ("service.cilium.io/weight", any_of(&["9", "-1", ""])),
            ]),
        ),
        ("finalizers", list(any_of(&["f"]))),
    ])
}

fn service() -> BoxedStrategy<Value> {
    let port = object(vec![
        ("name", any_of(&["http", "", "dns"])),
        ("protocol", any_of(&["TCP", "UDP", "SCTP", "tcp", ""])),
        ("port", number()),
        ("nodePort", number()),
        ("targetPort", prop_oneof![number(), any_of(&["web"])].boxed()),
    ]);
    let client_ip = object(vec![("timeoutSeconds", number())]);
    let spec = object(vec![
        ("type", any_of(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", ""])),
        ("clusterIP", address()),
        ("clusterIPs", list(address())),
        ("ipFamilies", list(any_of(&["IPv4", "IPv6", "x"]))),
        ("externalIPs", list(address())),
        ("loadBalancerSourceRanges", list(network())),
        ("internalTrafficPolicy", any_of(&["Local", "Cluster", "", "x"])),
        ("externalTrafficPolicy", any_of(&["Local", "Cluster", "", "x"])),
        ("sessionAffinity", any_of(&["ClientIP", "None", "", "x"])),
        ("sessionAffinityConfig", object(vec![("clientIP", client_ip)])),
        ("healthCheckNodePort", number()),
        ("selector", object(vec![("app", any_of(&["web"]))])),
        ("publishNotReadyAddresses", flag()),
        ("ports", list(port)),
    ]);
    let ingress = object(vec![("ip", address()), ("ipMode", any_of(&["VIP", "Proxy", "x", ""]))]);
    let balancer = object(vec![("ingress", list(ingress))]);
    let status = object(vec![("loadBalancer", balancer)]);
    object(vec![("metadata", metadata()), ("spec", spec), ("status", status)])
}

fn endpoint_slice() -> BoxedStrategy<Value> {
    let hints = || list(object(vec![("name", any_of(&["z", "n", ""]))]));
    let endpoint = object(vec![
        ("addresses", list(address())),
        (
            "conditions",
            object(vec![("ready", flag()), ("serving", flag()), ("terminating", flag())]),
        ),
        ("nodeName", any_of(&["n1", ""])),
        ("hostname", any_of(&["h"])),
        ("targetRef", object(vec![("kind", any_of(&["Pod"])), ("name", any_of(&["p"]))])),
        ("hints", object(vec![("forZones", hints()), ("forNodes", hints())])),
    ]);
    let port = object(vec![
        ("name", any_of(&["http", ""])),
        ("protocol", any_of(&["TCP", "UDP", "x", ""])),
        ("port", number()),
    ]);
    object(vec![
        ("metadata", metadata()),
        ("addressType", any_of(&["IPv4", "IPv6", "FQDN"])),
        ("ports", list(port)),
        ("endpoints", list(endpoint)),
    ])
}

fn node() -> BoxedStrategy<Value> {
    let taint = object(vec![("key", any_of(&["ToBeDeletedByClusterAutoscaler", "x", ""]))]);
    let address =
        object(vec![("type", any_of(&["InternalIP", "ExternalIP", "x"])), ("address", address())]);
    object(vec![
        ("metadata", metadata()),
        (
            "spec",
            object(vec![
                ("podCIDR", network()),
                ("podCIDRs", list(network())),
                ("taints", list(taint)),
            ]),
        ),
        ("status", object(vec![("addresses", list(address))])),
    ])
}

fn service_cidr() -> BoxedStrategy<Value> {
    let spec = object(vec![("cidrs", list(network()))]);
    object(vec![("metadata", metadata()), ("spec", spec)])
}

/// A kind and an object of it.
fn any_object() -> impl Strategy<Value = (Kind, Value)> {
    prop_oneof![
        service().prop_map(|object| (Kind::Service, object)),
        endpoint_slice().prop_map(|object| (Kind::EndpointSlice, object)),
        node().prop_map(|object| (Kind::Node, object)),
        service_cidr().prop_map(|object| (Kind::ServiceCidr, object)),
    ]
}

/// What an event says, and the fields that it complains of: the two encodings have different names for wrong types.
fn said(event: &Result<WatchEvent, DecodeError>) -> (String, Vec<String>) {
    match event {
        Ok(WatchEvent::Applied(decoded, version)) => {
            let kept = matches!(decoded.event, Event::Kept(..));
            let problem = |p: &Problem| if kept { p.field.clone() } else { p.to_string() };
            let problems = decoded.problems.iter().map(problem).collect();
            (format!("{} {:?} {version}", decoded.name, decoded.event), problems)
        }
        other => (format!("{other:?}"), Vec::new()),
    }
}

fn both(kind: Kind, object: &Value) -> [(String, Vec<String>); 2] {
    let line = json!({"type": "ADDED", "object": object}).to_string();
    let frame = protobuf_event("ADDED", &kind.to_string(), object);
    let context = Context::default();
    [
        said(&watch_event(Format::Json, kind, line.as_bytes(), &context)),
        said(&watch_event(Format::Protobuf, kind, &frame[4..], &context)),
    ]
}

/// All places in an object that hold a value.
fn places(value: &mut Value) -> Vec<&mut Value> {
    let whole = match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => true,
    };
    match value {
        leaf if whole => vec![leaf],
        Value::Object(fields) => fields.values_mut().flat_map(places).collect(),
        Value::Array(elements) => elements.iter_mut().flat_map(places).collect(),
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn the_same_object_gives_the_same_event((kind, object) in any_object()) {
        let [json, protobuf] = both(kind, &object);
        prop_assert_eq!(json, protobuf);
    }

    /// A field of the wrong type is the same field in both; or one that nothing reads, and no fault in either.
    #[test]
    fn a_wrong_type_is_found_in_both((kind, mut object) in any_object(), place in any::<prop::sample::Index>()) {
        if let Value::Object(fields) = &mut object {
            fields.entry("metadata").or_insert_with(|| Map::new().into());
        }
        let mut places = places(&mut object);
        let at = place.index(places.len());
        *places[at] = match &places[at] {
            Value::String(_) => json!(7),
            Value::Number(_) => json!("7"),
            _ => json!("x"),
        };
        drop(places);
        let [(json, json_fields), (protobuf, fields)] = both(kind, &object);
        prop_assert_eq!(&json, &protobuf, "{}", &object);
        for (a, b) in json_fields.iter().zip(&fields) {
            prop_assert!(a.starts_with(b) || b.starts_with(a), "{a} and {b}");
        }
    }

    /// Good bytes with some of them replaced, removed or doubled: whatever comes out, nothing breaks, and a list is whole or none.
    #[test]
    fn damaged_bytes_are_survived((kind, object) in any_object(), at in any::<prop::sample::Index>(), change in 0u8..5, byte in any::<u8>()) {
        let context = Context::default();
        let list = protobuf_list(&kind.to_string(), &json!({"resourceVersion": "7"}), &[object.clone(), object.clone()]);
        let event = protobuf_event("ADDED", &kind.to_string(), &object);
        for (bytes, is_list) in [(list, true), (event[4..].to_vec(), false)] {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            match change {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.truncate(at),
                3 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
            let mut objects = 0;
            if is_list {
                let result = page(Format::Protobuf, kind, &bytes, &context, &mut |_| objects += 1);
                prop_assert!(result.is_ok() || objects == 0);
            } else {
                let _ = watch_event(Format::Protobuf, kind, &bytes, &context);
            }
            status(&bytes);
        }
    }
}

#[test]
fn a_whole_cluster_is_the_same_in_both() {
    let cluster = Scale::new(40, 7);
    let mut count = 0;
    for object in cluster.objects() {
        let kind = match object["kind"].as_str() {
            Some("Service") => Kind::Service,
            Some("EndpointSlice") => Kind::EndpointSlice,
            Some("Node") => Kind::Node,
            _ => continue,
        };
        let [json, protobuf] = both(kind, &object);
        assert!(json.0.contains("Applied"), "{json:?}");
        assert_eq!(json, protobuf);
        count += 1;
    }
    assert!(count >= 80, "{count}");
}
