use serde_json::json;

use super::*;
use crate::commands::names::service_port;

pub(in crate::commands) fn services() -> Services {
    let service = |name: &str, ip: &str, protocol: &str, node_port: u16| {
        json!({
            "family": "IPv4", "namespace": "shop", "name": name, "portName": "http",
            "protocol": protocol, "clusterIp": ip, "port": 80,
            "frontends": [
                {"kind": "clusterIp", "address": ip, "port": 80, "policy": "Cluster"},
                {"kind": "nodePort", "port": node_port, "policy": "Cluster"},
            ],
            "internalTrafficPolicy": "Cluster",
            "endpointsUsed": 1, "endpointsReady": 1, "endpointsTotal": 1,
        })
    };
    serde_json::from_value(json!({
        "node": "node-a", "mode": "nftables", "version": "1", "families": [],
        "servicePorts": [
            service("web", "10.96.0.1", "TCP", 30080),
            service("dns", "10.96.0.2", "UDP", 30053),
        ],
    }))
    .unwrap()
}

fn names(text: &str) -> Vec<String> {
    let found = destinations(text, Some(&services())).unwrap();
    let line = |d: Destination| format!("{:?} {} {}", d.ip, d.port, d.protocol);
    found.into_iter().map(line).collect()
}

#[test]
fn destinations_in_all_forms() {
    assert_eq!(names("10.96.0.1:80"), ["Some(10.96.0.1) 80 6"]);
    assert_eq!(names("10.96.0.1:53/udp"), ["Some(10.96.0.1) 53 17"]);
    assert_eq!(names("[fd00::1]:80/SCTP"), ["Some(fd00::1) 80 132"]);
    assert_eq!(names(":30080"), ["None 30080 6"]);
    assert_eq!(names(":30053/udp"), ["None 30053 17"]);
    let web = ["None 30080 6", "Some(10.96.0.1) 80 6"];
    for text in ["shop/web", "shop/web:http", "web", "web:http"] {
        assert_eq!(names(text), web, "{text}");
    }
    for text in ["shop/other", "shop/web:https", "10.96.0.1", "", ":", "/", "a/b/c", ":99999"] {
        assert!(destinations(text, Some(&services())).is_err(), "{text}");
    }
    let error = destinations("shop/web", None).unwrap_err().to_string();
    assert!(error.contains("names of Services are not known"), "{error}");
}

#[test]
fn node_ports_count_where_something_was_rewritten() {
    let names = Names::of(&services());
    let name = |protocol, to: &str, translated| {
        names.service(protocol, to.parse().unwrap(), translated).map(service_port)
    };
    assert_eq!(name(6, "10.96.0.1:80", false).as_deref(), Some("shop/web:http"));
    assert_eq!(name(17, "10.96.0.1:80", true), None);
    assert_eq!(name(6, "192.0.2.7:30080", true).as_deref(), Some("shop/web:http"));
    assert_eq!(name(6, "192.0.2.7:30080", false), None);
    assert_eq!(name(6, "[fd00::7]:30080", true), None);
}
