use super::*;

/// What the headers ask for on a node whose clock is an hour behind the server's.
fn asked(retry_after: &str, date: Option<&str>) -> Option<u64> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
    if let Some(date) = date {
        headers.insert(DATE, date.parse().unwrap());
    }
    seconds(&headers, "2026-03-01T11:00:00Z".parse().unwrap())
}

#[test]
fn a_number_counts_as_seconds() {
    assert_eq!(asked("7", None), Some(7));
    assert_eq!(asked(" 0 ", Some("Sun, 01 Mar 2026 12:00:00 GMT")), Some(0));
}

#[test]
fn a_date_counts_from_the_date_of_the_answer() {
    let date = "Sun, 01 Mar 2026 12:00:00 GMT";
    assert_eq!(asked("Sun, 01 Mar 2026 12:00:30 GMT", Some(date)), Some(30));
    assert_eq!(asked("Sun, 01 Mar 2026 11:00:30 GMT", None), Some(30));
    assert_eq!(asked("Sun, 01 Mar 2026 11:59:00 GMT", Some(date)), Some(0), "it is over");
}

#[test]
fn what_cannot_be_read_asks_for_nothing() {
    for text in ["", "soon", "-1", "1.5", "Sun, 99 Mar 2026 12:00:30 GMT", "2026-03-01"] {
        assert_eq!(asked(text, None), None, "{text}");
    }
    assert_eq!(asked("Sun, 01 Mar 2026 11:00:30 GMT", Some("today")), Some(30));
    assert_eq!(seconds(&HeaderMap::new(), Timestamp::UNIX_EPOCH), None);
}
