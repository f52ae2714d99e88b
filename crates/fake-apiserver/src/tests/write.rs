use serde_json::{Value, json};

use super::super::Verb;
use super::client::{Connection, get, request};
use super::{server, service};

const WEB: &str = "/api/v1/namespaces/default/services/web";

#[test]
fn create_read_update_delete() {
    let server = server();
    let services = "/api/v1/namespaces/default/services";
    let body = service("default", "web").to_string();
    let created = request(&server, "POST", services, &body);
    assert_eq!(created.status, 201, "{}", created.text);
    let again = request(&server, "POST", services, &body);
    assert_eq!((again.status, again.json()["reason"].as_str()), (409, Some("AlreadyExists")));
    let mut object = created.json();
    object["spec"]["ports"][0]["port"] = 81.into();
    let updated = request(&server, "PUT", WEB, &object.to_string());
    assert_eq!(updated.status, 200, "{}", updated.text);
    assert_eq!(updated.json()["metadata"]["uid"], created.json()["metadata"]["uid"]);
    let stale = request(&server, "PUT", WEB, &object.to_string());
    assert_eq!((stale.status, stale.json()["reason"].as_str()), (409, Some("Conflict")));
    let other = json!({"preconditions": {"uid": "another"}}).to_string();
    assert_eq!(request(&server, "DELETE", WEB, &other).status, 409);
    let deleted = request(&server, "DELETE", WEB, "");
    assert_eq!((deleted.status, deleted.json()["status"].as_str()), (200, Some("Success")));
    let missing = get(&server, WEB);
    assert_eq!(missing.status, 404);
    let expected = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "services \"web\" not found",
        "reason": "NotFound",
        "details": {"name": "web", "kind": "services"},
        "code": 404,
    });
    assert_eq!(missing.json(), expected);
    for method in ["DELETE", "PUT", "PATCH"] {
        assert_eq!(request(&server, method, WEB, &body).status, 404, "{method}");
    }
    assert_eq!(server.requests().stats(Verb::Create, "services").failed, 1);
    assert_eq!(server.requests().count(Verb::Update, "services"), 3);
}

#[test]
fn merge_patches() {
    let server = server();
    server.apply(service("default", "web")).unwrap();
    let patch = json!({"metadata": {"labels": {"app": null, "new": "1"}}, "spec": {"$setElementOrder/ports": [], "type": "ClusterIP"}});
    let patched = request(&server, "PATCH", WEB, &patch.to_string());
    assert_eq!(patched.status, 200, "{}", patched.text);
    let object = patched.json();
    assert_eq!(object["metadata"]["labels"], json!({"new": "1"}));
    assert_eq!(object["spec"].get("$setElementOrder/ports"), None);
    let stale = json!({"metadata": {"resourceVersion": "1"}}).to_string();
    assert_eq!(request(&server, "PATCH", WEB, &stale).status, 409);
}

#[test]
fn json_patches() {
    let server = server();
    server.apply(service("default", "web")).unwrap();
    let send = |patch: Value| {
        let mut connection = Connection::open(&server).unwrap();
        connection.request("PATCH", WEB, "application/json-patch+json", &patch.to_string()).unwrap()
    };
    let done = send(json!([
        {"op": "test", "path": "/spec/ports/0/port", "value": 80},
        {"op": "replace", "path": "/spec/ports/0/port", "value": 82},
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "1"},
        {"op": "add", "path": "/spec/ports/-", "value": {"port": 83}},
        {"op": "remove", "path": "/metadata/labels/app"},
    ]));
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.json()["metadata"]["labels"], json!({"a/b": "1"}));
    let ports: Vec<_> = done.json()["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["port"].clone())
        .collect();
    assert_eq!(ports, [82, 83]);
    for wrong in [
        json!([{"op": "replace", "path": "/spec/ports/9/port", "value": 1}]),
        json!([{"op": "remove", "path": "/absent"}]),
        json!([{"op": "add", "path": "/spec/ports/7", "value": 1}]),
        json!([{"op": "copy", "path": "/a", "from": "/b"}]),
        json!([{"op": "test", "path": "/kind", "value": "Pod"}]),
    ] {
        assert_eq!(send(wrong.clone()).status, 422, "{wrong}");
    }
    assert_eq!(send(json!({})).status, 400);
}

