use std::fmt::Write as _;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

mod both;
mod protobuf;

const KINDS: [Kind; 4] = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];

fn read(body: &str) -> (Result<PageHead, String>, String) {
    read_as(Format::Json, body.as_bytes())
}

/// Reads a page of Services: its head, and a line for each object with its problems below it.
fn read_as(format: Format, body: &[u8]) -> (Result<PageHead, String>, String) {
    let context = Context::default();
    let mut text = String::new();
    let head = page(format, Kind::Service, body, &context, &mut |object| {
        let what = match object.event {
            Event::ServiceApplied(_) => "applied",
            Event::ServiceDeleted(_) => "deleted",
            Event::Kept(Kind::Service, _) => "kept",
            _ => "another kind",
        };
        writeln!(text, "{} {what}", object.name).unwrap();
        for problem in object.problems {
            writeln!(text, "  {problem}").unwrap();
        }
    });
    (head.map_err(|e| e.to_string()), text)
}

#[test]
fn a_page_with_all_sorts_of_objects() {
    let (head, text) = read(
        r#"{"kind": "ServiceList", "metadata": {"resourceVersion": "7", "continue": "abc"}, "items": [
            {"metadata": {"namespace": "a", "name": "good"}, "spec": {"clusterIP": "10.0.0.1"}},
            {"metadata": {"namespace": "a", "name": "bad"}, "spec": {"clusterIP": "10.0.0.2", "ports": [{"port": "x"}]}},
            {"metadata": {"namespace": "a", "name": "headless"}, "spec": {"clusterIP": "None"}},
            null,
            {"metadata": {"namespace": 5}, "spec": 6},
            7,
            {"metadata": {"namespace": "a", "name": "good2"}, "spec": {"clusterIP": "10.0.0.3"}}]}"#,
    );
    let expected = PageHead { resource_version: "7".into(), continue_token: "abc".into() };
    assert_eq!(head, Ok(expected));
    expect![[r#"
        a/good applied
        a/bad kept
          Service a/bad: spec.ports[0].port: invalid type: string "x", expected a whole number; what it said before stays in use
        a/headless deleted
         kept
          Service : metadata.namespace: invalid type: integer `5`, expected a string; what it said before stays in use
         kept
          Service : invalid type: integer `7`, expected struct Service; what it said before stays in use
        a/good2 applied
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_list_of_something_else_is_no_empty_list() {
    for body in [
        r#"{"kind": "PodList", "metadata": {"resourceVersion": "9"}, "items": null}"#,
        r#"{"kind": "Status", "metadata": {"resourceVersion": "9"}}"#,
        r#"{"kind": "EndpointSliceList", "metadata": {"resourceVersion": "9"}, "items": [7]}"#,
    ] {
        let (head, text) = read(body);
        assert!(head.unwrap_err().contains("not a ServiceList"), "{body}");
        assert_eq!(text, "");
    }
}

#[test]
fn order_of_fields_and_empty_lists_do_not_matter() {
    let (head, text) = read(r#"{"items": null, "metadata": {"resourceVersion": "9"}}"#);
    assert_eq!(head.unwrap().resource_version, "9");
    assert_eq!(text, "");
    assert!(read("").0.is_err());
    assert!(read("[]").0.is_err());
    assert!(read(r#"{"items": {}}"#).0.is_err());
    assert!(read(r#"{"items": [{}"#).0.is_err());
}

fn line(kind: Kind, text: &str) -> Result<WatchEvent, DecodeError> {
    watch_event(Format::Json, kind, text.as_bytes(), &Context::default())
}

#[test]
fn watch_lines_of_every_type() {
    let object = r#"{"metadata": {"name": "w", "namespace": "n", "resourceVersion": "5"}, "spec": {"clusterIP": "1.1.1.1"}}"#;
    for (type_, reversed) in [("ADDED", false), ("MODIFIED", true)] {
        let text = if reversed {
            format!(r#"{{"object": {object}, "type": "{type_}"}}"#)
        } else {
            format!(r#"{{"type": "{type_}", "object": {object}}}"#)
        };
        match line(Kind::Service, &text).unwrap() {
            WatchEvent::Applied(decoded, version) => {
                assert!(matches!(decoded.event, Event::ServiceApplied(_)));
                assert_eq!(version, "5");
            }
            other => panic!("{other:?}"),
        }
    }
    let deleted = format!(r#"{{"type": "DELETED", "object": {object}}}"#);
    assert!(matches!(line(Kind::Service, &deleted).unwrap(),
        WatchEvent::Deleted(name, version) if name.to_string() == "n/w" && version == "5"));
    let unknown = format!(r#"{{"type": "TWISTED", "object": {object}}}"#);
    assert!(
        matches!(line(Kind::Service, &unknown).unwrap(), WatchEvent::Unknown(t) if t == "TWISTED")
    );
}

#[test]
fn bookmarks_of_every_kind() {
    for kind in KINDS {
        let end = |annotation: &str| {
            let text = format!(
                r#"{{"type": "BOOKMARK", "object": {{"kind": "{kind}", "metadata": {{"resourceVersion": "12"{annotation}}},
                    "spec": {{"ports": null}}, "endpoints": null}}}}"#
            );
            match line(kind, &text).unwrap() {
                WatchEvent::Bookmark { resource_version, initial_events_end } => {
                    assert_eq!(resource_version, "12");
                    initial_events_end
                }
                other => panic!("{other:?}"),
            }
        };
        assert!(!end(""));
        assert!(end(r#", "annotations": {"k8s.io/initial-events-end": "true"}"#));
    }
}

#[test]
fn errors_of_a_watch_are_not_objects() {
    let text = r#"{"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": "too old",
        "reason": "Expired", "code": 410, "details": {"retryAfterSeconds": 3}}}"#;
    for kind in KINDS {
        match line(kind, text).unwrap() {
            WatchEvent::Error(status) => {
                assert_eq!((status.code, &*status.reason), (410, "Expired"));
                assert_eq!(status.retry_after, Some(3));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_bad_object_in_a_watch_is_named_and_keeps_its_last_state() {
    let text = r#"{"type": "MODIFIED", "object": {"metadata": {"name": "w", "namespace": "n", "resourceVersion": "6"},
        "spec": {"externalIPs": "1.2.3.4"}}}"#;
    match line(Kind::Service, text).unwrap() {
        WatchEvent::Applied(decoded, version) => {
            assert_eq!(decoded.name.to_string(), "n/w");
            assert!(matches!(decoded.event, Event::Kept(Kind::Service, _)));
            assert_eq!(decoded.problems[0].field, "spec.externalIPs");
            assert_eq!(version, "6", "the watch continues behind it");
        }
        other => panic!("{other:?}"),
    }
    // It can be deleted all the same.
    let gone = text.replace("MODIFIED", "DELETED");
    assert!(
        matches!(line(Kind::Service, &gone).unwrap(), WatchEvent::Deleted(name, _) if name.to_string() == "n/w")
    );
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for kind in KINDS {
            for format in [Format::Json, Format::Protobuf] {
                let _ = page(format, kind, &bytes, &Context::default(), &mut |_| ());
                let _ = watch_event(format, kind, &bytes, &Context::default());
            }
            status(&bytes);
        }
    }
}
