//! Which encoding is spoken, and how the two sides agree on it.

use fake_apiserver::{ApiServer, RequestStats, StreamingLists, Verb};
use kube_proxy_core::Kind;
use kube_proxy_source::KubernetesOptions;
use serde_json::json;

use super::running::{Running, kubeconfig, quick, server, service, slice};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";
const JSON: &str = "application/json";

fn speaking(server: &ApiServer, content_type: &str, accept: &str) -> Running {
    Running::of(KubernetesOptions {
        master: Some(server.url()),
        content_type: content_type.to_owned(),
        accept_content_types: accept.to_owned(),
        timing: quick(),
        ..KubernetesOptions::default()
    })
}

/// The content types of all answers to a kind of request on Services.
fn types(server: &ApiServer, verb: Verb) -> Vec<String> {
    server.requests().stats(verb, "services").content_types.into_keys().collect()
}

fn stats(server: &ApiServer, verb: Verb) -> RequestStats {
    server.requests().stats(verb, "services")
}

#[test]
fn protobuf_is_spoken_where_it_is_asked_for() {
    for mode in [StreamingLists::Served, StreamingLists::Refused] {
        let server = server();
        server.faults().streaming_lists(mode);
        server.apply(service("a", "10.96.0.1")).unwrap();
        let mut source = speaking(&server, PROTOBUF, "");
        source.expect(&["a=10.96.0.1"]);
        server.apply(service("b", "10.96.0.2")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
        assert_eq!(types(&server, Verb::Watch), [WATCH]);
        if mode == StreamingLists::Refused {
            assert_eq!(types(&server, Verb::List), [PROTOBUF]);
        }
    }
}

#[test]
fn json_is_spoken_where_it_is_configured() {
    for (content_type, accept) in [(JSON, ""), (PROTOBUF, JSON), (JSON, "*/*")] {
        let server = server();
        server.apply(service("a", "10.96.0.1")).unwrap();
        let mut source = speaking(&server, content_type, accept);
        source.expect(&["a=10.96.0.1"]);
        assert_eq!(types(&server, Verb::Watch), [JSON], "{content_type} {accept}");
    }
}

#[test]
fn what_is_accepted_counts_before_what_is_sent() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let accept = "application/json;q=0.5,application/vnd.kubernetes.protobuf;q=0.9";
    let mut source = speaking(&server, JSON, accept);
    source.expect(&["a=10.96.0.1"]);
    assert_eq!(types(&server, Verb::Watch), [WATCH]);
    assert_eq!(stats(&server, Verb::Watch).accept, accept);
}

#[test]
fn a_server_without_protobuf_answers_in_json() {
    for mode in [StreamingLists::Served, StreamingLists::Refused] {
        let server = server();
        server.faults().json_only(true);
        server.faults().streaming_lists(mode);
        server.apply(service("a", "10.96.0.1")).unwrap();
        let mut source = speaking(&server, PROTOBUF, "");
        source.expect(&["a=10.96.0.1"]);
        // After pages the watch comes a moment later.
        source.until("JSON", |_| types(&server, Verb::Watch) == [JSON]);
        assert_eq!(stats(&server, Verb::List).failed, 0);
        // It learns protobuf, in an update: the next watch has it.
        server.faults().json_only(false);
        server.faults().drop_watches();
        server.apply(service("b", "10.96.0.2")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
        source.until("protobuf", |_| types(&server, Verb::Watch).contains(&WATCH.to_owned()));
    }
}

#[test]
fn a_server_that_accepts_none_of_it_is_asked_for_less() {
    // The parameter is refused, then protobuf itself: three requests, and no wait between them.
    let server = server();
    server.faults().strict_accept(true);
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = speaking(&server, PROTOBUF, "");
    source.expect(&["a=10.96.0.1"]);
    assert_eq!(types(&server, Verb::Watch), [WATCH]);
    let watches = stats(&server, Verb::Watch);
    assert_eq!(watches.accept, format!("{PROTOBUF},{JSON}"));
    assert!(watches.failed <= 1, "{watches:?}");
    drop(source);
    let server = super::running::server();
    server.faults().json_only(true);
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = speaking(&server, PROTOBUF, PROTOBUF);
    source.expect(&["a=10.96.0.1"]);
    assert_eq!(stats(&server, Verb::Watch).accept, JSON);
    // It is remembered: none of the later requests is refused.
    let failed = stats(&server, Verb::Watch).failed;
    server.faults().drop_watches();
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    assert_eq!(stats(&server, Verb::Watch).failed, failed);
}

#[test]
fn managed_fields_are_left_out_by_a_server_that_can() {
    let mut sizes = Vec::new();
    for known in [false, true] {
        let server = server();
        server.faults().drop_managed_fields(known);
        let mut object = service("a", "10.96.0.1");
        let fields = "x".repeat(100_000);
        object["metadata"]["managedFields"] =
            json!([{"manager": fields, "fieldsV1": {"f:spec": {}}}]);
        server.apply(object).unwrap();
        let mut source = speaking(&server, PROTOBUF, "");
        source.expect(&["a=10.96.0.1"]);
        sizes.push(server.bytes_sent());
        assert!(stats(&server, Verb::Watch).accept.contains("drop=metadata.managedFields"));
        assert!(source.problems.current().is_empty());
    }
    assert!(sizes[0] > 100_000 && sizes[1] < 50_000, "{sizes:?}");
}

#[test]
fn long_lists_are_compressed_unless_the_kubeconfig_says_no() {
    let folder = tempfile::tempdir().unwrap();
    for (content_type, disabled) in [(PROTOBUF, false), (JSON, false), (PROTOBUF, true)] {
        let server = server();
        server.faults().streaming_lists(StreamingLists::Refused);
        let addresses: Vec<_> = (1..200).map(|i| format!("10.1.0.{i}")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        server.apply(service("a", "10.96.0.1")).unwrap();
        server.apply_many((0..100).map(|i| slice(&format!("a-{i}"), "a", &addresses))).unwrap();
        let cluster = json!({"server": server.url(), "disable-compression": disabled});
        let options = KubernetesOptions {
            kubeconfig: Some(kubeconfig(folder.path(), &cluster, &json!({}))),
            content_type: content_type.to_owned(),
            timing: quick(),
            ..KubernetesOptions::default()
        };
        let mut source = Running::of(options);
        source.until("all", |s| s.is_synced() && s.now().endpoints.len() == 1);
        let lists = server.requests().stats(Verb::List, "endpointslices");
        assert_eq!(lists.compressed, u64::from(!disabled), "{content_type}");
        // A short one is not worth it, and watches never are.
        assert_eq!(stats(&server, Verb::List).compressed, 0);
        assert_eq!(stats(&server, Verb::Watch).compressed, 0);
        source.until("each listed once", |s| s.lists_done(Kind::EndpointSlice) == 1);
    }
}
