use std::collections::HashSet;

use serde_json::Value;

use super::{Families, Ports, Scale};

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[test]
fn the_same_scale_gives_the_same_objects() {
    let scale = Scale::new(20, 3);
    let (first, second): (Vec<_>, Vec<_>) = (scale.objects().collect(), scale.objects().collect());
    assert_eq!(first, second);
    assert_eq!(first.len(), 40);
}

#[test]
fn slices_are_split_at_a_hundred_endpoints() {
    let slices = Scale::new(2, 250).slices(1);
    let sizes: Vec<_> = slices.iter().map(|s| s["endpoints"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
    assert_eq!(Scale::new(1, 0).slices(0), Vec::<Value>::new());
}

#[test]
fn names_and_addresses_are_unique() {
    let scale = Scale { families: Families::Dual, ..Scale::new(300, 120) };
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    for object in scale.objects() {
        let key = (
            text(&object, "/kind"),
            text(&object, "/metadata/namespace"),
            text(&object, "/metadata/name"),
        );
        assert!(names.insert(key), "{object:#}");
        for endpoint in object["endpoints"].as_array().into_iter().flatten() {
            assert!(addresses.insert(text(endpoint, "/addresses/0")));
        }
        for address in object["spec"]["clusterIPs"].as_array().into_iter().flatten() {
            assert!(addresses.insert(address.as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(names.len(), 300 + 300 * 4);
    assert_eq!(addresses.len(), 300 * 2 + 300 * 120 * 2);
}

#[test]
fn a_dual_stack_service_has_both_families_in_order() {
    let scale = Scale { families: Families::Dual, ports: Ports::Both, ..Scale::new(1, 1) };
    let service = scale.service(0);
    assert_eq!(service["spec"]["clusterIPs"], serde_json::json!(["10.96.1.0", "fd00:96::100"]));
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 2);
    let types: Vec<_> = scale.slices(0).iter().map(|s| text(s, "/addressType")).collect();
    assert_eq!(types, ["IPv4", "IPv6"]);
}

#[test]
fn node_ports_end_where_the_range_ends() {
    let scale = Scale { node_ports: true, ..Scale::new(3000, 1) };
    assert_eq!(scale.service(2767)["spec"]["ports"][0]["nodePort"], 32767);
    assert_eq!(text(&scale.service(2768), "/spec/type"), "ClusterIP");
    assert_eq!(Scale::new(1, 1).node_port(0, 0), None);
}

#[test]
fn services_have_the_policy_and_the_annotations_asked_for() {
    let annotations = vec![("kube-proxy.io/slow-start".to_owned(), "30s".to_owned())];
    let scale = Scale { node_ports: true, local: true, annotations, ..Scale::new(1, 1) };
    let service = scale.service(0);
    assert_eq!(text(&service, "/spec/externalTrafficPolicy"), "Local");
    assert_eq!(service["metadata"]["annotations"]["kube-proxy.io/slow-start"], "30s");
    let plain = Scale { node_ports: true, ..Scale::new(1, 1) }.service(0);
    assert_eq!(text(&plain, "/spec/externalTrafficPolicy"), "Cluster");
}

#[test]
#[should_panic(expected = "10.96.0.0/24 has no address number 256")]
fn a_network_that_is_too_small_is_told() {
    let small = Scale { service_v4: "10.96.0.0/24".parse().unwrap(), ..Scale::new(1, 1) };
    small.service(0);
}
