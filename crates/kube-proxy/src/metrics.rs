//! Metrics, by the names of the Go kube-proxy.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kube_proxy_core::{IpFamily, PerFamily, ServiceEntry, SyncReport, TrafficPolicy};
use kube_proxy_iptables::PacketCounts;
use kube_proxy_userspace::Observer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::config::Mode;
use crate::traffic::TrafficTotals;

mod component;
mod packets;
mod process;
mod slis;

pub use component::Component;
pub use slis::Slis;

mod userspace;

use packets::Packets;

/// Seconds, fractions included.
type Seconds = Gauge<f64, AtomicU64>;
type PerFamilyHistogram = Family<FamilyLabel, Histogram, fn() -> Histogram>;

/// Label `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FamilyLabel {
    ip_family: String,
}

impl From<IpFamily> for FamilyLabel {
    fn from(family: IpFamily) -> Self {
        Self { ip_family: family.to_string() }
    }
}

/// Labels `table` and `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    table: String,
    ip_family: String,
}

/// Labels `traffic_policy` and `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    traffic_policy: String,
    ip_family: String,
}

/// Label `code`: the HTTP status that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

/// Label `kind`: the kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

/// All metrics. Setting one is cheap and works from any thread.
#[derive(Debug)]
pub struct Metrics {
    /// Those that every Kubernetes component has.
    pub component: Component,
    /// Those of `/metrics/slis`.
    pub slis: Slis,
    registry: Registry,
    sync_duration: PerFamilyHistogram,
    full_sync_duration: PerFamilyHistogram,
    partial_sync_duration: PerFamilyHistogram,
    last_sync: Family<FamilyLabel, Seconds>,
    last_queued: Family<FamilyLabel, Seconds>,
    network_programming: PerFamilyHistogram,
    endpoint_changes_pending: Gauge,
    endpoint_changes: Counter,
    service_changes_pending: Gauge,
    service_changes: Counter,
    no_local_endpoints: Family<PolicyLabels, Gauge>,
    rules_total: Family<TableLabels, Gauge>,
    rules_last: Family<TableLabels, Gauge>,
    restore_failures: Family<FamilyLabel, Counter>,
    partial_restore_failures: Family<FamilyLabel, Counter>,
    nftables_failures: Family<FamilyLabel, Counter>,
    conntrack_duration: PerFamilyHistogram,
    conntrack_deleted: Family<FamilyLabel, Counter>,
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
    invalid_objects: Family<KindLabel, Gauge>,
    refused: Family<FamilyLabel, Gauge>,
    traffic: Arc<TrafficTotals>,
    packets: Packets,
    /// What the userspace mode does, asked for when the metrics are.
    observers: PerFamily<Observer>,
}

