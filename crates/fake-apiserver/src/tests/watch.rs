use std::time::Duration;

use serde_json::json;

use super::super::{Options, StreamingLists};
use super::client::{HANG, WatchClient, get};
use super::{labelled, server, server_with, service};

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

#[test]
fn changes_arrive_in_order_with_their_versions() {
    let server = server();
    let start = server.apply(service("default", "old")).unwrap();
    let mut watch =
        WatchClient::open(&server, &format!("/api/v1/services?watch=1&resourceVersion={start}"));
    let added = server.apply(service("default", "new")).unwrap();
    let modified = server.apply(labelled("new", "x")).unwrap();
    let deleted = server.delete("Service", "default", "new").unwrap();
    for (kind, version) in [("ADDED", added), ("MODIFIED", modified), ("DELETED", deleted)] {
        let event = watch.event();
        assert_eq!(event["type"], kind);
        assert_eq!(event["object"]["metadata"]["resourceVersion"], version.to_string());
        assert_eq!(event["object"]["kind"], "Service");
    }
    assert!(start < added && added < modified && modified < deleted);
}

#[test]
fn a_write_without_a_difference_is_no_event() {
    let server = server();
    let first = server.apply(service("default", "a")).unwrap();
    let mut watch =
        WatchClient::open(&server, &format!("/api/v1/services?watch=1&resourceVersion={first}"));
    assert_eq!(server.apply(service("default", "a")).unwrap(), first);
    server.apply(service("default", "b")).unwrap();
    watch.expect(&[("ADDED", "b")]);
}

#[test]
fn a_watch_without_version_begins_with_the_state() {
    let server = server();
    server.apply_many([service("a", "one"), service("b", "two")]).unwrap();
    for version in ["", "&resourceVersion=0"] {
        let mut watch =
            WatchClient::open(&server, &format!("/api/v1/services?watch=true{version}"));
        watch.expect(&[("ADDED", "one"), ("ADDED", "two")]);
    }
    let mut watch = WatchClient::open(&server, "/api/v1/namespaces/b/services?watch=1");
    server.apply(service("a", "three")).unwrap();
    server.apply(service("b", "four")).unwrap();
    watch.expect(&[("ADDED", "two"), ("ADDED", "four")]);
}

#[test]
fn objects_enter_and_leave_a_selector() {
    let server = server();
    server.apply(labelled("web", "proxied")).unwrap();
    let mut watch = WatchClient::open(&server, "/api/v1/services?watch=1&labelSelector=%21hidden");
    watch.expect(&[("ADDED", "web")]);
    let hidden = server.apply(labelled("web", "hidden")).unwrap();
    let event = watch.event();
    assert_eq!(event["type"], "DELETED");
    let metadata = &event["object"]["metadata"];
    assert_eq!(metadata["labels"], json!({"proxied": "1"}), "the last content that matched");
    assert_eq!(metadata["resourceVersion"], hidden.to_string());
    // Neither a change nor a deletion of what is not selected is seen.
    let mut changed = labelled("web", "hidden");
    changed["spec"]["ports"][0]["port"] = 81.into();
    server.apply(changed).unwrap();
    server.apply(labelled("other", "hidden")).unwrap();
    server.delete("Service", "default", "other").unwrap();
    server.apply(labelled("web", "proxied")).unwrap();
    server.apply(labelled("web", "still")).unwrap();
    server.delete("Service", "default", "web").unwrap();
    watch.expect(&[("ADDED", "web"), ("MODIFIED", "web"), ("DELETED", "web")]);
}

#[test]
fn field_selectors_hold_for_watches() {
    let server = server();
    let mut watch = WatchClient::open(
        &server,
        "/api/v1/services?watch=1&fieldSelector=spec.clusterIP%21%3DNone",
    );
    let mut headless = service("default", "web");
    headless["spec"]["clusterIP"] = "None".into();
    server.apply(headless.clone()).unwrap();
    server.apply(service("default", "web")).unwrap();
    server.apply(headless).unwrap();
    watch.expect(&[("ADDED", "web"), ("DELETED", "web")]);
    let mut one = WatchClient::open(&server, "/api/v1/namespaces/default/services/web?watch=1");
    one.expect(&[("ADDED", "web")]);
}

