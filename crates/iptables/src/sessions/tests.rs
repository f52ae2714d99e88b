use futures::executor::block_on;
use kube_proxy_core::{IpFamily, ProxyBackend as _, TrafficPolicy};
use proptest::prelude::*;

use super::*;
use crate::tests::build::{backend, config, full};
use crate::tests::model::{Model, TICKS};
use crate::tests::samples::{service, snapshot};

const LIST: &str = "\
src=10.244.1.5 ttl: 64 last_seen: 10000 oldest_pkt: 2 9000, 10000
src=10.244.1.50 ttl: 64 last_seen: 11000 oldest_pkt: 1 11000
src=fd00:0010:0244:0000:0000:0000:0000:0005 ttl: 64 last_seen: 12000 oldest_pkt: 1 12000
";

/// Four milliseconds each.
fn ticks(now: usize) -> Ticks {
    Ticks { now, length: Duration::from_millis(4) }
}

fn left(client: &str, now: usize) -> Option<Duration> {
    remaining(LIST, client.parse().unwrap(), Duration::from_secs(10), ticks(now))
}

#[test]
fn a_list_says_how_long_each_client_stays() {
    assert_eq!(left("10.244.1.5", 10_000), Some(Duration::from_secs(10)));
    assert_eq!(left("10.244.1.5", 11_000), Some(Duration::from_secs(6)));
    assert_eq!(left("10.244.1.5", 12_500), None, "its time is over");
    assert_eq!(left("10.244.1.50", 12_500), Some(Duration::from_secs(4)));
    assert_eq!(left("fd00:10:244::5", 12_500), Some(Duration::from_secs(8)));
    assert_eq!(left("10.244.1.6", 10_000), None);
    assert_eq!(left("10.244.1.5", 9_900), Some(Duration::from_secs(10)), "a clock a little behind");
}

#[test]
fn the_first_endpoint_that_has_the_client_counts() {
    let web = service("web", "10.96.0.1").remote("10.1.0.1:80").remote("10.1.0.2:80").affinity(10);
    let snapshot = snapshot(IpFamily::V4, &[web]);
    let (name, entry) = snapshot.services.first_key_value().unwrap();
    let model = Model::default();
    let mut backend = backend(config(IpFamily::V4), &model);
    full(&mut backend, &snapshot);
    let mut session = |client: &str, policy| {
        let key = SessionKey {
            service: name.clone(),
            frontend: "10.96.0.1:80".parse().unwrap(),
            policy,
            client: client.parse().unwrap(),
        };
        let session = block_on(backend.session(&snapshot, &key)).unwrap();
        session.map(|session| (session.endpoint.to_string(), session.remaining.as_secs()))
    };
    let list = |index: usize| endpoint_chain(name, &entry.endpoints[index]).to_string();
    assert_eq!(session("10.1.0.9", TrafficPolicy::Cluster), None, "there are no lists");
    model.remember(&list(1), "10.1.0.9", TICKS - 300);
    let second = Some(("10.1.0.2:80".to_owned(), 7));
    assert_eq!(session("10.1.0.9", TrafficPolicy::Cluster), second);
    model.remember(&list(0), "10.1.0.9", TICKS - 1000);
    assert_eq!(session("10.1.0.9", TrafficPolicy::Cluster), second, "the first is over");
    model.remember(&list(0), "10.1.0.9", TICKS - 400);
    assert_eq!(session("10.1.0.9", TrafficPolicy::Cluster), Some(("10.1.0.1:80".to_owned(), 6)));
    assert_eq!(session("10.1.0.8", TrafficPolicy::Cluster), None);
    assert_eq!(session("10.1.0.9", TrafficPolicy::Local), None, "no endpoint of the policy");
}

#[test]
fn the_counter_of_ticks_may_wrap() {
    let around = Ticks { now: 500, ..ticks(0) };
    assert_eq!(around.since(usize::MAX - 499), Duration::from_secs(4));
}

#[test]
fn the_counter_follows_the_clock() {
    let first = Ticks::read().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let second = Ticks::read().unwrap();
    let passed = second.since(first.now);
    // A tick is ten milliseconds at most.
    assert!(passed >= Duration::from_millis(80), "{passed:?}");
}

proptest! {
    #[test]
    fn any_list_is_read(list in "(src=[0-9.]{0,8}|last_seen:|[0-9]{0,30}|\\n| ){0,40}", now: usize) {
        let client = "10.244.1.5".parse().unwrap();
        let _ = remaining(&list, client, Duration::from_secs(10), ticks(now));
    }
}
