//! The bytes were made with `protoc --encode MESSAGE generated.proto` from the definitions of Kubernetes 1.36, not by this encoder.

use serde_json::json;

use super::*;

#[track_caller]
fn check(bytes: &[u8], expected: &str) {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex.concat(), expected.split_whitespace().collect::<String>());
}

#[test]
fn an_endpoint_slice() {
    let slice = json!({
        "metadata": {"name": "a-1", "labels": {"k": "v"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true, "terminating": false},
            "nodeName": "n1", "hints": {"forZones": [{"name": "z"}]}}],
        "ports": [{"name": "", "port": 8080}],
    });
    check(
        &protobuf_object("EndpointSlice", &slice),
        "0a1b 0a03612d31 1200 1a00 2200 2a00 3200 3800 4200 5a06 0a016b 120176 \
         121b 0a0831302e312e302e31 1204 0801 1800 32026e31 4205 0a03 0a017a \
         1a05 0a00 18903f \
         220449507634",
    );
}

#[test]
fn a_service_with_a_named_target_port_and_a_negative_number() {
    let port = json!({"port": 80, "targetPort": "http", "nodePort": -1});
    check(
        &protobuf_object("Service", &json!({"spec": {"ports": [port]}})),
        "0a10 0a00 1200 1a00 2200 2a00 3200 3800 4200 \
         122f 0a1d 0a00 1200 1850 220a 0801 1000 1a0468747470 28ffffffffffffffffff01 \
              1a00 2200 3a00 4200 5200 5a00 6000 6800 \
         1a02 0a00",
    );
}

#[test]
fn a_node_with_times_and_quantities() {
    let node = json!({
        "metadata": {"name": "n", "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:00:01Z"},
        "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "a"}]},
        "status": {"capacity": {"cpu": "4"}, "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    });
    check(
        &protobuf_object("Node", &node),
        "0a24 0a016e 1200 1a00 2200 2a00 320137 3800 4208 0880f2d6ca06 1000 4a08 0881f2d6ca06 1000 \
         1229 0a0b31302e302e302e302f3234 1200 1a00 2000 2a07 0a0161 1200 1a00 3a0b31302e302e302e302f3234 \
         1a27 0a0a 0a03637075 1203 0a0134 1a00 2a17 0a0a496e7465726e616c4950 12093139322e302e322e31",
    );
}

const STATUS_BYTES: &str = "0a06 0a00 1200 1a00 12074661696c757265 1a036f6c64 220745787069726564 \
    2a0a 0a00 1200 1a00 2803 3200 309a03";

#[test]
fn a_status_in_an_event_of_a_watch() {
    let status = json!({"status": "Failure", "message": "old", "reason": "Expired",
        "details": {"retryAfterSeconds": 3}, "code": 410});
    check(&protobuf_object("Status", &status), STATUS_BYTES);
    let event = protobuf_event("ERROR", "Status", &status);
    let head = "00000051 0a054552524f52 1248 0a46 6b387300 0a0c 0a027631 1206537461747573 122e";
    check(&event, &format!("{head} {STATUS_BYTES} 1a00 2200"));
}

#[test]
fn a_list_with_a_next_page() {
    let cidr = json!({"metadata": {"name": "x"}, "spec": {"cidrs": ["::/0"]}});
    let metadata = json!({"resourceVersion": "7", "continue": "c", "remainingItemCount": 3});
    check(
        &protobuf_list("ServiceCIDR", &metadata, &[cidr]),
        "6b387300 0a15 0a027631 120f53657276696365434944524c697374 122b \
           0a0a 0a00 120137 1a0163 2003 \
           121d 0a11 0a0178 1200 1a00 2200 2a00 3200 3800 4200 1206 0a043a3a2f30 1a00 \
         1a00 2200",
    );
}

#[test]
fn values_of_the_wrong_type_have_the_wrong_wire_type() {
    let spec = |spec: Value| {
        let service = json!({"spec": spec});
        protobuf_object("Service", &service)
    };
    let has = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(&spec(json!({"externalIPs": 7})), &[5 << 3, 7]), "a number in place of texts");
    assert!(has(&spec(json!({"ports": [{"port": "x"}]})), &[3 << 3 | 2, 1, b'x']));
    assert!(has(&spec(json!({"clusterIP": {}})), &[3 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert!(has(&spec(json!({"healthCheckNodePort": 1e30})), &[0xff, 0x7f]));
    assert!(has(
        &spec(json!({"healthCheckNodePort": 0.5})),
        &[12 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0]
    ));
}
