//! `docs/metrics.md`: every metric, as it is exposed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use expect_test::expect_file;
use kube_proxy::modes;
use kube_proxy::telemetry::metrics::{Frontends, Metrics};
use kube_proxy_config::{FeatureGates, Mode};
use kube_proxy_core::{
    IpFamily, ObjectCount, ObjectName, Protocol, Refused, RefusedReason, ServicePortName,
    SyncReport, Traffic, TrafficBytes,
};
use kube_proxy_iptables::PacketCounts;
use kube_proxy_source::kubernetes::Answered;

/// Those of the Go version: name without prefix, type, labels.
const UPSTREAM: &[(&str, &str, &str)] = &[
    ("conntrack_reconciler_deleted_entries_total", "counter", "ip_family"),
    ("conntrack_reconciler_sync_duration_seconds", "histogram", "ip_family"),
    ("iptables_ct_state_invalid_dropped_packets_total", "counter", ""),
    ("iptables_localhost_nodeports_accepted_packets_total", "counter", ""),
    ("network_programming_duration_seconds", "histogram", "ip_family"),
    ("nftables_localhost_nodeport_listener_creation_failures_total", "counter", "ip_family"),
    ("nftables_localhost_nodeport_listeners", "gauge", "ip_family"),
    ("nftables_localhost_nodeport_rejected_packets_total", "counter", "ip_family, protocol"),
    ("proxy_healthz_total", "counter", "code"),
    ("proxy_livez_total", "counter", "code"),
    ("sync_full_proxy_rules_duration_seconds", "histogram", "ip_family"),
    ("sync_partial_proxy_rules_duration_seconds", "histogram", "ip_family"),
    ("sync_proxy_rules_duration_seconds", "histogram", "ip_family"),
    ("sync_proxy_rules_endpoint_changes_pending", "gauge", ""),
    ("sync_proxy_rules_endpoint_changes_total", "counter", ""),
    ("sync_proxy_rules_iptables_last", "gauge", "ip_family, table"),
    ("sync_proxy_rules_iptables_partial_restore_failures_total", "counter", "ip_family"),
    ("sync_proxy_rules_iptables_restore_failures_total", "counter", "ip_family"),
    ("sync_proxy_rules_iptables_total", "gauge", "ip_family, table"),
    ("sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "ip_family"),
    ("sync_proxy_rules_last_timestamp_seconds", "gauge", "ip_family"),
    ("sync_proxy_rules_nftables_sync_failures_total", "counter", "ip_family"),
    ("sync_proxy_rules_no_local_endpoints_total", "gauge", "ip_family, traffic_policy"),
    ("sync_proxy_rules_service_changes_pending", "gauge", ""),
    ("sync_proxy_rules_service_changes_total", "counter", ""),
];

const ABSENT: &str = "\n## Absent\n\n\
    | metric of the Go version | why |\n|---|---|\n\
    | `kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total` | removing stale chains is part of a sync and counts as its failure |\n\
    | `go_*` | there is no Go runtime |\n\
    | `registered_metrics_total`, `hidden_metrics_total`, `disabled_metrics_total` | they describe the metrics library of the Go version |\n";

/// What the kernel says about its table, for all tests of this program.
static CONNTRACK_TABLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conntrack");
    std::fs::create_dir_all(&directory).unwrap();
    for (file, value) in [("nf_conntrack_count", "17\n"), ("nf_conntrack_max", "262144\n")] {
        std::fs::write(directory.join(file), value).unwrap();
    }
    directory
});

/// Everything counted once.
fn filled() -> Metrics {
    let metrics = Metrics::counting_traffic(1);
    let counts = vec![ObjectCount { kind: "nat", written: 1, total: 1 }];
    let report = SyncReport { counts, ..SyncReport::default() };
    let (family, time) = (IpFamily::V4, Duration::from_secs(1));
    metrics.sync.queued(family, time);
    for full in [true, false] {
        metrics.sync.synced(family, full, time);
    }
    metrics.sync.succeeded(true, family, &report, time);
    for mode in Mode::ALL {
        metrics.start(modes::entry(mode).metrics, &[family]);
    }
    metrics.sync.drifted(family);
    metrics.sync.programmed(family, time);
    metrics.service_ports.no_local_endpoints(family, Frontends::Internal, 1);
    metrics.service_ports.contested_frontends(family, 1);
    metrics.service_ports.refused(family, 0);
    metrics.service_ports.lacking_algorithm(family, 0);
    metrics.service_ports.without_fast_path(family, 0);
    metrics.conntrack.checked(family, time, 1);
    metrics.conntrack.began_early(family, 1);
    metrics.conntrack.ended_dead(family, 1);
    metrics.conntrack.read_table(&*CONNTRACK_TABLE);
    metrics.health.healthz_answered(200);
    metrics.health.livez_answered(200);
    metrics.objects.invalid("Service", 1);
    metrics.component.set_gates(&FeatureGates::default());
    metrics.component.set_silence(|| Duration::ZERO);
    let answered = Answered { host: "a:1", method: "GET", code: Some(200), took: time };
    metrics.component.requested(&answered);
    let packets = PacketCounts { invalid_dropped: Some(1), localhost_accepted: Some(1) };
    metrics.packets_counted(packets);
    // The first reading says where counting starts.
    for read in [Vec::new(), traffic()] {
        metrics.traffic().update(family, read);
    }
    for attempts in [0, 1] {
        let service = traffic().remove(0).service;
        let refused = Refused { service, reason: RefusedReason::NoEndpoints, attempts };
        metrics.traffic().update_refused(family, vec![refused]);
    }
    metrics
}

