//! The loop's rules, with a backend that records what it is asked to do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::executor::block_on;

use super::Proxy;
use crate::conntrack::UdpFlow;
use crate::testing::{applied, name, options, port_name, ready, service, slice};
use crate::{
    Algorithm, Event, Frontend, Intervals, IpFamily, Kind, NodePortAddresses, Protocol,
    ProxyBackend, Refusal, Repair, RepairLevel, Scope, ServiceEntry, Snapshot, SyncError,
    SyncReport,
};

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a model")]
struct Record {
    calls: Vec<String>,
    fail: bool,
    /// This many syncs are refused, all in the same way.
    refused: usize,
    damaged: bool,
    removed_udp: Vec<Frontend>,
    /// It takes other node-port addresses.
    moves: bool,
    /// Until it is asked for it, it believes that it has an algorithm.
    lacks_maglev: bool,
}

struct Recorder(Arc<Mutex<Record>>);

#[async_trait]
impl ProxyBackend for Recorder {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        let mut record = self.0.lock().unwrap();
        record.calls.push(match scope {
            Scope::Full => format!("full {}", snapshot.services.len()),
            Scope::Repair(Repair::Object(refusal)) => format!("repair {}", refusal.name),
            Scope::Repair(Repair::Table) => "repair all".to_owned(),
            Scope::Partial(changes) => {
                let names: Vec<_> = changes.services.iter().map(ToString::to_string).collect();
                format!("partial {}", names.join(" "))
            }
        });
        let asks = |entry: &Arc<ServiceEntry>| entry.port.policy.algorithm.is_some();
        record.lacks_maglev |= snapshot.services.values().any(asks);
        if record.refused > 0 {
            record.refused -= 1;
            let refusal = Refusal { kind: "set", name: "cluster-ips".to_owned(), errno: 2 };
            return Err(SyncError::RefusedObject { message: "no such element".into(), refusal });
        }
        if record.fail {
            return Err(SyncError::Busy("locked".into()));
        }
        Ok(SyncReport { removed_udp: record.removed_udp.clone(), ..SyncReport::default() })
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        let lacks = self.0.lock().unwrap().lacks_maglev;
        if lacks { Vec::new() } else { vec![Algorithm::Maglev] }
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        Ok(!self.0.lock().unwrap().damaged)
    }

    fn set_node_ports(&mut self, addresses: &NodePortAddresses) -> bool {
        let mut record = self.0.lock().unwrap();
        record.calls.push(format!("node ports {addresses:?}"));
        record.moves
    }
}

struct Bench {
    proxy: Proxy,
    record: Arc<Mutex<Record>>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let second = Duration::from_secs(1);
        let intervals = Intervals { min: second, retry: 30 * second, max: Some(3600 * second) };
        let record = Arc::new(Mutex::new(Record::default()));
        let backend = Box::new(Recorder(record.clone()));
        let proxy = Proxy::new(options(IpFamily::V4), intervals, backend);
        Self { proxy, record, now: Instant::now() }
    }

    /// Lists are complete with one service, and the first sync is done.
    fn started() -> Self {
        let mut bench = Self::new();
        for event in [
            Event::ListStarted(Kind::Service),
            Event::ListStarted(Kind::EndpointSlice),
            applied(service("ns/a", "10.96.0.1")),
            Event::ListDone(Kind::Service),
            Event::ListDone(Kind::EndpointSlice),
        ] {
            bench.apply(event);
        }
        assert_eq!(bench.sync(), ["full 1"]);
        bench
    }

    fn apply(&mut self, event: Event) {
        self.proxy.apply(event, self.now);
    }

    /// Goes to when the next sync is due, does it, and returns what the backend was asked.
    fn sync(&mut self) -> Vec<String> {
        self.now = self.now.max(self.proxy.due().expect("something is due"));
        let now = self.now;
        block_on(self.proxy.sync(|| now));
        std::mem::take(&mut self.record.lock().unwrap().calls)
    }

    fn fail(&self, fail: bool) {
        self.record.lock().unwrap().fail = fail;
    }
}

fn endpoints(addresses: &[&str]) -> Event {
    Event::EndpointSliceApplied(slice("ns/a-1", "a", addresses.iter().map(|a| ready(a)).collect()))
}

#[test]
fn nothing_happens_before_both_lists_are_complete() {
    let mut bench = Bench::new();
    bench.apply(Event::ListStarted(Kind::Service));
    bench.apply(applied(service("ns/a", "10.96.0.1")));
    bench.apply(Event::ListDone(Kind::Service));
    assert_eq!(bench.proxy.due(), None);
}

#[test]
fn the_first_sync_is_full_and_later_ones_carry_only_the_change() {
    let mut bench = Bench::started();
    bench.apply(endpoints(&["10.0.0.1"]));
    assert_eq!(bench.proxy.due(), Some(bench.now + Duration::from_secs(1)));
    assert_eq!(bench.sync(), ["partial ns/a"]);
}

