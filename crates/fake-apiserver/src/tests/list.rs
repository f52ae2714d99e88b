use serde_json::json;

use super::super::Verb;
use super::client::{Connection, get};
use super::{labelled, server, service};
use kube_proxy_testkit::generate::Scale;

#[test]
fn lists_and_objects_look_as_the_real_ones_do() {
    let server = server();
    let version = server.apply(service("default", "web")).unwrap().to_string();
    let list = get(&server, "/api/v1/services");
    assert_eq!(list.header("content-type"), Some("application/json"));
    assert_eq!(list.version(), version);
    let list = list.json();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ServiceList"), &json!("v1")));
    let item = &list["items"][0];
    assert_eq!(item.get("kind"), None, "items of a list have no kind");
    let object = get(&server, "/api/v1/namespaces/default/services/web");
    assert_eq!(object.version(), version);
    let object = object.json();
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("Service"), &json!("v1")));
    assert_eq!(object["metadata"], item["metadata"]);
    assert!(
        object["metadata"]["uid"].is_string()
            && object["metadata"]["creationTimestamp"].is_string()
    );
    assert_eq!(object["spec"], service("default", "web")["spec"]);
    let empty = get(&server, "/apis/discovery.k8s.io/v1/endpointslices").json();
    assert_eq!(empty["items"], json!([]));
    assert_eq!(empty["kind"], "EndpointSliceList");
}

#[test]
fn namespaces_and_selectors_choose() {
    let server = server();
    let mut headless = service("b", "headless");
    headless["spec"]["clusterIP"] = "None".into();
    server.apply_many([service("a", "one"), service("b", "two"), headless]).unwrap();
    for (path, expected) in [
        ("/api/v1/services", vec!["one", "headless", "two"]),
        ("/api/v1/namespaces/b/services", vec!["headless", "two"]),
        ("/api/v1/namespaces/c/services", vec![]),
        ("/api/v1/services?labelSelector=app in (one,two)", vec!["one", "two"]),
        ("/api/v1/services?fieldSelector=spec.clusterIP%21%3DNone", vec!["one", "two"]),
        ("/api/v1/namespaces/b/services?fieldSelector=spec.clusterIP%21%3DNone", vec!["two"]),
        ("/api/v1/services?fieldSelector=metadata.name%3Dtwo&labelSelector=%21absent", vec!["two"]),
    ] {
        assert_eq!(get(&server, path).names(), expected, "{path}");
    }
    let bad = get(&server, "/api/v1/services?labelSelector=a in b");
    assert_eq!((bad.status, bad.json()["reason"].as_str()), (400, Some("BadRequest")));
}

#[test]
fn pages_are_of_one_moment() {
    let server = server();
    server.apply_many((0..10).map(|n| service("default", &format!("s{n}")))).unwrap();
    let first = get(&server, "/api/v1/services?limit=4");
    assert_eq!(first.names(), ["s0", "s1", "s2", "s3"]);
    assert_eq!(first.json()["metadata"]["remainingItemCount"], 6);
    server.delete("Service", "default", "s5").unwrap();
    server.apply(service("default", "s55")).unwrap();
    let token = first.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let second = get(&server, &format!("/api/v1/services?limit=4&continue={token}"));
    assert_eq!(second.names(), ["s4", "s5", "s6", "s7"], "s5 was there at the first page");
    assert_eq!(second.version(), first.version());
    let token = second.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let third = get(&server, &format!("/api/v1/services?limit=4&continue={token}"));
    assert_eq!(third.names(), ["s8", "s9"]);
    assert_eq!(third.json()["metadata"].get("continue"), None);
    assert_eq!(get(&server, "/api/v1/services").names().len(), 10);
    assert_eq!(server.requests().count(Verb::List, "services"), 4);
    assert_eq!(server.requests().last_query(Verb::List, "services"), Some(""));
}

#[test]
fn a_page_is_made_from_history_when_its_view_was_dropped() {
    let server = server();
    server.apply_many((0..6).map(|n| service("default", &format!("s{n}")))).unwrap();
    let first = get(&server, "/api/v1/services?limit=2").json();
    server.apply(labelled("s3", "new")).unwrap();
    server.delete("services", "default", "s4").unwrap();
    server.apply(service("default", "s44")).unwrap();
    server.shared().store().forget_views();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = get(&server, &format!("/api/v1/services?limit=9&continue={token}"));
    assert_eq!(rest.names(), ["s2", "s3", "s4", "s5"]);
    assert_eq!(rest.json()["items"][1]["metadata"]["labels"], json!({"app": "s3"}));
}

#[test]
fn paging_counts_selected_objects_only() {
    let server = server();
    server
        .apply_many(
            (0..9).map(|n| labelled(&format!("s{n}"), if n % 2 == 0 { "even" } else { "odd" })),
        )
        .unwrap();
    let first = get(&server, "/api/v1/services?limit=2&labelSelector=odd").json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("/api/v1/services?limit=2&labelSelector=odd&continue={token}");
    let second = get(&server, &path);
    assert_eq!(second.names(), ["s5", "s7"]);
    assert_eq!(
        second.json()["metadata"].get("continue"),
        None,
        "no page without an object follows"
    );
}

#[test]
fn resource_versions_of_lists() {
    let server = server();
    let old = server.apply(service("default", "a")).unwrap();
    let new = server.apply(service("default", "b")).unwrap();
    let list = |query: &str| get(&server, &format!("/api/v1/services?{query}"));
    assert_eq!(
        list("resourceVersion=0&limit=1").names(),
        ["a", "b"],
        "a watch cache does not page"
    );
    assert_eq!(list(&format!("resourceVersion={old}")).names(), ["a", "b"]);
    let exact = list(&format!("resourceVersion={old}&resourceVersionMatch=Exact"));
    assert_eq!((exact.names(), exact.version()), (vec!["a".to_owned()], old.to_string()));
    let future = list(&format!("resourceVersion={}", new + 1));
    assert_eq!(future.status, 504);
    assert_eq!(future.json()["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    for wrong in [
        "resourceVersionMatch=Exact",
        "resourceVersionMatch=Exact&resourceVersion=0",
        "sendInitialEvents=true",
    ] {
        assert_eq!(list(wrong).status, 422, "{wrong}");
    }
    for wrong in ["resourceVersion=x", "continue=x"] {
        assert_eq!(list(wrong).status, 400, "{wrong}");
    }
}

#[test]
fn large_lists_arrive_whole() {
    let server = server();
    let scale = Scale::new(200, 30);
    server.apply_many(scale.objects()).unwrap();
    let mut connection = Connection::open(&server).unwrap();
    for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"] {
        let list = connection.request("GET", path, "", "").unwrap();
        assert!(list.text.len() > 2 * super::super::list::CHUNK, "{path} has several chunks");
        assert_eq!(list.names().len(), 200, "{path}");
    }
}
