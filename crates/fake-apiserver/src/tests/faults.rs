use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::super::{Failure, Verb};
use super::client::{Connection, HANG, WatchClient, get};
use super::{server, service};
use kube_proxy_testkit::eventually::eventually;

const WATCH: &str = "/api/v1/services?watch=1";

#[test]
fn dropped_watches_break_off() {
    let server = server();
    let mut watches: Vec<_> = (0..3).map(|_| WatchClient::open(&server, WATCH)).collect();
    server.faults().drop_watches();
    for watch in &mut watches {
        watch.expect_break();
    }
    assert!(server.wait_for_watches("services", 0, HANG));
    let mut watch = WatchClient::open(&server, WATCH);
    server.apply(service("default", "a")).unwrap();
    watch.expect(&[("ADDED", "a")]);
}

#[test]
fn stalled_watches_are_silent_until_they_go_on() {
    let server = server();
    let mut watch = WatchClient::open(&server, WATCH);
    server.apply(service("default", "a")).unwrap();
    watch.expect(&[("ADDED", "a")]);
    server.faults().stall_watches(true);
    server.apply(service("default", "b")).unwrap();
    let mut late = WatchClient::open(
        &server,
        "/api/v1/services?watch=1&timeoutSeconds=1&allowWatchBookmarks=1",
    );
    assert!(watch.is_silent(Duration::from_millis(100)));
    assert!(late.is_silent(Duration::from_millis(1300)), "not even the end arrives");
    assert_eq!(get(&server, "/api/v1/services").names(), ["a", "b"], "lists work");
    server.faults().stall_watches(false);
    watch.expect(&[("ADDED", "b")]);
    late.expect(&[("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", "")]);
    assert_eq!(late.line().unwrap(), None);
}

#[test]
fn failures_hit_what_they_are_for() {
    let server = server();
    server.faults().fail(Failure::new(500).times(2).verb(Verb::List).resource("services"));
    server.faults().fail(Failure::new(429).verb(Verb::List).resource("nodes").retry_after(7));
    server.faults().fail(Failure::new(410).verb(Verb::Watch));
    assert_eq!(get(&server, "/apis/discovery.k8s.io/v1/endpointslices").status, 200);
    let statuses: Vec<_> = (0..3).map(|_| get(&server, "/api/v1/services").status).collect();
    assert_eq!(statuses, [500, 500, 200]);
    let busy = get(&server, "/api/v1/nodes");
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("7")));
    assert_eq!(busy.json()["details"]["retryAfterSeconds"], 7);
    let gone = get(&server, WATCH);
    assert_eq!((gone.status, gone.json()["reason"].as_str()), (410, Some("Expired")));
    assert_eq!(server.requests().stats(Verb::List, "services").failed, 2);
    server.faults().fail(Failure::new(503).times(100));
    assert_eq!(get(&server, "/healthz").status, 503);
    server.faults().clear_failures();
    assert_eq!(get(&server, "/healthz").text, "ok");
}

#[test]
fn an_unanswered_request_holds_up_no_other() {
    let server = server();
    server.faults().fail(Failure::unanswered().verb(Verb::List));
    let mut silent = TcpStream::connect(server.address()).unwrap();
    silent.write_all(b"GET /api/v1/services HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually(HANG, || {
        let arrived = server.requests().count(Verb::List, "services");
        if arrived == 1 { Ok(()) } else { Err(format!("{arrived} requests")) }
    });
    assert_eq!(get(&server, "/api/v1/services").status, 200);
    silent.set_nonblocking(true).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn compaction_makes_versions_and_tokens_too_old() {
    let server = server();
    server.apply_many((0..4).map(|n| service("default", &format!("s{n}")))).unwrap();
    let page = get(&server, "/api/v1/services?limit=2");
    let token = page.json()["metadata"]["continue"].as_str().unwrap().to_owned();
    let mut open =
        WatchClient::open(&server, &format!("{WATCH}&resourceVersion={}", page.version()));
    server.faults().compact_history();
    let next = get(&server, &format!("/api/v1/services?limit=2&continue={token}"));
    assert_eq!((next.status, next.json()["reason"].as_str()), (410, Some("Expired")));
    for kind in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"] {
        let path = format!("{kind}?watch=1&resourceVersion={}", page.version());
        let event = WatchClient::open(&server, &path).event();
        assert_eq!(
            (event["type"].as_str(), event["object"]["code"].as_u64()),
            (Some("ERROR"), Some(410))
        );
    }
    let fresh = get(&server, "/api/v1/services");
    assert_eq!(fresh.names().len(), 4);
    let mut new =
        WatchClient::open(&server, &format!("{WATCH}&resourceVersion={}", fresh.version()));
    server.apply(service("default", "later")).unwrap();
    new.expect(&[("ADDED", "later")]);
    open.expect(&[("ADDED", "later")]);
}

#[test]
fn corrupt_lines_are_no_json() {
    let server = server();
    let mut watch = WatchClient::open(&server, WATCH);
    server.faults().corrupt_watch_lines(1, Some("endpointslices"));
    server.apply(service("default", "a")).unwrap();
    watch.expect(&[("ADDED", "a")]);
    server.faults().corrupt_watch_lines(1, Some("services"));
    server.apply(service("default", "b")).unwrap();
    let line = watch.line().unwrap().unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_err(), "{line}");
    server.apply(service("default", "c")).unwrap();
    watch.expect(&[("ADDED", "c")]);
}

#[test]
fn responses_can_be_slow() {
    let server = server();
    server.faults().delay_responses(Duration::from_millis(150));
    let start = Instant::now();
    assert_eq!(get(&server, "/api/v1/services").status, 200);
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn the_server_goes_away_and_comes_back_on_its_port() {
    let server = server();
    let version = server.apply(service("default", "a")).unwrap();
    let mut watch = WatchClient::open(&server, WATCH);
    watch.expect(&[("ADDED", "a")]);
    let mut idle = Connection::open(&server).unwrap();
    assert_eq!(idle.request("GET", "/livez", "", "").unwrap().status, 200);
    server.stop();
    watch.expect_break();
    assert!(idle.request("GET", "/livez", "", "").is_err(), "idle connections are closed too");
    let refused = Connection::open(&server).err().map(|e| e.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
    server.apply(service("default", "b")).unwrap();
    server.stop();
    server.resume().unwrap();
    let path = format!("{WATCH}&resourceVersion={version}");
    WatchClient::open(&server, &path).expect(&[("ADDED", "b")]);
    assert!(server.resume().is_err(), "the port is taken, by the server itself");
}

#[test]
fn dropping_the_handle_ends_everything() {
    let server = server();
    let address = server.address();
    let mut watch = WatchClient::open(&server, WATCH);
    drop(server);
    watch.expect_break();
    assert!(TcpStream::connect(address).is_err());
}