/// 1 ms, 2 ms, 4 ms … 16 s.
fn sync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 0.25, 0.5, 1 to 59 by 1, 60 to 115 by 5, 120 to 300 by 30 seconds.
fn network_programming_buckets() -> Histogram {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, and none about traffic.
    pub fn new() -> Self {
        Self::counting_traffic(0)
    }

    /// All metrics at zero, with the traffic of so many service ports of each family.
    pub fn counting_traffic(limit: usize) -> Self {
        let histograms = || PerFamilyHistogram::new_with_constructor(sync_buckets);
        let mut metrics = Self {
            component: Component::new(),
            slis: Slis::new(),
            registry: Registry::default(),
            sync_duration: histograms(),
            full_sync_duration: histograms(),
            partial_sync_duration: histograms(),
            last_sync: Family::default(),
            last_queued: Family::default(),
            network_programming: PerFamilyHistogram::new_with_constructor(
                network_programming_buckets,
            ),
            endpoint_changes_pending: Gauge::default(),
            endpoint_changes: Counter::default(),
            service_changes_pending: Gauge::default(),
            service_changes: Counter::default(),
            no_local_endpoints: Family::default(),
            rules_total: Family::default(),
            rules_last: Family::default(),
            restore_failures: Family::default(),
            partial_restore_failures: Family::default(),
            nftables_failures: Family::default(),
            conntrack_duration: histograms(),
            conntrack_deleted: Family::default(),
            healthz: Family::default(),
            livez: Family::default(),
            invalid_objects: Family::default(),
            refused: Family::default(),
            traffic: Arc::new(TrafficTotals::new(limit)),
            packets: Packets::default(),
            observers: PerFamily::default(),
        };
        metrics.register();
        metrics
    }

    /// Names and help. The encoder adds `_total` to counters.
    #[rustfmt::skip]
    fn register(&mut self) {
        self.component.register(&mut self.registry);
        let r = self.registry.sub_registry_with_prefix("kubeproxy");
        r.register("sync_proxy_rules_duration_seconds", "Time one sync took", self.sync_duration.clone());
        r.register("sync_full_proxy_rules_duration_seconds", "Time one full sync took", self.full_sync_duration.clone());
        r.register("sync_partial_proxy_rules_duration_seconds", "Time one partial sync took", self.partial_sync_duration.clone());
        r.register("sync_proxy_rules_last_timestamp_seconds", "When the last successful sync ended", self.last_sync.clone());
        r.register("sync_proxy_rules_last_queued_timestamp_seconds", "When a sync was last asked for", self.last_queued.clone());
        r.register("network_programming_duration_seconds", "Time from a change of endpoints to its rules being on this node", self.network_programming.clone());
        r.register("sync_proxy_rules_endpoint_changes_pending", "EndpointSlice changes not yet synced", self.endpoint_changes_pending.clone());
        r.register("sync_proxy_rules_endpoint_changes", "EndpointSlice changes", self.endpoint_changes.clone());
        r.register("sync_proxy_rules_service_changes_pending", "Service changes not yet synced", self.service_changes_pending.clone());
        r.register("sync_proxy_rules_service_changes", "Service changes", self.service_changes.clone());
        r.register("sync_proxy_rules_no_local_endpoints_total", "Service ports with a Local traffic policy and no local endpoint", self.no_local_endpoints.clone());
        r.register("sync_proxy_rules_iptables_total", "iptables rules on the node", self.rules_total.clone());
        r.register("sync_proxy_rules_iptables_last", "iptables rules written by the last sync", self.rules_last.clone());
        r.register("sync_proxy_rules_iptables_restore_failures", "Failed runs of iptables-restore", self.restore_failures.clone());
        r.register("sync_proxy_rules_iptables_partial_restore_failures", "Failed runs of iptables-restore in partial syncs", self.partial_restore_failures.clone());
        r.register("sync_proxy_rules_nftables_sync_failures", "Failed nftables syncs", self.nftables_failures.clone());
        r.register("conntrack_reconciler_sync_duration_seconds", "Time one check of the UDP flows took", self.conntrack_duration.clone());
        r.register("conntrack_reconciler_deleted_entries", "Stale UDP flows deleted", self.conntrack_deleted.clone());
        r.register("proxy_healthz", "Answers of /healthz by status code", self.healthz.clone());
        r.register("proxy_livez", "Answers of /livez by status code", self.livez.clone());
        r.register("refused_service_ports", "Service ports that the kernel refused and that are not on this node (see the log)", self.refused.clone());
        r.register_collector(Box::new(userspace::Activities(self.observers.clone())));
        r.register("invalid_objects", "Objects with a field that could not be used (see the log)", self.invalid_objects.clone());
        r.register_collector(Box::new(self.traffic.clone()));
        r.register_collector(Box::new(self.packets.clone()));
    }

    /// Where the traffic of service ports is counted.
    pub fn traffic(&self) -> &TrafficTotals {
        &self.traffic
    }

    /// Who sees what is copied by this process for a family.
    pub fn observer(&self, family: IpFamily) -> &Observer {
        self.observers.get(family)
    }

    /// The exposition text: `OpenMetrics` if asked for, else the older format that every scraper reads.
    pub fn render(&self, open_metrics: bool) -> String {
        text(&self.registry, open_metrics)
    }

    /// Lets the counters of failures begin at zero, so that a first failure shows as an increase.
    pub fn start(&self, mode: Mode, families: &[IpFamily]) {
        for family in families.iter().map(|family| FamilyLabel::from(*family)) {
            self.conntrack_deleted.get_or_create(&family).inc_by(0);
            match mode {
                Mode::Iptables => {
                    self.restore_failures.get_or_create(&family).inc_by(0);
                    self.partial_restore_failures.get_or_create(&family).inc_by(0);
                }
                Mode::Ipvs => {
                    self.restore_failures.get_or_create(&family).inc_by(0);
                }
                Mode::Nftables => {
                    self.nftables_failures.get_or_create(&family).inc_by(0);
                }
                Mode::Userspace => {}
            }
        }
    }
}

fn text(registry: &Registry, open_metrics: bool) -> String {
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        // Writing into a string does not fail.
        text.clear();
    }
    if open_metrics { text } else { plain(&text) }
}

/// Turns `OpenMetrics` text into the Prometheus text format 0.0.4: there, the comments of a counter carry the name of its sample.
fn plain(open_metrics: &str) -> String {
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let (keyword, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((keyword, name, rest))
        });
        let written = match comment {
            Some((keyword @ ("HELP" | "TYPE"), name, rest)) if counters.contains(&name) => {
                writeln!(text, "# {keyword} {name}_total {rest}")
            }
            _ if line == "# EOF" || line.starts_with("# UNIT") => Ok(()),
            _ => writeln!(text, "{line}"),
        };
        written.expect("writing into a string does not fail");
    }
    text
}

