//! The loop's rules, with a backend that records what it is asked to do.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::executor::block_on;

use super::Proxy;
use crate::testing::{applied, name, options, port_name, ready, service, slice};
use crate::{
    Event, Intervals, IpFamily, Kind, ProxyBackend, Scope, Snapshot, SyncError, SyncReport,
};

#[derive(Default)]
struct Record {
    calls: Vec<String>,
    fail: bool,
    damaged: bool,
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
            Scope::Partial(changes) => {
                let names: Vec<_> = changes.services.iter().map(ToString::to_string).collect();
                format!("partial {}", names.join(" "))
            }
        });
        if record.fail { Err(SyncError::Busy("locked".into())) } else { Ok(SyncReport::default()) }
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        Ok(!self.0.lock().unwrap().damaged)
    }

    async fn cleanup(&mut self) -> Result<(), SyncError> {
        Ok(())
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
