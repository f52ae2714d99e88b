use std::borrow::Cow;

use super::*;

fn service(json: &str) -> Service<'_> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn null_is_the_same_as_absent() {
    let nulls = service(
        r#"{"metadata": null, "status": null, "spec": {"type": null, "clusterIPs": null, "ports": null,
            "sessionAffinityConfig": {"clientIP": null}, "healthCheckNodePort": null}}"#,
    );
    assert!(nulls.metadata.is_none());
    let spec = nulls.spec.unwrap();
    assert!(spec.type_.is_none() && spec.cluster_ips.is_empty() && spec.ports.is_empty());
    let absent = service(r#"{"spec": {}}"#).spec.unwrap();
    assert!(absent.cluster_ips.is_empty() && absent.ports.is_empty());
}

#[test]
fn null_in_a_list_keeps_its_place() {
    let spec = service(r#"{"spec": {"clusterIPs": [null, "10.0.0.1"]}}"#);
    let ips = spec.spec.unwrap().cluster_ips;
    assert_eq!(*ips, [Text("".into()), Text("10.0.0.1".into())]);
}

#[test]
fn strings_borrow_unless_escaped() {
    let json = r#"{"metadata": {"name": "plain", "namespace": "esc\u0061ped"}}"#;
    let meta = service(json).metadata.unwrap();
    assert!(matches!(meta.name.unwrap().0, Cow::Borrowed("plain")));
    assert!(matches!(meta.namespace.unwrap().0, Cow::Owned(text) if text == "escaped"));
}

#[test]
fn unknown_fields_of_any_shape_are_skipped() {
    let json = r#"{"kind": 7, "metadata": {"managedFields": [{"fieldsV1": {"f:spec": {}}}, 1, null],
        "labels": {"app": 5, "topology.kubernetes.io/zone": "a"}, "name": "n"}, "extra": [[[{}]]]}"#;
    let node: Node<'_> = serde_json::from_str(json).unwrap();
    let meta = node.metadata.unwrap();
    assert_eq!(&**meta.labels.unwrap().zone.as_ref().unwrap(), "a");
}

#[test]
fn numbers_of_any_size_are_values() {
    let ports = |json| service(json).spec.unwrap().ports.0;
    let read = ports(
        r#"{"spec": {"ports": [{"port": 70000}, {"port": -1}, {"port": 1e30},
            {"port": 99999999999999999999999}, {"port": 80.0}]}}"#,
    );
    let numbers: Vec<i64> = read.iter().map(|p| p.port.unwrap().0).collect();
    assert_eq!(numbers, [70000, -1, i64::MAX, i64::MAX, 80]);
}

#[test]
fn wrong_types_are_errors() {
    for json in [
        r#"{"spec": {"ports": [{"port": "80"}]}}"#,
        r#"{"spec": {"ports": [{"port": 80.5}]}}"#,
        r#"{"spec": {"ports": {}}}"#,
        r#"{"spec": []}"#,
        r#"{"metadata": {"name": 1}}"#,
    ] {
        assert!(serde_json::from_str::<Service<'_>>(json).is_err(), "{json}");
    }
}

#[test]
fn a_list_is_no_object_even_if_it_has_the_right_length() {
    for json in [
        r#"{"spec": ["ClusterIP", "10.96.0.1", [], [], [], [], "", "", "", null, 0, []]}"#,
        r#"{"metadata": {"labels": ["a", "b", "c", "d"]}}"#,
    ] {
        let error = serde_json::from_str::<Service<'_>>(json).unwrap_err().to_string();
        assert!(error.contains("expected an object"), "{error}");
    }
    let empty = r#"{"metadata": null, "spec": null, "status": {"loadBalancer": null}}"#;
    assert!(service(empty).status.unwrap().load_balancer.is_none());
}
