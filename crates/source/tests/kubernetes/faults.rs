//! Servers and networks that fail.

use std::time::{Duration, Instant};

use fake_apiserver::{Failure, Options, StreamingLists, Verb};
use kube_proxy_core::Kind;
use kube_proxy_source::kubernetes::Timing;

use super::running::{HANG, Running, quick, server, server_with, service};

#[test]
fn a_dropped_watch_goes_on_where_it_was() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    for i in 2..6 {
        server.faults().drop_watches();
        let ip = format!("10.96.0.{i}");
        server.apply(service("a", &ip)).unwrap();
        source.expect(&[&format!("a={ip}")]);
    }
    assert_eq!(source.lists_done(Kind::Service), 1, "no list was needed");
}

#[test]
fn a_stalled_watch_is_noticed_and_resumed() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let timing = Timing { stall: Duration::from_millis(300), ..quick() };
    let mut source = Running::with(&server, timing);
    source.expect(&["a=10.96.0.1"]);
    server.faults().stall_watches(true);
    server.apply(service("a", "10.96.0.2")).unwrap();
    let watches = server.requests().count(Verb::Watch, "services");
    source.until("another watch", |_| server.requests().count(Verb::Watch, "services") > watches);
    assert_eq!(source.now().services, ["a=10.96.0.1"], "the last state is kept");
    server.faults().stall_watches(false);
    source.expect(&["a=10.96.0.2"]);
    assert_eq!(source.lists_done(Kind::Service), 1);
}

#[test]
fn bookmarks_keep_an_idle_watch_alive() {
    let server =
        server_with(Options { bookmark_interval: Duration::from_millis(50), ..Options::default() });
    let timing = Timing { stall: Duration::from_secs(5), ..quick() };
    let mut source = Running::with(&server, timing);
    source.until("synced", Running::is_synced);
    let first = source.status.last_contact(Kind::Service).unwrap();
    source.until("a bookmark much later", |s| {
        s.status.last_contact(Kind::Service).unwrap() > first + Duration::from_secs(6)
    });
    assert_eq!(server.requests().count(Verb::Watch, "services"), 1);
}

#[test]
fn an_expired_version_leads_to_a_new_list() {
    for mode in [StreamingLists::Served, StreamingLists::Refused] {
        let server = server();
        server.faults().streaming_lists(mode);
        server.apply(service("a", "10.96.0.1")).unwrap();
        server.apply(service("b", "10.96.0.2")).unwrap();
        let mut source = Running::start(&server);
        source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
        // While the server is away one Service goes and another comes, and the history is lost.
        server.stop();
        server.delete("Service", "ns", "a").unwrap();
        server.apply(service("c", "10.96.0.3")).unwrap();
        server.faults().compact_history();
        server.resume().unwrap();
        source.expect(&["b=10.96.0.2", "c=10.96.0.3"]);
        assert_eq!(source.lists_done(Kind::Service), 2);
    }
}

#[test]
fn a_server_that_is_gone_for_a_while() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    server.stop();
    server.apply(service("b", "10.96.0.2")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(source.now().services, ["a=10.96.0.1"], "the last state is kept");
    let contact = source.status.last_contact(Kind::Service).unwrap();
    assert!(contact.elapsed() >= Duration::from_millis(400), "nothing was heard meanwhile");
    server.resume().unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    assert!(source.status.last_contact(Kind::Service).unwrap() > contact);
}

#[test]
fn a_server_that_is_not_there_yet() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.stop();
    let mut source = Running::start(&server);
    std::thread::sleep(Duration::from_millis(200));
    assert!(!source.is_synced());
    server.resume().unwrap();
    source.expect(&["a=10.96.0.1"]);
}

#[test]
fn errors_are_retried_with_growing_delays() {
    for status in [500, 503, 429, 401, 403] {
        let server = server();
        server.apply(service("a", "10.96.0.1")).unwrap();
        server.faults().fail(Failure::new(status).times(6).resource("services"));
        let begun = Instant::now();
        let mut source = Running::start(&server);
        source.expect(&["a=10.96.0.1"]);
        // Half of 20, 40, 80, 160, 200 and 200 ms is the least that six delays may take.
        assert!(begun.elapsed() >= Duration::from_millis(350), "{status}: {:?}", begun.elapsed());
        assert_eq!(server.requests().stats(Verb::Watch, "services").failed, 6);
        assert_eq!(
            server.requests().count(Verb::List, "services"),
            0,
            "{status}: no reason for pages"
        );
    }
}

