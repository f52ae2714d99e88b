use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kube_proxy_core::{Scope, Snapshot, SyncReport};
use kube_proxy_iptables::InUse;

use super::*;
use crate::telemetry::metrics::{Counters, FailureMetrics};
use crate::testing::flags;

#[test]
fn every_mode_has_the_entry_of_its_own() {
    let of_entries: Vec<Mode> = all().map(|entry| entry.mode).collect();
    assert_eq!(of_entries, Mode::ALL);
}

/// A toy mode: everything that the program needs of a mode stands in one entry.
///
/// Its backends write into a list that both families share. It takes the place of a real mode, because names of modes are a closed list.
static TOY: ModeEntry = ModeEntry {
    mode: Mode::Userspace,
    metrics: ModeMetrics {
        failures: FailureMetrics::None,
        reports_rules: false,
        counters: Counters::None,
    },
    owns_udp_flows: false,
    connections_in_conntrack: true,
    deprecation: None,
    behavior: |_, _| ModeBehavior::default(),
    has_variants: false,
    factory: || {
        let written = Written::default();
        Box::new(move |_, family, _, _| {
            let backend = ToyBackend { family, written: written.clone() };
            Ok(Made::without_iptables(Box::new(backend)))
        })
    },
    remove: |_, _| {
        REMOVALS.fetch_add(1, Relaxed);
        Ok(Removed::All)
    },
    udp_frontends: |_| Ok(vec![Frontend::NodePort(kube_proxy_core::Protocol::Udp, 30_053)]),
};

static REMOVALS: AtomicUsize = AtomicUsize::new(0);

type Written = Arc<Mutex<Vec<(IpFamily, usize)>>>;

struct ToyBackend {
    family: IpFamily,
    written: Written,
}

#[async_trait]
impl ProxyBackend for ToyBackend {
    async fn sync(&mut self, snapshot: &Snapshot, _: Scope<'_>) -> Result<SyncReport, SyncError> {
        let mut written = self.written.lock().expect("no thread panicked");
        written.push((self.family, snapshot.services.len()));
        // What the backends of both families have written so far.
        Ok(SyncReport { refused: written.len(), ..SyncReport::default() })
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        Ok(true)
    }
}

#[test]
fn a_toy_mode_is_one_entry() {
    let config = flags("").effective;
    let (factory, node) = (Factory::of(&TOY), NodeFacts::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut syncs = 0;
    for family in IpFamily::BOTH {
        let created = factory.create(&config, family, &node, &Observer::default());
        let Created { mut backend, running } = created.expect("a toy needs nothing");
        assert_eq!((running.mode, running.iptables), (Some(TOY.mode), InUse::default()));
        let snapshot = Snapshot::new(family);
        let report = runtime.block_on(backend.sync(&snapshot, Scope::Full));
        syncs += 1;
        assert_eq!(report.expect("a toy refuses nothing").refused, syncs, "families share a list");
        // While it runs, nothing of it is removed, and none of its frontends is left over.
        assert_eq!(TOY.remove(family, &running).expect("nothing fails"), Removed::Nothing);
        assert_eq!(TOY.udp_frontends(family, &running), []);
    }
    assert_eq!(REMOVALS.load(Relaxed), 0);
    let other = Running { mode: Some(Mode::Nftables), ..Running::of(&config) };
    assert_eq!(TOY.remove(IpFamily::V4, &other).expect("nothing fails"), Removed::All);
    assert_eq!(TOY.udp_frontends(IpFamily::V4, &other).len(), 1);
    assert_eq!(REMOVALS.load(Relaxed), 1);
}
