use std::time::{Duration, Instant, SystemTime};

use expect_test::expect;
use kube_proxy_core::{IpFamily, Node};

use super::{Health, Staleness};

const SECOND: Duration = Duration::from_secs(1);

fn health() -> std::sync::Arc<Health> {
    Health::new(&IpFamily::BOTH, 60 * SECOND, None)
}

fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 500)
}

#[test]
fn healthy_before_anything_was_asked_for() {
    let verdict = health().healthz(Instant::now(), time(1));
    assert!(verdict.healthy);
    expect![[r#"{"currentTime":"1970-01-01T00:00:01.5Z","healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z","nodeEligible":true,"status":{"IPv4":{"healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z"},"IPv6":{"healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z"}}}"#]]
        .assert_eq(&verdict.body);
}

#[test]
fn a_family_that_waits_too_long_makes_all_unhealthy() {
    let health = health();
    let now = Instant::now();
    let six = health.family(IpFamily::V6).unwrap();
    six.set_updated(time(7));
    six.set_waiting_since(Some(now));
    assert!(health.livez(now + 60 * SECOND, time(100)).healthy, "just in time");
    let verdict = health.livez(now + 61 * SECOND, time(100));
    assert!(!verdict.healthy);
    expect![[r#"{"currentTime":"1970-01-01T00:01:40.5Z","healthy":false,"lastUpdated":"1970-01-01T00:00:07.5Z","status":{"IPv4":{"healthy":true,"lastUpdated":"1970-01-01T00:01:40.5Z"},"IPv6":{"healthy":false,"lastUpdated":"1970-01-01T00:00:07.5Z"}}}"#]]
        .assert_eq(&verdict.body);
    six.set_waiting_since(None);
    assert!(health.livez(now + 1000 * SECOND, time(100)).healthy);
}

#[test]
fn a_family_that_does_not_even_start_becomes_unhealthy() {
    let health = health();
    let now = Instant::now();
    health.first_lists_complete(now);
    assert!(health.livez(now + 60 * SECOND, time(0)).healthy);
    assert!(!health.livez(now + 61 * SECOND, time(0)).healthy);
    for family in IpFamily::BOTH {
        health.family(family).unwrap().set_waiting_since(None);
    }
    // What a family reports counts from then on.
    health.first_lists_complete(now);
    assert!(health.livez(now + 61 * SECOND, time(0)).healthy);
}

#[test]
fn ready_once_every_family_was_written_and_while_it_keeps_up() {
    let health = health();
    let now = Instant::now();
    assert!(!health.readyz(now, time(0)).healthy, "nothing was written");
    health.family(IpFamily::V4).unwrap().set_updated(time(1));
    let verdict = health.readyz(now, time(1));
    assert!(!verdict.healthy, "IPv6 is missing");
    expect![[r#"{"currentTime":"1970-01-01T00:00:01.5Z","healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z","ready":false,"status":{"IPv4":{"healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z","written":true},"IPv6":{"healthy":true,"lastUpdated":"1970-01-01T00:00:01.5Z","written":false}}}"#]]
        .assert_eq(&verdict.body);
    let six = health.family(IpFamily::V6).unwrap();
    six.set_updated(time(2));
    assert!(health.readyz(now, time(2)).healthy);
    six.set_waiting_since(Some(now));
    assert!(health.readyz(now + 60 * SECOND, time(100)).healthy, "just in time");
    assert!(!health.readyz(now + 61 * SECOND, time(100)).healthy, "not current");
}

#[test]
fn ready_without_a_family_that_is_absent() {
    let health = health();
    health.keep_families(&[IpFamily::V4]);
    health.family(IpFamily::V4).unwrap().set_updated(time(1));
    assert!(health.readyz(Instant::now(), time(1)).healthy);
}

#[test]
fn a_family_that_turns_out_absent_is_left_out() {
    let health = health();
    let now = Instant::now();
    health.first_lists_complete(now);
    health.keep_families(&[IpFamily::V4]);
    health.family(IpFamily::V4).unwrap().set_waiting_since(None);
    let verdict = health.livez(now + 61 * SECOND, time(0));
    assert!(verdict.healthy && !verdict.body.contains("IPv6"), "{}", verdict.body);
    assert!(health.family(IpFamily::V6).is_none());
}

#[test]
fn only_families_in_use_are_reported() {
    let health = Health::new(&[IpFamily::V4], SECOND, None);
    assert!(health.family(IpFamily::V6).is_none());
    assert!(!health.livez(Instant::now(), time(0)).body.contains("IPv6"));
}

#[test]
fn a_node_that_is_about_to_go_is_not_eligible_but_alive() {
    let health = health();
    for (node, eligible) in [
        (Some(Node::default()), true),
        (Some(Node { being_deleted: true, ..Node::default() }), false),
        (Some(Node { to_be_removed_by_autoscaler: true, ..Node::default() }), false),
        (None, false),
    ] {
        health.set_node(node.as_ref());
        assert_eq!(health.healthz(Instant::now(), time(0)).healthy, eligible, "{node:?}");
        assert!(health.livez(Instant::now(), time(0)).healthy);
    }
}

#[test]
fn a_silent_api_server_counts_only_if_asked_for() {
    for (silence, healthy) in [(30, true), (31, false)] {
        let staleness =
            Staleness { limit: 30 * SECOND, silence: Box::new(move || silence * SECOND) };
        let health = Health::new(&[IpFamily::V4], 60 * SECOND, Some(staleness));
        let verdict = health.healthz(Instant::now(), time(0));
        assert_eq!(verdict.healthy, healthy, "{silence}");
        let report = format!("\"apiServer\":{{\"healthy\":{healthy},\"silentSeconds\":{silence}}}");
        assert!(verdict.body.contains(&report), "{}", verdict.body);
        assert!(health.livez(Instant::now(), time(0)).healthy, "the proxy itself is alive");
        assert!(health.keeps_up(Instant::now()));
    }
}
