//! EndpointSlices with odd fields, of Services that exist and of others.

use kube_proxy_core::IpFamily;
use serde_json::{Value, json};

use super::{Attack, GOOD};
use crate::objects::{NAMESPACE, Svc, cluster_ip, node_port};
use crate::world::{NODE, TARGET, World};

/// The numbers of the Service whose slices are odd, of one that leads to itself, and of one with very many endpoints.
const ODD: u8 = 20;
const LOOP: u8 = 21;
const LARGE: u8 = 22;
/// Endpoints and ports of the latter two, within what every mode writes in a moment.
const ENDPOINTS: u16 = 1_000;

fn slice(name: &str, service: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "p", "protocol": "TCP", "port": TARGET }],
        "endpoints": [],
    })
}

pub(super) fn all(world: &World) -> Vec<Attack> {
    let odd = Svc::new("odd", ODD).node_port();
    let served = odd.slices(TARGET, &world.endpoints(&["local-2"]));
    let mut all = vec![Attack::new("the Service", [odd.object()].into_iter().chain(served))];
    all.extend(endpoints(world));
    all.extend(slices());
    all.extend(loops(world));
    all.push(large());
    all
}

fn endpoints(world: &World) -> Vec<Attack> {
    let pod = world.pod("local-2").ip(IpFamily::V4).to_string();
    let with = |more: Value| {
        let mut endpoint = json!({ "addresses": [pod.clone()], "nodeName": NODE });
        for (key, value) in more.as_object().into_iter().flatten() {
            endpoint[key] = value.clone();
        }
        endpoint
    };
    let hundred: Vec<String> = (0..100).map(|i| format!("10.244.0.{i}")).collect();
    let lists = [
        json!([
            with(json!({ "addresses": [] })),
            with(json!({ "addresses": null })),
            with(json!({ "addresses": [null, ""] }))
        ]),
        json!([with(json!({ "addresses": hundred }))]),
        json!([
            with(json!({})),
            with(json!({})),
            with(json!({ "conditions": { "ready": false } }))
        ]),
        json!([
            with(json!({ "conditions": null })),
            with(json!({ "conditions": { "ready": null, "serving": null, "terminating": null } }))
        ]),
        json!([with(
            json!({ "conditions": { "ready": true, "serving": false, "terminating": true } })
        )]),
        json!([
            with(json!({ "hints": {} })),
            with(json!({ "hints": null })),
            with(json!({ "hints": { "forZones": [], "forNodes": null } }))
        ]),
        json!([with(
            json!({ "hints": { "forZones": [{ "name": "" }, {}, null, { "name": "zone a/\"" }], "forNodes": [{ "name": NODE }] } })
        )]),
        json!([
            with(json!({ "nodeName": null })),
            with(json!({ "nodeName": "" })),
            with(json!({ "nodeName": "elsewhere", "zone": 7 }))
        ]),
        json!([
            with(json!({ "addresses": ["127.0.0.1"] })),
            with(json!({ "addresses": ["0.0.0.0"] })),
            with(json!({ "addresses": ["224.0.0.1"] })),
            with(json!({ "addresses": ["169.254.1.1"] }))
        ]),
        json!([
            with(json!({ "addresses": ["010.244.000.007"] })),
            with(json!({ "addresses": ["::ffff:10.244.0.7"] })),
            with(json!({ "addresses": ["10.244.0.7 "] }))
        ]),
        json!([
            with(json!({ "addresses": ["10.244.0.255"] })),
            with(json!({ "addresses": ["255.255.255.255"] })),
            with(json!({ "addresses": ["240.0.0.1"] }))
        ]),
        json!([null, {}, [], "x", 7]),
        json!({ "addresses": [pod] }),
    ];
    let attacks = lists.into_iter().enumerate().map(|(index, list)| {
        let mut object = slice(&format!("odd-endpoints-{index}"), "odd");
        object["endpoints"] = list;
        Attack::new(&format!("endpoints {index}"), [object])
    });
    attacks.collect()
}

fn slices() -> Vec<Attack> {
    let many: Vec<Value> = (1..=100)
        .map(|i| json!({ "name": format!("p{i}"), "protocol": "TCP", "port": i }))
        .collect();
    let changes = [
        ("/addressType", json!("FQDN")),
        ("/addressType", json!("ipv4")),
        ("/addressType", Value::Null),
        (
            "/ports",
            json!([{ "name": "p", "port": 0 }, { "name": "p", "port": 65_536 }, { "name": "p", "port": -1 }]),
        ),
        (
            "/ports",
            json!([{ "name": "p", "port": 1 }, { "name": "p", "port": 2 }, { "name": null, "port": 3 }, { "port": 4 }]),
        ),
        (
            "/ports",
            json!([{ "name": "p", "protocol": "tcp", "port": 1 }, { "name": "p", "protocol": "SCTP", "port": 1 }]),
        ),
        ("/ports", json!(many)),
        ("/ports", json!([null, {}, 7])),
        ("/metadata/labels", json!({ "kubernetes.io/service-name": "absent" })),
        ("/metadata/labels", json!({ "kubernetes.io/service-name": "" })),
        ("/metadata/labels", json!({ "kubernetes.io/service-name": "other/good" })),
        ("/metadata/labels", json!({ "kubernetes.io/service-name": 7 })),
        ("/metadata/labels", json!({})),
        (
            "/metadata/labels",
            json!({ "kubernetes.io/service-name": "good", "service.kubernetes.io/headless": "" }),
        ),
        // Of another namespace, where there is no such Service.
        ("/metadata/namespace", json!("other")),
    ];
    let attacks = changes.into_iter().enumerate().map(|(index, (pointer, value))| {
        let mut object = slice(&format!("odd-slice-{index}"), "good");
        object["endpoints"] = json!([{ "addresses": ["10.244.0.99"], "nodeName": NODE }]);
        // Only what is meant for another Service may take nothing from the good one; the rest is for the odd one.
        if !pointer.starts_with("/metadata") {
            object["metadata"]["labels"]["kubernetes.io/service-name"] = json!("odd");
        }
        set(&mut object, pointer, value);
        Attack::new(&format!("slice {index}"), [object])
    });
    attacks.collect()
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let at = pointer.split('/').skip(1).fold(object, |at, key| &mut at[key]);
    *at = value;
}

/// Endpoints that are frontends: their own, and those of the good Service.
fn loops(world: &World) -> Vec<Attack> {
    let node = world.cluster.node(0).ip(IpFamily::V4).to_string();
    let own = cluster_ip(LOOP, IpFamily::V4).to_string();
    let good = cluster_ip(GOOD, IpFamily::V4).to_string();
    let leads = [(own, 80), (node, node_port(LOOP)), (good, 80)];
    let mut objects = vec![Svc::new("loop", LOOP).node_port().object()];
    for (index, (address, port)) in leads.into_iter().enumerate() {
        let mut object = slice(&format!("loop-{index}"), "loop");
        object["endpoints"] = json!([{ "addresses": [address], "nodeName": NODE }]);
        object["ports"][0]["port"] = json!(port);
        objects.push(object);
    }
    vec![Attack::new("loops", objects)]
}

/// A slice with as many endpoints as the API allows.
fn large() -> Attack {
    let service = Svc::new("large", LARGE);
    let mut object = slice("large", "large");
    let endpoints = (0..ENDPOINTS).map(|number| {
        let [high, low] = number.to_be_bytes();
        json!({ "addresses": [format!("172.30.{high}.{low}")], "nodeName": "elsewhere" })
    });
    object["endpoints"] = endpoints.collect();
    Attack::new("large", [service.object(), object])
}