#[test]
fn new_services_get_what_a_real_server_gives() {
    let server = server();
    let post = |name: &str| {
        let body = json!({
            "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        });
        request(&server, "POST", "/api/v1/namespaces/default/services", &body.to_string()).json()["spec"].clone()
    };
    let (first, second) = (post("a"), post("b"));
    assert_eq!(first["clusterIP"], "10.96.128.1");
    assert_eq!(second["clusterIPs"], json!(["10.96.128.2"]));
    assert_eq!(
        first["ports"][0],
        json!({"port": 80, "targetPort": 80, "protocol": "TCP", "nodePort": 30000})
    );
    assert_eq!(second["ports"][0]["nodePort"], 30001);
    let replaced =
        json!({"metadata": {"name": "b"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let kept =
        request(&server, "PUT", "/api/v1/namespaces/default/services/b", &replaced.to_string());
    assert_eq!(kept.json()["spec"], second, "an update keeps what was given out");
}

#[test]
fn cluster_scoped_objects_and_subresources() {
    let server = server();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    assert_eq!(request(&server, "POST", "/api/v1/nodes", &node.to_string()).status, 201);
    let patch = json!({"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    assert_eq!(
        request(&server, "PATCH", "/api/v1/nodes/n1/status", &patch.to_string()).status,
        200
    );
    let node = get(&server, "/api/v1/nodes/n1").json();
    assert_eq!(node["status"], patch["status"]);
    assert_eq!(node["metadata"].get("namespace"), None);
    assert_eq!(get(&server, "/api/v1/nodes/n1/proxy").status, 404);
    assert_eq!(get(&server, "/api/v1/namespaces/x/nodes").status, 404);
    assert_eq!(get(&server, "/api/v1/services/web").status, 404, "it needs a namespace");
    assert_eq!(server.get("Node", "", "n1"), Some(node));
}

#[test]
fn events_get_generated_names() {
    let server = server();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"generateName": "n1."}}).to_string();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let names: Vec<_> = (0..2)
        .map(|_| request(&server, "POST", path, &event).json()["metadata"]["name"].clone())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| name.as_str().is_some_and(|n| n.starts_with("n1.") && n.len() == 8))
    );
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_collection_can_be_deleted() {
    let server = server();
    server.apply_many([service("a", "one"), service("a", "two"), service("b", "one")]).unwrap();
    let path = "/api/v1/namespaces/a/services?labelSelector=app%3Done";
    assert_eq!(request(&server, "DELETE", path, "").status, 200);
    assert_eq!(get(&server, "/api/v1/services").names(), ["two", "one"]);
}

#[test]
fn wrong_bodies_are_refused() {
    let server = server();
    let path = "/api/v1/namespaces/default/services";
    for body in [
        "{",
        "[]",
        "{}",
        r#"{"metadata": 5}"#,
        r#"{"kind": "Pod", "metadata": {"name": "x"}}"#,
        r#"{"kind": 5, "metadata": {"name": "x"}}"#,
        r#"{"metadata": {"name": "x", "namespace": "other"}}"#,
    ] {
        assert_eq!(request(&server, "POST", path, body).status, 400, "{body}");
    }
    let mut connection = Connection::open(&server).unwrap();
    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(connection.request("POST", path, protobuf, "k8s").unwrap().status, 415);
    assert_eq!(request(&server, "POST", "/api/v1/services", "{}").status, 400);
    assert_eq!(request(&server, "PUT", path, "{}").status, 405);
    for object in [
        json!(5),
        json!({}),
        json!({"apiVersion": "v1", "kind": "Service"}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {}}),
        json!({"apiVersion": "v9", "kind": "Service", "metadata": {"name": "x"}}),
    ] {
        assert_eq!(server.apply(object.clone()).unwrap_err().code, 400, "{object}");
    }
}
