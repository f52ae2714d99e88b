//! Ways to get the first state.

use std::time::Duration;

use fake_apiserver::{Failure, StreamingLists, Verb};
use kube_proxy_core::Kind;
use kube_proxy_source::kubernetes::Timing;

use super::running::{Running, Seen, node, quick, server, service, slice};

#[test]
fn all_kinds_by_streaming_lists() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.apply(slice("a-1", "a", &["10.1.0.1"])).unwrap();
    server.apply(node("n1", "192.0.2.1")).unwrap();
    server.apply(node("n2", "192.0.2.2")).unwrap();
    let cidr = serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "k"}, "spec": {"cidrs": ["10.96.0.0/12"]}});
    server.apply(cidr).unwrap();
    let mut source = Running::start(&server);
    let expected =
        Seen { services: vec!["a=10.96.0.1".into()], endpoints: vec!["a=10.1.0.1".into()] };
    source.until("everything", |s| s.now() == expected && s.service_cidrs() == 1);
    source.until("the node", |s| s.node_ip() == Some([192, 0, 2, 1].into()));
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr] {
        source.until("each listed once", |s| s.lists_done(kind) == 1);
        assert!(source.status.is_listed(kind));
        assert!(source.status.last_contact(kind).is_some());
    }
    assert!(source.status.oldest_contact().is_some());
    let requests = server.requests();
    assert_eq!(requests.count(Verb::List, "services"), 0);
    let query = requests.last_query(Verb::Watch, "services").unwrap().to_owned();
    for part in ["sendInitialEvents=true", "labelSelector=%21service", "spec.clusterIP%21%3DNone"] {
        assert!(query.contains(part), "{query}");
    }
    // The same connection continues as a watch.
    server.apply(service("b", "10.96.0.2")).unwrap();
    server.delete("Service", "ns", "a").unwrap();
    source.expect(&["b=10.96.0.2"]);
    assert_eq!(server.requests().count(Verb::Watch, "services"), 1);
}

#[test]
fn an_empty_cluster_is_a_complete_list() {
    let server = server();
    let mut source = Running::start(&server);
    source.until("synced", Running::is_synced);
}

#[test]
fn refused_streaming_lists_are_replaced_by_pages() {
    let server = server();
    server.faults().streaming_lists(StreamingLists::Refused);
    let services = (0..1203)
        .map(|i| service(&format!("s{i:04}"), &format!("10.96.{}.{}", i / 250, i % 250 + 1)));
    server.apply_many(services).unwrap();
    let mut source = Running::start(&server);
    source.until("all pages", |s| s.now().services.len() == 1203 && s.is_synced());
    let requests = server.requests();
    assert_eq!(requests.count(Verb::List, "services"), 3);
    let queries = requests.stats(Verb::List, "services").queries;
    assert!(queries.iter().all(|q| q.contains("limit=500")), "{queries:?}");
    assert_eq!(queries.iter().filter(|q| q.contains("continue=")).count(), 2);
    server.apply(service("s0000", "10.96.100.1")).unwrap();
    source.until("the change", |s| s.now().services[0] == "s0000=10.96.100.1");
    // It is remembered: after a relist nothing asks for a streaming list again.
    server.clear_requests();
    server.faults().compact_history();
    server.faults().drop_watches();
    source.until("listed again", |s| s.lists_done(Kind::Service) == 2);
    let watches = server.requests().stats(Verb::Watch, "services").queries;
    assert!(watches.iter().all(|q| !q.contains("sendInitialEvents")), "{watches:?}");
}

#[test]
fn a_server_too_old_for_streaming_lists_is_noticed() {
    let server = server();
    server.faults().streaming_lists(StreamingLists::Ignored);
    server.apply(service("a", "10.96.0.1")).unwrap();
    let timing = Timing { initial_events: Duration::from_millis(300), ..quick() };
    let mut source = Running::with(&server, timing);
    source.expect(&["a=10.96.0.1"]);
    assert!(server.requests().count(Verb::List, "services") >= 1);
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
}

#[test]
fn pages_that_expire_are_fetched_anew() {
    let server = server();
    server.faults().streaming_lists(StreamingLists::Refused);
    let services =
        (0..700).map(|i| service(&format!("s{i}"), &format!("10.96.{}.{}", i / 250, i % 250 + 1)));
    server.apply_many(services).unwrap();
    // The first page passes, the token for the second is refused as too old.
    server.faults().delay_responses(Duration::from_millis(150));
    let mut source = Running::start(&server);
    source.until("the first page", |s| {
        s.now().services.is_empty() && server.requests().count(Verb::List, "services") > 0
    });
    server.faults().compact_history();
    server.faults().delay_responses(Duration::ZERO);
    source.until("all", |s| s.now().services.len() == 700 && s.is_synced());
}

#[test]
fn service_cidrs_are_not_needed() {
    for status in [403, 404] {
        let server = server();
        server.faults().fail(Failure::new(status).times(u32::MAX).resource("servicecidrs"));
        server.apply(service("a", "10.96.0.1")).unwrap();
        let mut source = Running::start(&server);
        source.expect(&["a=10.96.0.1"]);
        source.until("counted as done", |s| s.lists_done(Kind::ServiceCidr) == 1);
        std::thread::sleep(Duration::from_millis(300));
        let tried = server.requests().count(Verb::Watch, "servicecidrs");
        assert_eq!(tried, 1, "{status}: retried {tried} times");
    }
}

#[test]
fn ten_thousand_endpoints_arrive_by_pages() {
    let server = server();
    server.faults().streaming_lists(StreamingLists::Refused);
    server.apply(service("big", "10.96.0.1")).unwrap();
    let slices = (0..1000).map(|i| {
        let addresses: Vec<_> =
            (0..10).map(|j| format!("10.{}.{}.{j}", 1 + i / 250, i % 250)).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        slice(&format!("big-{i}"), "big", &addresses)
    });
    server.apply_many(slices).unwrap();
    let mut source = Running::start(&server);
    source.until("all endpoints", |s| {
        s.now().endpoints.first().is_some_and(|text| text.split(',').count() == 10_000)
    });
    assert_eq!(server.requests().count(Verb::List, "endpointslices"), 2);
}