/// Of a service port and of its endpoint.
fn traffic() -> Vec<Traffic> {
    let service = ServicePortName {
        service: ObjectName::new("shop", "web"),
        port: "http".into(),
        protocol: Protocol::Tcp,
    };
    let bytes = Some(TrafficBytes { sent: 1, received: 1 });
    let whole = Traffic { service, endpoint: None, connections: 1, bytes };
    let endpoint = Some(([10, 0, 0, 1], 80).into());
    vec![Traffic { endpoint, ..whole.clone() }, whole]
}

/// One metric, read back from the exposition.
#[derive(Debug, Default)]
struct Exposed {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    buckets: Vec<String>,
}

fn exposed(text: &str) -> BTreeMap<String, Exposed> {
    let mut all: BTreeMap<String, Exposed> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            help.clone_into(&mut all.entry(name.to_owned()).or_default().help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            kind.clone_into(&mut all.entry(name.to_owned()).or_default().kind);
        } else {
            let (sample, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let known = all.contains_key(name);
            let name = if known { name } else { stem.unwrap_or(name) };
            let metric = all.get_mut(name).unwrap_or_else(|| panic!("no type: {line}"));
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty())
            {
                let (key, value) = label.split_once('=').unwrap();
                if key == "le" {
                    metric.buckets.push(value.trim_matches('"').to_owned());
                } else {
                    metric.labels.insert(key.to_owned());
                }
            }
        }
    }
    all
}

fn labels(metric: &Exposed) -> String {
    metric.labels.iter().cloned().collect::<Vec<_>>().join(", ")
}

#[test]
fn the_metrics_of_the_go_version_are_exposed() {
    let all = exposed(&filled().render(false));
    for (name, kind, expected) in UPSTREAM {
        let metric = all.get(&format!("kubeproxy_{name}"));
        let metric = metric.unwrap_or_else(|| panic!("{name} is not exposed"));
        assert_eq!((metric.kind.as_str(), labels(metric).as_str()), (*kind, *expected), "{name}");
    }
    let sync: Vec<f64> = all["kubeproxy_sync_proxy_rules_duration_seconds"]
        .buckets
        .iter()
        .filter_map(|bucket| bucket.parse().ok())
        .filter(|bucket: &f64| bucket.is_finite())
        .collect();
    assert_eq!(sync.len(), 15);
    assert!((sync[0] - 0.001).abs() < 1e-9 && (sync[14] - 16.384).abs() < 1e-9, "{sync:?}");
}

#[test]
fn the_conntrack_table_is_read_when_it_is_asked_for() {
    let text = filled().render(false);
    assert!(text.contains("\nkubeproxy_conntrack_entries 17\n"), "{text}");
    assert!(text.contains("\nkubeproxy_conntrack_entries_limit 262144\n"), "{text}");
    let metrics = Metrics::new();
    assert!(!metrics.render(false).contains("kubeproxy_conntrack_entries"), "without a directory");
    metrics.conntrack.read_table("/no such directory");
    assert!(!metrics.render(false).contains("kubeproxy_conntrack_entries"), "without files");
}

#[test]
fn the_page_of_metrics_is_up_to_date() {
    let mut page = "# Metrics\n\n\
        Every metric of `/metrics`, as it is exposed; those of `/metrics/slis` are `kubernetes_healthcheck` and `kubernetes_healthchecks_total`.\n\
        A metric with labels appears with its first value.\n\
        Metrics with `iptables` or `nftables` in their names appear in these modes, restore failures also in ipvs mode.\n\
        Those of packets in iptables mode come from [objects in the kernel](iptables.md#counted-packets) and count on when kube-proxy starts again.\n\
        Those of the traffic of service ports appear in nftables, ipvs and userspace mode, with bytes and endpoints in the latter two, and refused connections in the first; `--service-metrics-limit` says for how many.\n\
        This page is made from the program; see `crates/kube-proxy/tests/reference`.\n\n\
        | metric | type | labels | buckets | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for (name, metric) in exposed(&filled().render(false)) {
        let buckets = match metric.buckets.as_slice() {
            [] => String::new(),
            [first, .., last, _] => format!("{}, {first} to {last} s", metric.buckets.len() - 1),
            few => few.join(", "),
        };
        let (kind, help) = (&metric.kind, metric.help.replace('<', "&lt;"));
        writeln!(page, "| `{name}` | {kind} | {} | {buckets} | {help} |", labels(&metric)).unwrap();
    }
    page += ABSENT;
    expect_file!["../../../../docs/metrics.md"].assert_eq(&page);
}
