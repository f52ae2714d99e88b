use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn with(fields: &Value) -> Value {
    let mut full = json!({
        "metadata": {"namespace": "ns", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
    });
    for (key, value) in fields.as_object().unwrap() {
        full[key] = value.clone();
    }
    full
}

#[test]
fn a_full_slice() {
    slice(
        &with(&json!({
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "x"}],
            "endpoints": [{
                "addresses": ["10.1.0.1", "10.1.0.2"], "nodeName": "n1", "zone": "z1",
                "conditions": {"ready": false, "serving": true, "terminating": true},
                "hints": {"forZones": [{"name": "z1"}, {"name": ""}], "forNodes": [{"name": "n1"}]}
            }]
        })),
        &expect![[r#"
            EndpointSlice {
                name: ObjectName {
                    namespace: "ns",
                    name: "web-1",
                },
                service: "web",
                family: V4,
                ports: [
                    SlicePort {
                        name: "http",
                        protocol: Tcp,
                        port: 8080,
                    },
                ],
                endpoints: [
                    SliceEndpoint {
                        address: 10.1.0.1,
                        conditions: Conditions {
                            ready: false,
                            serving: true,
                            terminating: true,
                        },
                        node: Some(
                            "n1",
                        ),
                        zone_hints: [
                            "z1",
                        ],
                        node_hints: [
                            "n1",
                        ],
                        weight: 1,
                    },
                ],
                trigger_time: None,
            }
        "#]],
    );
}

#[test]
fn what_is_not_used() {
    let not_proxied = expect![[r"
        not proxied
    "]];
    slice(&json!({"metadata": {"name": "s"}, "addressType": "IPv4"}), &not_proxied);
    let mut headless = with(&json!({}));
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    slice(&headless, &not_proxied);
    slice(
        &with(&json!({"addressType": "FQDN"})),
        &expect![[r#"
            not proxied
            EndpointSlice ns/web-1: addressType: "FQDN": not IPv4 or IPv6; the slice is ignored
        "#]],
    );
}

#[test]
fn unset_conditions_mean_ready_and_serving() {
    for conditions in [Value::Null, json!({}), json!({"ready": null})] {
        let object =
            with(&json!({"endpoints": [{"addresses": ["10.1.0.1"], "conditions": conditions}]}));
        let text = object.to_string();
        let slim: slim::EndpointSlice<'_> = serde_json::from_str(&text).unwrap();
        let (slice, _) = super::super::endpoint_slice(&slim, &Context::default());
        let endpoint = &slice.unwrap().endpoints[0];
        assert_eq!(endpoint.conditions, kube_proxy_core::Conditions::default());
    }
}

#[test]
fn bad_endpoints_and_ports_are_left_out_one_by_one() {
    let object = with(&json!({
        "ports": [{"name": "a", "port": 0}, {"name": "b"}, {"port": 80}, {"name": "", "port": 81},
                  {"name": "c", "port": 70000}, {"name": "d", "port": 1, "protocol": "tcp"}],
        "endpoints": [
            {"addresses": []}, {"addresses": ["10.1.0.999"]}, {"addresses": ["fd00::1"]}, {"addresses": ["127.0.0.1"]},
            {"addresses": ["169.254.1.1"]}, {"addresses": ["224.0.0.1"]}, {"addresses": ["0.0.0.0"]}, null,
            {"addresses": ["010.1.0.1"]}]
    }));
    let text = object.to_string();
    let slim: slim::EndpointSlice<'_> = serde_json::from_str(&text).unwrap();
    let (slice, problems) = super::super::endpoint_slice(&slim, &Context::default());
    let slice = slice.unwrap();
    let ports: Vec<_> = slice.ports.iter().map(|p| p.port.get()).collect();
    assert_eq!(ports, [81]);
    let addresses: Vec<_> = slice.endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["10.1.0.1"]);
    let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
    expect![[r#"
        EndpointSlice ns/web-1: ports[4].port: "70000": not between 1 and 65535; the port is ignored
        EndpointSlice ns/web-1: ports[5].protocol: "tcp": not TCP, UDP or SCTP; the port is ignored
        EndpointSlice ns/web-1: endpoints[0].addresses: empty; the endpoint is ignored
        EndpointSlice ns/web-1: endpoints[1].addresses[0]: "10.1.0.999": not an IP address; ignored
        EndpointSlice ns/web-1: endpoints[2].addresses[0]: "fd00::1": not an IPv4 address; ignored
        EndpointSlice ns/web-1: endpoints[3].addresses[0]: "127.0.0.1": a loopback address; ignored
        EndpointSlice ns/web-1: endpoints[4].addresses[0]: "169.254.1.1": a link-local address; ignored
        EndpointSlice ns/web-1: endpoints[5].addresses[0]: "224.0.0.1": a multicast address; ignored
        EndpointSlice ns/web-1: endpoints[6].addresses[0]: "0.0.0.0": the unspecified address; ignored
        EndpointSlice ns/web-1: endpoints[7].addresses: empty; the endpoint is ignored"#]]
    .assert_eq(&text.join("\n"));
}

/// The weights of the endpoints 10.1.0.1 and 10.1.0.2, and what is wrong.
fn weights(annotations: &Value, expected: &Expect) {
    let mut object =
        with(&json!({"endpoints": [{"addresses": ["10.1.0.1"]}, {"addresses": ["10.1.0.2"]}]}));
    object["metadata"]["annotations"] = annotations.clone();
    let text = object.to_string();
    let slim: slim::EndpointSlice<'_> = serde_json::from_str(&text).unwrap();
    let (slice, problems) = super::super::endpoint_slice(&slim, &Context::default());
    let weights: Vec<_> = slice.unwrap().endpoints.iter().map(|e| e.weight.to_string()).collect();
    let mut lines = vec![weights.join(" ")];
    lines.extend(problems.iter().map(ToString::to_string));
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn weights_of_a_slice() {
    let both = |own: &str, cilium: &str| json!({"kube-proxy.io/weight": own, "service.cilium.io/weight": cilium});
    weights(&json!({}), &expect!["1 1"]);
    weights(&json!({"kube-proxy.io/weight": " 7 "}), &expect!["7 7"]);
    weights(&json!({"service.cilium.io/weight": "0"}), &expect!["0 0"]);
    weights(&both("65535", "2"), &expect!["65535 65535"]);
    weights(&both("", "2"), &expect!["2 2"]);
    weights(
        &both("1.5", "2"),
        &expect![[r#"
            2 2
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/weight]: "1.5": not a number from 0 to 65535; ignored"#]],
    );
    weights(
        &both("-1", "65536"),
        &expect![[r#"
            1 1
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/weight]: "-1": not a number from 0 to 65535; ignored
            EndpointSlice ns/web-1: metadata.annotations[service.cilium.io/weight]: "65536": not a number from 0 to 65535; ignored"#]],
    );
}

#[test]
fn weights_of_named_endpoints() {
    let named =
        |list: &str| json!({"kube-proxy.io/weight": "4", "kube-proxy.io/endpoint-weights": list});
    weights(&named("10.1.0.2=0"), &expect!["4 0"]);
    weights(&named(" 010.1.0.1 = 9 ,, 10.9.9.9=8, fd00::1=3,"), &expect!["9 4"]);
    weights(
        &named("10.1.0.1, web-0=3, 10.1.0.2=many, =1, 10.1.0.1=2"),
        &expect![[r#"
            2 4
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/endpoint-weights]: "10.1.0.1": not ADDRESS=WEIGHT with a weight from 0 to 65535; ignored
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/endpoint-weights]: "web-0=3": not ADDRESS=WEIGHT with a weight from 0 to 65535; ignored
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/endpoint-weights]: "10.1.0.2=many": not ADDRESS=WEIGHT with a weight from 0 to 65535; ignored
            EndpointSlice ns/web-1: metadata.annotations[kube-proxy.io/endpoint-weights]: "=1": not ADDRESS=WEIGHT with a weight from 0 to 65535; ignored"#]],
    );
}

#[test]
fn the_trigger_time_is_rfc_3339() {
    let time = |written: &str| {
        let mut object = with(&json!({}));
        object["metadata"]["annotations"] =
            json!({"endpoints.kubernetes.io/last-change-trigger-time": written});
        let text = object.to_string();
        let slim: slim::EndpointSlice<'_> = serde_json::from_str(&text).unwrap();
        let (slice, problems) = super::super::endpoint_slice(&slim, &Context::default());
        (slice.unwrap().trigger_time, problems.len())
    };
    let at = |ms| Some(UNIX_EPOCH + Duration::from_millis(ms));
    assert_eq!(time("1970-01-01T00:00:01Z"), (at(1000), 0));
    assert_eq!(time("1970-01-01T02:00:01.5+02:00"), (at(1500), 0));
    assert_eq!(time("yesterday"), (None, 1));
}