#[test]
fn a_server_that_lists_but_refuses_every_watch_is_listed_less_and_less_often() {
    for mode in [StreamingLists::Served, StreamingLists::Refused] {
        let timing = Timing {
            backoff_start: Duration::from_millis(40),
            backoff_max: Duration::from_secs(10),
            ..quick()
        };
        let server = server();
        server.faults().streaming_lists(mode);
        server.apply(service("a", "10.96.0.1")).unwrap();
        let expired = Failure::new(410).verb(Verb::Watch).times(u32::MAX).resource("services");
        server.faults().fail(expired);
        let begun = Instant::now();
        let mut source = Running::with(&server, timing.clone());
        source.until("three lists", |s| s.lists_done(Kind::Service) >= 3);
        std::thread::sleep(Duration::from_secs(1));
        let refused = server.requests().stats(Verb::Watch, "services").failed;
        let lists = server.requests().count(Verb::List, "services");
        // After each refusal it waits for half of the doubled start at least.
        let (mut most, mut waited, mut delay) = (1, Duration::ZERO, timing.backoff_start);
        while waited + delay / 2 <= begun.elapsed() {
            waited += delay / 2;
            delay = (delay * 2).min(timing.backoff_max);
            most += 1;
        }
        assert!(refused <= most, "{refused} refusals, {most} fit in");
        assert!(lists <= most, "{lists} lists, {most} fit in");
        // A list is no recovery, a watch that works is.
        server.faults().clear_failures();
        server.apply(service("b", "10.96.0.2")).unwrap();
        source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
    }
}

#[test]
fn the_server_says_when_to_come_back() {
    for status in [429, 503] {
        let server = server();
        server.apply(service("a", "10.96.0.1")).unwrap();
        server.faults().fail(Failure::new(status).times(2).retry_after(1).resource("services"));
        let mut source = Running::start(&server);
        source.expect(&["a=10.96.0.1"]);
        let stats = server.requests().stats(Verb::Watch, "services");
        assert_eq!((stats.count, stats.failed), (3, 2), "{status}: asked more often than told");
        let times = stats.times.iter().zip(stats.times.iter().skip(1));
        for waited in times.map(|(before, after)| after.duration_since(*before)) {
            assert!(waited >= Duration::from_secs(1), "{status}: {waited:?}");
        }
    }
}

#[test]
fn the_server_names_the_date_to_come_back_at() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let (begun, wait) = (Instant::now(), 4);
    // Whole seconds: the date is up to one earlier.
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(wait + 1);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date);
    server.faults().fail(Failure::new(429).retry_at(date.unwrap()).resource("services"));
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    let stats = server.requests().stats(Verb::Watch, "services");
    assert_eq!((stats.count, stats.failed), (2, 1));
    let waited = stats.times[1].duration_since(begun);
    assert!(waited >= Duration::from_secs(wait.unsigned_abs()), "{waited:?}");
}

#[test]
fn sources_that_start_at_once_do_not_ask_at_once() {
    let server = server();
    let timing = Timing { start: HANG * 100, ..quick() };
    let waiting = Running::with(&server, timing);
    let timing = Timing { start: Duration::from_millis(500), ..quick() };
    let mut sources: Vec<_> = (0..8).map(|_| Running::with(&server, timing.clone())).collect();
    for source in &mut sources {
        source.until("synced", Running::is_synced);
    }
    let times = server.requests().stats(Verb::Watch, "services").times;
    assert_eq!(times.len(), 8, "the one that waits for hours has not asked");
    let spread = times[7].duration_since(times[0]);
    assert!(spread >= Duration::from_millis(20), "{spread:?}");
    drop(waiting);
}

#[test]
fn a_version_that_is_refused_again_and_again_is_given_up() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    server.faults().fail(Failure::new(500).times(3).resource("services"));
    server.faults().drop_watches();
    source.until("a new list", |s| s.lists_done(Kind::Service) == 2);
    source.expect(&["a=10.96.0.1"]);
}

#[test]
fn a_line_that_is_no_json_is_survived() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    let mut source = Running::start(&server);
    source.expect(&["a=10.96.0.1"]);
    server.faults().corrupt_watch_lines(1, Some("services"));
    server.apply(service("b", "10.96.0.2")).unwrap();
    source.expect(&["a=10.96.0.1", "b=10.96.0.2"]);
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_tried_again() {
    let server = server();
    server.apply(service("a", "10.96.0.1")).unwrap();
    server.faults().delay_responses(HANG * 10);
    let timing = Timing { response: Duration::from_millis(200), ..quick() };
    let mut source = Running::with(&server, timing);
    source.until("several attempts", |_| server.requests().count(Verb::Watch, "services") >= 3);
    server.faults().delay_responses(Duration::ZERO);
    source.expect(&["a=10.96.0.1"]);
}

#[test]
fn stopping_is_prompt_whatever_the_server_does() {
    let server = server();
    server.faults().delay_responses(HANG * 10);
    let source = Running::start(&server);
    let begun = Instant::now();
    drop(source);
    assert!(begun.elapsed() < HANG / 2, "{:?}", begun.elapsed());
}
