//! Syncs of the families: when, how long, how they end.

use std::time::Duration;

use kube_proxy_core::{IpFamily, RepairLevel, SyncError, SyncReport};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{FamilyLabel, PerFamilyHistogram, Seconds, durations, gauge};
use super::mode::FailureMetrics;

/// Labels `table` and `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    table: String,
    ip_family: String,
}

/// Labels `level` and `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepairLabels {
    level: &'static str,
    ip_family: String,
}

/// Labels `ip_family` and `reason`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailingLabels {
    ip_family: String,
    reason: String,
}

/// What syncs do.
#[derive(Debug)]
pub struct SyncMetrics {
    duration: PerFamilyHistogram,
    full_duration: PerFamilyHistogram,
    partial_duration: PerFamilyHistogram,
    last: Family<FamilyLabel, Seconds>,
    last_queued: Family<FamilyLabel, Seconds>,
    network_programming: PerFamilyHistogram,
    rules_total: Family<TableLabels, Gauge>,
    rules_last: Family<TableLabels, Gauge>,
    restore_failures: Family<FamilyLabel, Counter>,
    partial_restore_failures: Family<FamilyLabel, Counter>,
    nftables_failures: Family<FamilyLabel, Counter>,
    failing: Family<FailingLabels, Gauge>,
    repairs: Family<RepairLabels, Counter>,
    drift_repairs: Family<FamilyLabel, Counter>,
}

