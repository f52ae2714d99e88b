use std::time::Duration;

use expect_test::expect;
use kube_proxy_core::{IpFamily, ObjectCount, SyncError, SyncReport};

use super::Metrics;
use super::text::plain;
use crate::telemetry::metrics::{Counters, FailureMetrics, ModeMetrics};

#[test]
fn the_plain_format_names_counters_by_their_samples() {
    let text = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total 1\n# UNIT c seconds\n# TYPE c gauge\nc 2\n# EOF\n";
    assert_eq!(
        plain(text),
        "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total 1\n# TYPE c gauge\nc 2\n"
    );
}

#[test]
fn names_are_those_of_the_go_version() {
    let metrics = Metrics::new();
    let report = SyncReport {
        counts: vec![ObjectCount { kind: "nat", written: 3, total: 10 }],
        ..SyncReport::default()
    };
    metrics.sync.queued(IpFamily::V4, Duration::from_secs(1));
    metrics.sync.synced(IpFamily::V4, true, Duration::from_millis(5));
    metrics.sync.succeeded(true, IpFamily::V4, &report, Duration::from_secs(2));
    let error = SyncError::Busy(String::new());
    metrics.sync.failed(FailureMetrics::Restores { partial: true }, IpFamily::V4, false, &error);
    metrics.sync.failed(FailureMetrics::Nftables, IpFamily::V4, false, &error);
    metrics.sync.programmed(IpFamily::V4, Duration::from_secs(2));
    metrics.conntrack.checked(IpFamily::V4, Duration::from_millis(1), 7);
    metrics.service_ports.contested_frontends(IpFamily::V4, 1);
    metrics.service_ports.refused(IpFamily::V4, 0);
    metrics.health.healthz_answered(200);
    metrics.health.livez_answered(503);
    let text = metrics.render(false);
    let samples: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("kubeproxy_") && !line.contains("_bucket"))
        .filter(|line| !(line.contains("_sum") || line.contains("failing") && line.ends_with(" 0")))
        .collect();
    expect![[r#"
        kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 2.0
        kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.0
        kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_iptables_total{table="nat",ip_family="IPv4"} 10
        kubeproxy_sync_proxy_rules_iptables_last{table="nat",ip_family="IPv4"} 3
        kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1
        kubeproxy_sync_failing{ip_family="IPv4",reason="busy"} 1
        kubeproxy_sync_proxy_rules_endpoint_changes_pending 0
        kubeproxy_sync_proxy_rules_endpoint_changes_total 0
        kubeproxy_sync_proxy_rules_service_changes_pending 0
        kubeproxy_sync_proxy_rules_service_changes_total 0
        kubeproxy_refused_service_ports{ip_family="IPv4"} 0
        kubeproxy_contested_frontends{ip_family="IPv4"} 1
        kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 7
        kubeproxy_proxy_healthz_total{code="200"} 1
        kubeproxy_proxy_livez_total{code="503"} 1
    "#]]
    .assert_eq(&(samples.join("\n") + "\n"));
    let buckets =
        |name: &str| text.lines().filter(|l| l.contains(&format!("{name}_bucket"))).count();
    assert_eq!(buckets("sync_proxy_rules_duration_seconds"), 15 + 1);
    assert_eq!(buckets("network_programming_duration_seconds"), 2 + 59 + 12 + 7 + 1);
}

#[test]
fn the_reason_of_a_failing_sync_is_one_of_four() {
    let metrics = Metrics::new();
    let failing = |reason: &str| {
        let name = format!("kubeproxy_sync_failing{{ip_family=\"IPv6\",reason=\"{reason}\"}} 1\n");
        metrics.render(false).contains(&name)
    };
    let mode = ModeMetrics {
        failures: FailureMetrics::Nftables,
        reports_rules: false,
        counters: Counters::RefusedOnLoopback,
    };
    metrics.start(mode, &[IpFamily::V6]);
    let source = std::io::Error::other("x");
    for (error, reason) in [
        (SyncError::Unsupported(String::new()), "unsupported"),
        (SyncError::Busy(String::new()), "busy"),
        (SyncError::Refused(String::new()), "refused"),
        (SyncError::Io { what: String::new(), source }, "io"),
    ] {
        metrics.sync.failed(FailureMetrics::Nftables, IpFamily::V6, true, &error);
        assert_eq!(SyncError::REASONS.iter().filter(|other| failing(other)).count(), 1, "{reason}");
        assert!(failing(reason), "{}", metrics.render(false));
    }
    metrics.sync.succeeded(false, IpFamily::V6, &SyncReport::default(), Duration::ZERO);
    assert!(!SyncError::REASONS.iter().any(|reason| failing(reason)));
}