#[test]
fn a_streaming_list_ends_with_a_bookmark() {
    let server = server();
    server.apply_many([service("a", "one"), labelled("hidden", "hidden")]).unwrap();
    let path = "/api/v1/services?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                &allowWatchBookmarks=true&labelSelector=%21hidden";
    let mut watch = WatchClient::open(&server, path);
    watch.expect(&[("ADDED", "one")]);
    let end = watch.event();
    assert_eq!(end["type"], "BOOKMARK");
    assert_eq!(end["object"]["kind"], "Service");
    let metadata = &end["object"]["metadata"];
    assert_eq!(metadata["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    assert_eq!(metadata["resourceVersion"], server.version().to_string());
    server.apply(service("b", "two")).unwrap();
    watch.expect(&[("ADDED", "two")]);
    let empty =
        format!("{SLICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    assert_eq!(WatchClient::open(&server, &empty).event()["type"], "BOOKMARK");
}

#[test]
fn without_initial_events_a_watch_begins_now() {
    let server = server();
    server.apply(service("a", "one")).unwrap();
    let path = "/api/v1/services?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut watch = WatchClient::open(&server, path);
    server.apply(service("a", "two")).unwrap();
    watch.expect(&[("ADDED", "two")]);
}

#[test]
fn streaming_lists_can_be_refused_or_ignored() {
    let server = server();
    server.apply(service("a", "one")).unwrap();
    let path = "/api/v1/services?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    server.faults().streaming_lists(StreamingLists::Refused);
    let refused = get(&server, path);
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(refused.json()["details"]["causes"][0]["field"], "sendInitialEvents");
    server.faults().streaming_lists(StreamingLists::Ignored);
    let mut watch = WatchClient::open(&server, path);
    watch.expect(&[("ADDED", "one")]);
    server.apply(service("a", "two")).unwrap();
    watch.expect(&[("ADDED", "two")]);
    server.faults().streaming_lists(StreamingLists::Served);
    for wrong in ["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"] {
        assert_eq!(
            get(&server, &format!("/api/v1/services?watch=1&{wrong}")).status,
            422,
            "{wrong}"
        );
    }
}

#[test]
fn bookmarks_and_the_end_of_a_watch() {
    let options = Options { bookmark_interval: Duration::from_millis(50), ..Options::default() };
    let server = server_with(options);
    server.apply(service("a", "one")).unwrap();
    let path = format!(
        "{SLICES}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={}",
        server.version()
    );
    let mut watch = WatchClient::open(&server, &path);
    let bookmark = watch.event();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["kind"], "EndpointSlice");
    assert_eq!(bookmark["object"]["metadata"].get("annotations"), None);
    // The version continues, although no slice changed.
    let later = server.apply(service("a", "two")).unwrap().to_string();
    let mut versions = Vec::new();
    while let Some(line) = watch.line().unwrap() {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        versions.push(event["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    }
    assert_eq!(versions.last(), Some(&later), "{versions:?}");
    assert!(versions.len() <= 21, "one in 50 ms and one at the end: {}", versions.len());
    assert!(server.wait_for_watches("EndpointSlice", 0, HANG));
}

#[test]
fn versions_older_than_the_window_are_gone() {
    let server = server_with(Options { history_window: 3, ..Options::default() });
    let first = server.apply(service("a", "s0")).unwrap();
    for n in 1..=4 {
        server.apply(service("a", &format!("s{n}"))).unwrap();
    }
    let mut watch =
        WatchClient::open(&server, &format!("/api/v1/services?watch=1&resourceVersion={first}"));
    let event = watch.event();
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert_eq!(watch.line().unwrap(), None, "the stream ends behind the error");
    let path = format!("/api/v1/services?watch=1&resourceVersion={}", first + 1);
    WatchClient::open(&server, &path).expect(&[("ADDED", "s2"), ("ADDED", "s3"), ("ADDED", "s4")]);
    // Another resource has lost nothing.
    let mut slices =
        WatchClient::open(&server, &format!("{SLICES}?watch=1&resourceVersion={first}"));
    assert!(slices.is_silent(Duration::from_millis(50)));
}

#[test]
fn a_watch_from_the_history_gets_what_it_missed() {
    let server = server();
    let start = server.apply(service("default", "a")).unwrap();
    let many = (0..2000).map(|n| service("default", &format!("s{n:04}")));
    server.apply_many(many).unwrap();
    server.delete("services", "default", "a").unwrap();
    let mut watch =
        WatchClient::open(&server, &format!("/api/v1/watch/services?resourceVersion={start}"));
    for n in 0..2000 {
        assert_eq!(watch.seen(), ("ADDED".to_owned(), format!("s{n:04}")));
    }
    watch.expect(&[("DELETED", "a")]);
}

#[test]
fn a_client_that_goes_away_closes_its_watch() {
    let server = server();
    let watch = WatchClient::open(&server, "/api/v1/services?watch=1");
    assert!(server.wait_for_watches("services", 1, HANG));
    drop(watch);
    assert!(server.wait_for_watches("services", 0, HANG));
}
