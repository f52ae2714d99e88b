//! Checks of tracked flows.

use std::path::PathBuf;
use std::time::Duration;

use kube_proxy_core::IpFamily;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::conntrack_table::ConntrackTable;
use super::labels::{FamilyLabel, PerFamilyHistogram, durations};

/// How long they take, what they delete, and how full the table is.
#[derive(Debug)]
pub struct ConntrackMetrics {
    duration: PerFamilyHistogram,
    deleted: Family<FamilyLabel, Counter>,
    early: Family<FamilyLabel, Counter>,
    dead: Family<FamilyLabel, Counter>,
    table: ConntrackTable,
}

impl Default for ConntrackMetrics {
    fn default() -> Self {
        Self {
            duration: durations(),
            deleted: Family::default(),
            early: Family::default(),
            dead: Family::default(),
            table: ConntrackTable::default(),
        }
    }
}

impl super::Group for ConntrackMetrics {
    #[rustfmt::skip]
    fn register(&self, r: &mut Registry) {
        r.register("conntrack_reconciler_sync_duration_seconds", "Time one check of the UDP flows took", self.duration.clone());
        r.register("conntrack_reconciler_deleted_entries", "Stale UDP flows deleted", self.deleted.clone());
        r.register("early_connections_deleted", "Entries of TCP connections deleted that began before the rules of their Service", self.early.clone());
        r.register("dead_connections_reset", "Connections to endpoints that left whose clients are reset, of Services that ask for it", self.dead.clone());
        r.register_collector(Box::new(self.table.clone()));
    }
}

impl ConntrackMetrics {
    /// Lets the counters begin at zero.
    pub(super) fn start(&self, family: IpFamily) {
        self.deleted.get_or_create(&family.into()).inc_by(0);
        self.early.get_or_create(&family.into()).inc_by(0);
        self.dead.get_or_create(&family.into()).inc_by(0);
    }

    /// Where the kernel says how full its table is, such as `/proc/sys/net/netfilter`; only the first counts. Without it there is no such metric.
    pub fn read_table(&self, directory: impl Into<PathBuf>) {
        self.table.set(directory.into());
    }

    /// The flows were checked.
    pub fn checked(&self, family: IpFamily, took: Duration, deleted: u64) {
        self.duration.get_or_create(&family.into()).observe(took.as_secs_f64());
        self.deleted.get_or_create(&family.into()).inc_by(deleted);
    }

    /// So many clients of endpoints that left are reset.
    pub fn ended_dead(&self, family: IpFamily, reset: u64) {
        self.dead.get_or_create(&family.into()).inc_by(reset);
    }

    /// So many entries of TCP connections that began before the rules were deleted.
    pub fn began_early(&self, family: IpFamily, deleted: u64) {
        self.early.get_or_create(&family.into()).inc_by(deleted);
    }
}
