//! What a real server fills into a new Service, for Services that come over HTTP.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use super::collection::View;
use super::resource::TypeId;
use super::store::Store;

/// Cluster IPs are given out from here on.
const FIRST_CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 128, 1);
/// The node ports of a default cluster.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Fills what a Service lacks: types, policies, a cluster IP, node ports; those of `old`, its former version, are kept.
/// Other kinds, and parts of the wrong JSON type, stay as they are.
pub(super) fn fill(
    store: &mut Store,
    kind: TypeId,
    object: &mut Map<String, Value>,
    old: Option<&Value>,
) {
    if (kind.get().group, kind.get().plural) != ("", "services") {
        return;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    fill_field(spec, "type", json!("ClusterIP"));
    fill_field(spec, "sessionAffinity", json!("None"));
    let service_type = spec["type"].as_str().unwrap_or_default().to_owned();
    if service_type == "ExternalName" {
        return;
    }
    fill_field(spec, "internalTrafficPolicy", json!("Cluster"));
    fill_field(spec, "ipFamilies", json!(["IPv4"]));
    fill_field(spec, "ipFamilyPolicy", json!("SingleStack"));
    let (services, _) = store.view(kind);
    if spec.get("clusterIP").is_none_or(|ip| ip == "") {
        let kept = old.map(|old| old["spec"]["clusterIP"].clone()).filter(Value::is_string);
        let cluster_ip = kept.unwrap_or_else(|| free_cluster_ip(&services));
        spec.insert("clusterIP".to_owned(), cluster_ip);
    }
    let cluster_ips = json!([spec["clusterIP"]]);
    fill_field(spec, "clusterIPs", cluster_ips);
    let node_ports = matches!(service_type.as_str(), "NodePort" | "LoadBalancer");
    if node_ports {
        fill_field(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    fill_ports(spec, node_ports.then_some(&services), old);
}

/// Fills the ports; node ports only when the Services that hold some are given.
fn fill_ports(spec: &mut Map<String, Value>, services: Option<&View>, old: Option<&Value>) {
    let mut taken = Vec::new();
    for service in services.into_iter().flat_map(|services| services.iter()) {
        taken.extend(ports_of(&service.to_value()).filter_map(|port| port["nodePort"].as_u64()));
    }
    let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        fill_field(port, "protocol", json!("TCP"));
        let number = port.get("port").cloned().unwrap_or_default();
        fill_field(port, "targetPort", number.clone());
        if services.is_none() || port.contains_key("nodePort") {
            continue;
        }
        let same = |p: &&Value| p["port"] == number && p["protocol"] == port["protocol"];
        let kept = old.and_then(|old| ports_of(old).find(same)).map(|p| p["nodePort"].clone());
        let node_port = kept.filter(Value::is_u64).unwrap_or_else(|| {
            let free = NODE_PORTS.into_iter().find(|n| !taken.contains(&u64::from(*n)));
            json!(free)
        });
        taken.extend(node_port.as_u64());
        port.insert("nodePort".to_owned(), node_port);
    }
}

fn free_cluster_ip(services: &View) -> Value {
    let taken = |ip: &str| services.iter().any(|s| s.field("spec.clusterIP") == ip);
    let mut candidates = (u32::from(FIRST_CLUSTER_IP)..).map(|n| Ipv4Addr::from(n).to_string());
    json!(candidates.find(|ip| !taken(ip)))
}

fn ports_of(service: &Value) -> impl Iterator<Item = &Value> {
    service["spec"]["ports"].as_array().into_iter().flatten()
}

fn fill_field(object: &mut Map<String, Value>, field: &str, value: Value) {
    object.entry(field).or_insert(value);
}