/// 0.25, 0.5, 1 to 59 by 1, 60 to 115 by 5, 120 to 300 by 30 seconds.
fn network_programming_buckets() -> Histogram {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

impl Default for SyncMetrics {
    fn default() -> Self {
        Self {
            duration: durations(),
            full_duration: durations(),
            partial_duration: durations(),
            last: Family::default(),
            last_queued: Family::default(),
            network_programming: PerFamilyHistogram::new_with_constructor(
                network_programming_buckets,
            ),
            rules_total: Family::default(),
            rules_last: Family::default(),
            restore_failures: Family::default(),
            partial_restore_failures: Family::default(),
            nftables_failures: Family::default(),
            failing: Family::default(),
            repairs: Family::default(),
            drift_repairs: Family::default(),
        }
    }
}

impl super::Group for SyncMetrics {
    #[rustfmt::skip]
    fn register(&self, r: &mut Registry) {
        r.register("sync_proxy_rules_duration_seconds", "Time one sync took", self.duration.clone());
        r.register("sync_full_proxy_rules_duration_seconds", "Time one full sync took", self.full_duration.clone());
        r.register("sync_partial_proxy_rules_duration_seconds", "Time one partial sync took", self.partial_duration.clone());
        r.register("sync_proxy_rules_last_timestamp_seconds", "When the last successful sync ended", self.last.clone());
        r.register("sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was last asked for", self.last_queued.clone());
        r.register("network_programming_duration_seconds", "Time from a change of endpoints to its rules being on this node", self.network_programming.clone());
        r.register("sync_proxy_rules_iptables_total", "iptables rules on the node", self.rules_total.clone());
        r.register("sync_proxy_rules_iptables_last", "iptables rules written by the last sync", self.rules_last.clone());
        r.register("sync_proxy_rules_iptables_restore_failures", "Failed runs of iptables-restore", self.restore_failures.clone());
        r.register("sync_proxy_rules_iptables_partial_restore_failures", "Failed runs of iptables-restore in partial syncs", self.partial_restore_failures.clone());
        r.register("sync_proxy_rules_nftables_sync_failures", "Failed nftables syncs", self.nftables_failures.clone());
        r.register("sync_failing", "Whether the last sync failed, and why: unsupported on this node, busy (another program holds a lock), refused by kernel or program, io", self.failing.clone());
        r.register("sync_repairs", "Syncs that went deeper because the one before was refused: full, the object, or the table", self.repairs.clone());
        r.register("drift_repairs", "Full syncs because a check found rules that others had changed or removed", self.drift_repairs.clone());
    }
}

impl SyncMetrics {
    /// Lets the counters of failures begin at zero, so that a first failure shows as an increase.
    pub(super) fn start(&self, failures: FailureMetrics, family: IpFamily) {
        self.set_failing(family, None);
        for level in RepairLevel::ALL.map(RepairLevel::name) {
            let labels = RepairLabels { level, ip_family: family.to_string() };
            self.repairs.get_or_create(&labels).inc_by(0);
        }
        self.drift_repairs.get_or_create(&family.into()).inc_by(0);
        for counter in self.failure_counters(failures, false) {
            counter.get_or_create(&family.into()).inc_by(0);
        }
    }

    /// A sync was asked for, at this time since the epoch.
    pub fn queued(&self, family: IpFamily, at: Duration) {
        self.last_queued.get_or_create(&family.into()).set(at.as_secs_f64());
    }

    /// A sync of this length ended, whether it worked or not.
    pub fn synced(&self, family: IpFamily, full: bool, took: Duration) {
        let seconds = took.as_secs_f64();
        let kind = if full { &self.full_duration } else { &self.partial_duration };
        self.duration.get_or_create(&family.into()).observe(seconds);
        kind.get_or_create(&family.into()).observe(seconds);
    }

    /// A sync ended well, at this time since the epoch.
    pub fn succeeded(
        &self,
        reports_rules: bool,
        family: IpFamily,
        report: &SyncReport,
        at: Duration,
    ) {
        self.last.get_or_create(&family.into()).set(at.as_secs_f64());
        // The metrics are about rules of iptables tables; other modes count other things, which are in the log.
        let counts = report.counts.iter().filter(|_| reports_rules);
        for count in counts {
            let labels =
                TableLabels { table: count.kind.to_owned(), ip_family: family.to_string() };
            self.rules_total.get_or_create(&labels).set(gauge(count.total));
            self.rules_last.get_or_create(&labels).set(gauge(count.written));
        }
        self.set_failing(family, None);
    }

    fn set_failing(&self, family: IpFamily, error: Option<&SyncError>) {
        let now = error.map(SyncError::reason);
        for reason in SyncError::REASONS {
            let labels = FailingLabels { ip_family: family.to_string(), reason: reason.to_owned() };
            self.failing.get_or_create(&labels).set(i64::from(now == Some(reason)));
        }
    }

    /// A sync followed one that was refused, and went this deep.
    pub fn repaired(&self, family: IpFamily, level: RepairLevel) {
        let labels = RepairLabels { level: level.name(), ip_family: family.to_string() };
        self.repairs.get_or_create(&labels).inc();
    }

    /// A check found rules that others had changed or removed.
    pub fn drifted(&self, family: IpFamily) {
        self.drift_repairs.get_or_create(&family.into()).inc();
    }

    /// A sync failed.
    pub fn failed(
        &self,
        failures: FailureMetrics,
        family: IpFamily,
        full: bool,
        error: &SyncError,
    ) {
        self.set_failing(family, Some(error));
        for counter in self.failure_counters(failures, full) {
            counter.get_or_create(&family.into()).inc();
        }
    }

    /// The counters that a failed sync raises.
    fn failure_counters(
        &self,
        failures: FailureMetrics,
        full: bool,
    ) -> Vec<&Family<FamilyLabel, Counter>> {
        match failures {
            FailureMetrics::Restores { partial } if partial && !full => {
                vec![&self.restore_failures, &self.partial_restore_failures]
            }
            FailureMetrics::Restores { .. } => vec![&self.restore_failures],
            FailureMetrics::Nftables => vec![&self.nftables_failures],
            FailureMetrics::None => Vec::new(),
        }
    }

    /// An endpoint change reached the node this long after it happened.
    pub fn programmed(&self, family: IpFamily, after: Duration) {
        self.network_programming.get_or_create(&family.into()).observe(after.as_secs_f64());
    }
}