/// What one family did, for the metrics.
impl Metrics {
    /// A sync was asked for, at this time since the epoch.
    pub fn queued(&self, family: IpFamily, at: Duration) {
        self.last_queued.get_or_create(&family.into()).set(at.as_secs_f64());
    }

    /// A sync of this length ended, whether it worked or not.
    pub fn synced(&self, family: IpFamily, full: bool, took: Duration) {
        let seconds = took.as_secs_f64();
        let kind = if full { &self.full_sync_duration } else { &self.partial_sync_duration };
        self.sync_duration.get_or_create(&family.into()).observe(seconds);
        kind.get_or_create(&family.into()).observe(seconds);
    }

    /// A sync ended well, at this time since the epoch.
    pub fn succeeded(&self, mode: Mode, family: IpFamily, report: &SyncReport, at: Duration) {
        self.last_sync.get_or_create(&family.into()).set(at.as_secs_f64());
        // The metrics are about rules of iptables tables; other modes count other things, which are in the log.
        let counts = report.counts.iter().filter(|_| mode == Mode::Iptables);
        for count in counts {
            let labels =
                TableLabels { table: count.kind.to_owned(), ip_family: family.to_string() };
            self.rules_total.get_or_create(&labels).set(gauge(count.total));
            self.rules_last.get_or_create(&labels).set(gauge(count.written));
        }
        self.refused.get_or_create(&family.into()).set(gauge(report.refused));
    }

    /// A sync failed.
    pub fn failed(&self, mode: Mode, family: IpFamily, full: bool) {
        if mode == Mode::Nftables {
            self.nftables_failures.get_or_create(&family.into()).inc();
            return;
        }
        self.restore_failures.get_or_create(&family.into()).inc();
        if !full {
            self.partial_restore_failures.get_or_create(&family.into()).inc();
        }
    }

    /// An endpoint change reached the node this long after it happened.
    pub fn programmed(&self, family: IpFamily, after: Duration) {
        self.network_programming.get_or_create(&family.into()).observe(after.as_secs_f64());
    }

    /// New changes were seen, and so many wait.
    pub fn changes(&self, services: Changes, endpoints: Changes) {
        self.service_changes.inc_by(services.new);
        self.service_changes_pending.inc_by(services.pending);
        self.endpoint_changes.inc_by(endpoints.new);
        self.endpoint_changes_pending.inc_by(endpoints.pending);
    }

    /// So many service ports have a `Local` policy and no local endpoint.
    pub fn no_local_endpoints(&self, family: IpFamily, policy: Frontends, count: usize) {
        let traffic_policy = match policy {
            Frontends::Internal => "internal",
            Frontends::External => "external",
        };
        let labels = PolicyLabels {
            traffic_policy: traffic_policy.to_owned(),
            ip_family: family.to_string(),
        };
        self.no_local_endpoints.get_or_create(&labels).set(gauge(count));
    }

    /// The UDP flows were checked.
    pub fn flows_checked(&self, family: IpFamily, took: Duration, deleted: u64) {
        self.conntrack_duration.get_or_create(&family.into()).observe(took.as_secs_f64());
        self.conntrack_deleted.get_or_create(&family.into()).inc_by(deleted);
    }

    /// Reads how many packets were counted by rules of the iptables mode.
    pub async fn read_packets(&self) {
        self.packets.read().await;
    }

    /// So many packets were counted by rules, of both families.
    pub fn packets_counted(&self, counts: PacketCounts) {
        self.packets.set(counts);
    }

    /// `/healthz` answered.
    pub fn healthz_answered(&self, code: u16) {
        self.healthz.get_or_create(&CodeLabel { code: code.to_string() }).inc();
    }

    /// `/livez` answered.
    pub fn livez_answered(&self, code: u16) {
        self.livez.get_or_create(&CodeLabel { code: code.to_string() }).inc();
    }

    /// So many objects of a kind have a problem.
    pub fn invalid_objects(&self, kind: &str, count: u64) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.invalid_objects.get_or_create(&KindLabel { kind: kind.to_owned() }).set(count);
    }
}

/// Changes of one kind of object since they were last reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// How many more were seen.
    pub new: u64,
    /// How many more wait; negative if fewer.
    pub pending: i64,
}

/// Which frontends a traffic policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontends {
    /// The cluster IP.
    Internal,
    /// All others.
    External,
}

impl Frontends {
    /// Whether these frontends of a service port are restricted to local endpoints and there is none, though there are some elsewhere.
    pub fn lack_local_endpoints(self, entry: &ServiceEntry) -> bool {
        let policy = match self {
            Self::Internal => entry.port.internal_traffic_policy,
            Self::External => entry.port.external_traffic_policy,
        };
        policy == TrafficPolicy::Local && entry.choice.local.is_empty() && entry.choice.has_any
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