#[test]
fn other_addresses_for_node_ports_need_a_full_sync_once_there_was_one() {
    let all = NodePortAddresses::All;
    let mut bench = Bench::new();
    bench.record.lock().unwrap().moves = true;
    assert!(bench.proxy.set_node_ports(&all, bench.now));
    assert_eq!(bench.proxy.due(), None, "the first lists are not complete");
    let mut bench = Bench::started();
    assert!(!bench.proxy.set_node_ports(&all, bench.now), "it needs another backend");
    bench.record.lock().unwrap().moves = true;
    assert!(bench.proxy.set_node_ports(&all, bench.now));
    assert_eq!(bench.sync(), ["node ports All", "node ports All", "full 1"]);
}

#[test]
fn changes_that_cancel_each_other_out_reach_no_backend() {
    let mut bench = Bench::started();
    bench.apply(applied(service("ns/b", "10.96.0.2")));
    bench.apply(Event::ServiceDeleted(name("ns/b")));
    assert!(bench.sync().is_empty());
    assert_eq!(bench.proxy.waiting_since(), None);
}

#[test]
fn after_a_failure_the_next_sync_is_full_and_forgets_nothing() {
    let mut bench = Bench::started();
    let mut triggered = slice("ns/a-1", "a", vec![ready("10.0.0.1")]);
    triggered.trigger_time = Some(std::time::SystemTime::UNIX_EPOCH);
    bench.apply(Event::EndpointSliceApplied(triggered));
    bench.fail(true);
    assert_eq!(bench.sync(), ["partial ns/a"]);
    let failed_at = bench.now;
    assert_eq!(bench.proxy.due(), Some(failed_at + Duration::from_secs(1)));
    bench.fail(false);
    bench.now = bench.proxy.due().unwrap();
    let now = bench.now;
    let outcome = block_on(bench.proxy.sync(|| now)).expect("a sync");
    assert!(outcome.full && outcome.result.is_ok());
    assert_eq!(outcome.trigger_times.len(), 1, "kept over the failure");
    assert_eq!(outcome.changes.services.len(), 1);
}

#[test]
fn what_is_refused_in_the_same_way_is_repaired_deeper_each_time() {
    let mut bench = Bench::started();
    bench.apply(endpoints(&["10.0.0.1"]));
    bench.record.lock().unwrap().refused = 3;
    assert_eq!(bench.sync(), ["partial ns/a"]);
    assert_eq!(bench.sync(), ["full 1"]);
    assert_eq!(bench.sync(), ["repair cluster-ips"]);
    bench.now = bench.proxy.due().unwrap();
    let now = bench.now;
    let outcome = block_on(bench.proxy.sync(|| now)).expect("a sync");
    assert_eq!(std::mem::take(&mut bench.record.lock().unwrap().calls), ["repair all"]);
    assert!(outcome.full && outcome.result.is_ok());
    assert_eq!(outcome.repair, Some(RepairLevel::Table));
    // It is over.
    bench.apply(endpoints(&["10.0.0.2"]));
    assert_eq!(bench.sync(), ["partial ns/a"]);
}

#[test]
fn damage_leads_to_a_full_sync() {
    let mut bench = Bench::started();
    assert!(block_on(bench.proxy.check(bench.now)).unwrap());
    bench.record.lock().unwrap().damaged = true;
    assert!(!block_on(bench.proxy.check(bench.now)).unwrap());
    assert_eq!(bench.sync(), ["full 1"]);
}

#[test]
fn without_changes_a_small_cluster_is_written_anew_after_the_maximum_interval() {
    let mut bench = Bench::started();
    assert_eq!(bench.proxy.due(), Some(bench.now + Duration::from_hours(1)));
    assert_eq!(bench.sync(), ["full 1"]);
}

#[test]
fn the_snapshot_holds_what_was_synced() {
    let mut bench = Bench::started();
    bench.apply(endpoints(&["10.0.0.1", "10.0.0.2"]));
    bench.sync();
    let entry = &bench.proxy.snapshot().services[&port_name("ns/a", "")];
    assert_eq!(entry.choice.cluster.len(), 2);
}

