use super::*;

/// The values that are tried one after the other.
fn choices(content_type: &str, accept_content_types: &str) -> Vec<String> {
    let accept = Accept::new(content_type, accept_content_types);
    let mut found = Vec::new();
    loop {
        let (index, value) = accept.current();
        found.push(value.to_str().unwrap().to_owned());
        if !accept.refused(index) {
            return found;
        }
    }
}

#[test]
fn protobuf_comes_with_json_behind_it() {
    let expected = [
        "application/vnd.kubernetes.protobuf;drop=metadata.managedFields,application/json;drop=metadata.managedFields",
        "application/vnd.kubernetes.protobuf,application/json",
        "application/json",
    ];
    assert_eq!(choices("application/vnd.kubernetes.protobuf", ""), expected);
}

#[test]
fn json_is_asked_for_where_it_is_configured_or_nothing_is() {
    for content_type in ["application/json", "", "application/yaml"] {
        assert_eq!(
            choices(content_type, ""),
            ["application/json;drop=metadata.managedFields", "application/json"]
        );
    }
}

#[test]
fn what_is_to_be_accepted_is_sent_as_it_is_written() {
    let both = "application/json;q=0.5, application/vnd.kubernetes.protobuf;q=0.9";
    assert_eq!(choices("application/json", both)[0], both.replace(", ", ","));
    let only = "application/vnd.kubernetes.protobuf";
    assert_eq!(choices("application/json", only), [only, "application/json"]);
    assert_eq!(choices(only, "application/json"), ["application/json"]);
    // What cannot be read is not asked for.
    assert_eq!(choices("", "application/cbor,application/json"), ["application/json"]);
    assert_eq!(choices(only, "application/cbor").len(), 3);
    assert_eq!(choices(only, "application/json;a=\u{1}").len(), 3);
}

#[test]
fn a_value_is_refused_once_for_all_who_sent_it() {
    let accept = Accept::new("application/vnd.kubernetes.protobuf", "");
    assert!(accept.refused(0) && accept.refused(0), "both try the next one");
    assert_eq!(accept.current().0, 1);
    assert!(accept.refused(1));
    assert!(!accept.refused(2), "nothing is left");
}
