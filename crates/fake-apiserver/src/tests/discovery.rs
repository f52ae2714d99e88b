//! What kubectl and client libraries ask before anything else.

use serde_json::json;

use super::client::get;
use super::server;

#[test]
fn discovery_documents() {
    let server = server();
    assert_eq!(get(&server, "/api").json()["versions"], json!(["v1"]));
    let groups = get(&server, "/apis").json();
    let names: Vec<_> =
        groups["groups"].as_array().unwrap().iter().map(|g| g["name"].clone()).collect();
    assert_eq!(names, ["discovery.k8s.io", "events.k8s.io", "networking.k8s.io"]);
    let group = get(&server, "/apis/discovery.k8s.io").json();
    assert_eq!(group["preferredVersion"]["groupVersion"], "discovery.k8s.io/v1");
    let core = get(&server, "/api/v1").json();
    let resources = core["resources"].as_array().unwrap();
    let nodes = resources.iter().find(|r| r["name"] == "nodes").unwrap();
    assert_eq!((&nodes["namespaced"], &nodes["kind"]), (&json!(false), &json!("Node")));
    assert!(resources.iter().any(|r| r["name"] == "services/status"));
    let slices = get(&server, "/apis/discovery.k8s.io/v1").json();
    assert_eq!(slices["resources"][0]["name"], "endpointslices");
    for nothing in
        ["/apis/apps", "/apis/apps/v1", "/api/v2", "/openapi/v3", "/", "/apis/apps/v1/deployments"]
    {
        assert_eq!(get(&server, nothing).status, 404, "{nothing}");
    }
}

#[test]
fn version_and_health() {
    let server = server();
    let version = get(&server, "/version").json();
    assert_eq!(
        (&version["major"], &version["minor"], &version["gitVersion"]),
        (&json!("1"), &json!("36"), &json!("v1.36.0"))
    );
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping"] {
        assert_eq!(get(&server, path).text, "ok");
    }
}

#[test]
fn the_kubeconfig_names_the_server() {
    let server = server();
    let config: serde_json::Value = serde_json::from_str(&server.kubeconfig()).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], server.url());
    assert_eq!(config["current-context"], config["contexts"][0]["name"]);
    assert!(config["users"][0]["user"]["token"].is_string());
}