/// Nine steps are nine syncs of that service port, at their times; and then nothing is waited for.
#[test]
fn steps_of_a_slow_start_are_syncs_of_that_service_port() {
    let mut bench = Bench::started();
    let mut slow = service("ns/a", "10.96.0.1");
    slow.policy.slow_start = Some("90s".parse().unwrap());
    bench.apply(applied(slow));
    bench.apply(applied(service("ns/b", "10.96.0.2")));
    bench.apply(endpoints(&["10.0.0.1"]));
    bench.sync();
    let full = bench.proxy.due();
    bench.apply(endpoints(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(bench.sync(), ["partial ns/a"]);
    let begin = bench.now;
    for step in 1..10 {
        let due = bench.proxy.due().expect("a step");
        assert_eq!((due - begin).as_secs(), 10 * step);
        assert_eq!(bench.proxy.waiting_since(), None, "a step that is not due is no backlog");
        assert_eq!(bench.sync(), ["partial ns/a"]);
    }
    assert_eq!(bench.proxy.due(), full);
}

/// A step that cannot be written waits for its turn, and does not keep the thread busy.
#[test]
fn steps_wait_while_syncs_fail() {
    let mut bench = Bench::started();
    let mut slow = service("ns/a", "10.96.0.1");
    slow.policy.slow_start = Some("9s".parse().unwrap());
    bench.apply(applied(slow));
    bench.apply(endpoints(&["10.0.0.1"]));
    bench.sync();
    bench.apply(endpoints(&["10.0.0.1", "10.0.0.2"]));
    bench.sync();
    bench.fail(true);
    let mut tries = 0;
    let begin = bench.now;
    while bench.now - begin < Duration::from_mins(2) {
        bench.sync();
        tries += 1;
        assert!(bench.proxy.due().unwrap() >= bench.now + Duration::from_secs(1));
    }
    assert!(tries < 12, "{tries} syncs in two minutes");
    bench.fail(false);
    assert_eq!(bench.sync(), ["full 1"]);
    let entry = &bench.proxy.snapshot().services[&port_name("ns/a", "")];
    assert!(entry.endpoints.iter().all(|endpoint| endpoint.step().is_none()), "it is over");
}

#[test]
fn what_a_sync_shows_to_be_missing_is_not_asked_for_again() {
    let mut bench = Bench::started();
    let mut asks = service("ns/a", "10.96.0.1");
    asks.policy.algorithm = Some(Algorithm::Maglev);
    bench.apply(applied(asks));
    assert_eq!(bench.sync(), ["partial ns/a"]);
    assert_eq!(bench.proxy.take_new_lacking(), [], "nobody knew");
    assert_eq!(bench.sync(), ["partial ns/a"]);
    assert_eq!(bench.proxy.take_new_lacking(), [(name("ns/a"), Algorithm::Maglev)]);
    assert_eq!(bench.proxy.waiting_since(), None);
}

#[test]
fn a_cluster_that_changes_all_the_time_is_written_anew_all_the_same() {
    let mut bench = Bench::started();
    let start = bench.now;
    let mut full = 0;
    for round in 0..12_u8 {
        bench.now += Duration::from_mins(30);
        bench.apply(endpoints(&[&format!("10.0.0.{round}")]));
        full += bench.sync().iter().filter(|call| call.starts_with("full")).count();
    }
    assert_eq!(bench.now - start, Duration::from_hours(6));
    assert_eq!(full, 6);
}

#[test]
fn what_an_earlier_process_left_is_checked_for_stale_flows() {
    let mut bench = Bench::new();
    let removed = Frontend::NodePort(Protocol::Udp, 30053);
    bench.record.lock().unwrap().removed_udp.push(removed);
    for kind in [Kind::Service, Kind::EndpointSlice] {
        bench.apply(Event::ListStarted(kind));
        bench.apply(Event::ListDone(kind));
    }
    bench.fail(true);
    bench.sync();
    assert!(bench.proxy.take_udp_check().is_none());
    bench.fail(false);
    bench.sync();
    let check = bench.proxy.take_udp_check().expect("the frontend that was removed");
    let to = |text: &str| text.parse().expect("an address");
    let flow = |reply: &str| UdpFlow {
        original_destination: to("192.0.2.1:30053"),
        reply_source: to(reply),
    };
    assert!(check.is_stale(&flow("10.0.0.1:53"), |_| true));
    assert!(!check.is_stale(&flow("192.0.2.1:30053"), |_| true), "never translated");
}

/// A rollout in iptables mode, where one sync of a large cluster takes half a second: what comes meanwhile is written together.
#[test]
fn a_rollout_of_a_thousand_endpoints_costs_eight_syncs_and_the_first_change_waits_for_none() {
    const CHANGES: u32 = 1000;
    let (period, took) = (Duration::from_millis(10), Duration::from_millis(540));
    let mut bench = Bench::started();
    bench.now += Duration::from_mins(1);
    let begin = bench.now;
    let address = |number: u32| format!("10.{}.{}.1", number / 250, number % 250);
    let (mut arrived, mut syncs) = (0, Vec::new());
    loop {
        while arrived < CHANGES && begin + period * arrived <= bench.now {
            let slice = slice("ns/a-1", "a", vec![ready(&address(arrived))]);
            bench.apply(Event::EndpointSliceApplied(slice));
            arrived += 1;
        }
        let arrival = (arrived < CHANGES).then(|| begin + period * arrived);
        match (bench.proxy.due().filter(|_| bench.proxy.waiting_since().is_some()), arrival) {
            (Some(due), _) if due <= bench.now => {
                syncs.push(due - begin);
                bench.now += took;
                let end = bench.now;
                block_on(bench.proxy.sync(|| end)).expect("there is work");
            }
            (due, arrival) => match due.into_iter().chain(arrival).min() {
                Some(next) => bench.now = next,
                None => break,
            },
        }
    }
    assert_eq!(syncs.first(), Some(&Duration::ZERO), "a single change is written at once");
    assert_eq!(syncs.len(), 8, "{syncs:?}");
    let written = &bench.proxy.snapshot().services[&port_name("ns/a", "")].endpoints;
    assert_eq!(written[0].ip.to_string(), address(CHANGES - 1));
}
