use super::{ListOptions, PageToken, Query, VersionMatch, decode};

#[test]
fn decoding() {
    assert_eq!(decode("a%2Cb%3D+c", true), "a,b= c");
    assert_eq!(decode("a+b", false), "a+b");
    assert_eq!(decode("50%", true), "50%");
    assert_eq!(decode("%zz%e2%82%ac", true), "%zz€");
}

#[test]
fn options_of_a_streaming_list() {
    let query = Query::parse(
        "watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
         &resourceVersionMatch=NotOlderThan&timeoutSeconds=290&unknown=1",
    );
    assert!(query.is_watch());
    let options = ListOptions::parse(&query).unwrap();
    assert_eq!(options.version, None);
    assert_eq!(options.version_match, VersionMatch::NotOlderThan);
    assert_eq!(options.timeout_seconds, Some(290));
    assert_eq!((options.bookmarks, options.send_initial_events), (true, Some(true)));
}

#[test]
fn flags_of_a_watch() {
    for (text, expected) in [("watch=1", true), ("watch", true), ("watch=0", false), ("", false)] {
        assert_eq!(Query::parse(text).is_watch(), expected, "{text}");
    }
}

#[test]
fn wrong_options_are_refused() {
    for text in ["resourceVersion=abc", "limit=-1", "continue=garbage", "resourceVersionMatch=x"] {
        assert!(ListOptions::parse(&Query::parse(text)).is_err(), "{text}");
    }
}

#[test]
fn tokens_round_trip() {
    let token = PageToken { version: 12, offset: 500 };
    assert_eq!(PageToken::decode(&token.encode()), Some(token));
}
