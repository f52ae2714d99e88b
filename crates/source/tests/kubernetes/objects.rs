//! Good and bad objects, and those that come into and go out of view.

use fake_apiserver::{StreamingLists, Verb};
use kube_proxy_core::Kind;
use serde_json::json;

use super::running::{Running, server, service, slice};

#[test]
fn selected_services_come_and_go_with_their_labels() {
    let server = server();
    let mut source = Running::start(&server);
    server.apply(service("a", "10.96.0.1")).unwrap();
    source.expect(&["a=10.96.0.1"]);
    let mut other = service("a", "10.96.0.1");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mine"});
    server.apply(other).unwrap();
    source.expect(&[]);
    server.apply(service("a", "10.96.0.1")).unwrap();
    source.expect(&["a=10.96.0.1"]);
    let mut name = service("a", "10.96.0.1");
    name["spec"]["type"] = json!("ExternalName");
    server.apply(name).unwrap();
    source.expect(&[]);
    server.apply(service("a", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.2"]);
}

#[test]
fn headless_slices_are_not_seen() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.apply(slice("a-1", "a", &["10.1.0.1"])).unwrap();
    let mut source = Running::start(&server);
    source.until("endpoints", |s| s.now().endpoints == ["a=10.1.0.1"]);
    let mut headless = slice("a-1", "a", &["10.1.0.1"]);
    headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
    server.apply(headless).unwrap();
    source.until("none", |s| s.now().endpoints.is_empty());
}

#[test]
fn a_bad_object_among_good_ones_is_named_and_the_others_count() {
    for mode in [StreamingLists::Served, StreamingLists::Refused] {
        let server = server();
        server.faults().streaming_lists(mode);
        server.apply(service("a", "10.96.0.1")).unwrap();
        let mut bad = service("b", "10.96.0.2");
        bad["spec"]["ports"][0]["port"] = json!("http");
        server.apply(bad).unwrap();
        server.apply(service("c", "10.96.0.3")).unwrap();
        let mut source = Running::start(&server);
        source.expect(&["a=10.96.0.1", "c=10.96.0.3"]);
        source.until("the problem", |s| s.problems.current().len() == 1);
        let problem = source.problems.current()[0].to_string();
        assert!(
            problem.contains("Service ns/b") && problem.contains("spec.ports[0].port"),
            "{problem}"
        );
        // Repaired, broken again while it is watched, and deleted.
        server.apply(service("b", "10.96.0.2")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2", "c=10.96.0.3"]);
        source.until("no problem", |s| s.problems.current().is_empty());
        let mut bad = service("b", "10.96.0.9");
        bad["spec"]["externalIPs"] = json!(7);
        server.apply(bad).unwrap();
        source.until("the problem", |s| s.problems.current().len() == 1);
        server.apply(service("d", "10.96.0.4")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2", "c=10.96.0.3", "d=10.96.0.4"]);
        server.delete("Service", "ns", "b").unwrap();
        source.expect(&["a=10.96.0.1", "c=10.96.0.3", "d=10.96.0.4"]);
        assert!(source.problems.current().is_empty());
        assert_eq!(source.problems.counts()["Service"].total, 2);
    }
}

#[test]
fn a_problem_is_counted_once_however_often_it_is_listed() {
    let server = server();
    let mut bad = service("a", "10.96.0.1");
    bad["spec"]["externalIPs"] = json!(["192.0.2.1", "oops"]);
    server.apply(bad).unwrap();
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    for round in 2..5 {
        server.faults().compact_history();
        server.faults().drop_watches();
        source.until("listed again", |s| s.lists_done(Kind::Service) == round);
    }
    assert_eq!(source.problems.current().len(), 1);
    assert_eq!(source.problems.counts()["Service"].total, 1);
    assert!(server.requests().count(Verb::Watch, "services") >= 4);
}
