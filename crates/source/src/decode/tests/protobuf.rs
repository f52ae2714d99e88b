//! The same as for JSON.

use fake_apiserver::{protobuf_event, protobuf_list};
use serde_json::{Value, json};

use super::*;

fn read(kind: &str, items: &[Value]) -> (Result<PageHead, String>, String) {
    read_bytes(&protobuf_list(kind, &json!({"resourceVersion": "7", "continue": "abc"}), items))
}

fn read_bytes(body: &[u8]) -> (Result<PageHead, String>, String) {
    read_as(Format::Protobuf, body)
}

#[test]
fn a_page_with_all_sorts_of_objects() {
    let meta = |name: &str| json!({"namespace": "a", "name": name});
    let (head, text) = read(
        "Service",
        &[
            json!({"metadata": meta("good"), "spec": {"clusterIP": "10.0.0.1"}}),
            json!({"metadata": meta("bad"), "spec": {"clusterIP": "10.0.0.2", "ports": [{"port": "x"}]}}),
            json!({"metadata": meta("headless"), "spec": {"clusterIP": "None"}}),
            json!({"metadata": {"name": "b", "namespace": 5}, "spec": 6}),
            json!({"metadata": meta("good2"), "spec": {"clusterIP": "10.0.0.3"}}),
        ],
    );
    let expected = PageHead { resource_version: "7".into(), continue_token: "abc".into() };
    assert_eq!(head, Ok(expected));
    expect![[r#"
        a/good applied
        a/bad kept
          Service a/bad: spec.ports[0].port: invalid type: length-delimited bytes, expected a whole number; what it said before stays in use
        a/headless deleted
        b kept
          Service b: metadata.namespace: invalid type: a varint, expected a string; what it said before stays in use
        a/good2 applied
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_list_of_something_else_or_a_part_of_one_is_no_list() {
    for kind in ["EndpointSlice", "Node", "Pod"] {
        let (head, text) = read(kind, &[json!({"metadata": {"name": "x"}})]);
        assert_eq!(head.unwrap_err(), format!("a {kind}List, not a ServiceList"));
        assert_eq!(text, "");
    }
    let item = json!({"metadata": {"name": "x"}, "spec": {"clusterIP": "10.0.0.1"}});
    let whole = protobuf_list("Service", &json!({"resourceVersion": "7"}), &[item.clone(), item]);
    assert_eq!(read_bytes(&whole).1.lines().count(), 2);
    // The four bytes at the end are the empty fields behind the list.
    for end in 0..whole.len() - 4 {
        let (head, text) = read_bytes(&whole[..end]);
        if let Ok(head) = head {
            // Only the envelope is there.
            assert_eq!((&*head.resource_version, text.as_str()), ("", ""), "{end}");
        }
    }
}

fn event(bytes: &[u8]) -> Result<WatchEvent, DecodeError> {
    watch_event(Format::Protobuf, Kind::Service, &bytes[4..], &Context::default())
}

#[test]
fn watch_events_of_every_type() {
    let object = json!({"metadata": {"name": "w", "namespace": "n", "resourceVersion": "5"}, "spec": {"clusterIP": "1.1.1.1"}});
    for type_ in ["ADDED", "MODIFIED"] {
        match event(&protobuf_event(type_, "Service", &object)).unwrap() {
            WatchEvent::Applied(decoded, version) => {
                assert!(matches!(decoded.event, Event::ServiceApplied(_)));
                assert_eq!(version, "5");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(event(&protobuf_event("DELETED", "Service", &object)).unwrap(),
        WatchEvent::Deleted(name, version) if name.to_string() == "n/w" && version == "5"));
    assert!(matches!(event(&protobuf_event("TWISTED", "Service", &object)).unwrap(),
        WatchEvent::Unknown(type_) if type_ == "TWISTED"));
    let end = json!({"metadata": {"resourceVersion": "12", "annotations": {"k8s.io/initial-events-end": "true"}}});
    assert!(matches!(event(&protobuf_event("BOOKMARK", "Service", &end)).unwrap(),
        WatchEvent::Bookmark { resource_version, initial_events_end: true } if resource_version == "12"));
    let status = json!({"message": "too old", "reason": "Expired", "code": 410, "details": {"retryAfterSeconds": 3}});
    match event(&protobuf_event("ERROR", "Status", &status)).unwrap() {
        WatchEvent::Error(status) => {
            assert_eq!(
                (status.code, &*status.reason, &*status.message),
                (410, "Expired", "too old")
            );
            assert_eq!(status.retry_after, Some(3));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_that_are_none_are_refused() {
    let object = json!({"metadata": {"name": "w"}});
    let error = |bytes: &[u8]| event(bytes).unwrap_err().to_string();
    assert_eq!(error(&[0; 4]), "an event without a type");
    assert_eq!(error(&protobuf_event("", "Service", &object)), "an event without a type");
    assert_eq!(error(&protobuf_event("ADDED", "Node", &object)), "a Node, not a Service");
    let cut = protobuf_event("ADDED", "Service", &object);
    assert!(error(&cut[..cut.len() / 2]).starts_with("protobuf: cut off"));
    let no_object = [0, 0, 0, 0, 0x0a, 5, b'A', b'D', b'D', b'E', b'D'];
    assert!(error(&no_object).contains("first four bytes"));
}

#[test]
fn a_bad_object_in_a_watch_is_named_and_keeps_its_last_state() {
    let bad = json!({"metadata": {"name": "w", "namespace": "n", "resourceVersion": "6"}, "spec": {"externalIPs": "1.2.3.4"}});
    match event(&protobuf_event("MODIFIED", "Service", &bad)).unwrap() {
        WatchEvent::Applied(decoded, version) => {
            assert_eq!(decoded.name.to_string(), "n/w");
            assert!(matches!(decoded.event, Event::Kept(Kind::Service, _)));
            assert_eq!(decoded.problems[0].field, "spec.externalIPs[0]");
            assert_eq!(version, "6", "the watch continues behind it");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(event(&protobuf_event("DELETED", "Service", &bad)).unwrap(),
        WatchEvent::Deleted(name, _) if name.to_string() == "n/w"));
}

#[test]
fn a_status_is_recognised_in_both_encodings() {
    let expected = Status {
        code: 429,
        reason: "TooManyRequests".into(),
        message: "slow".into(),
        retry_after: Some(2),
    };
    let status_object = json!({"kind": "Status", "code": 429, "reason": "TooManyRequests", "message": "slow",
        "details": {"retryAfterSeconds": 2}});
    assert_eq!(status(status_object.to_string().as_bytes()), Some(expected.clone()));
    // An event is four bytes of length, type, and the object behind two heads: find the envelope in it.
    let event = protobuf_event("ERROR", "Status", &status_object);
    let begin = event.windows(4).position(|window| window == b"k8s\0").unwrap();
    assert_eq!(status(&event[begin..]), Some(expected));
    assert_eq!(status(b"k8s\0"), None);
    assert_eq!(status(b"<html>"), None);
}
