use std::time::Duration;

use expect_test::expect;
use kube_proxy_core::{Count, IpFamily, SyncReport};

use super::{Metrics, plain};
use crate::config::Mode;

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
    let report =
        SyncReport { counts: vec![Count { kind: "nat", written: 3, total: 10 }], refused: 0 };
    metrics.queued(IpFamily::V4, Duration::from_secs(1));
    metrics.synced(IpFamily::V4, true, Duration::from_millis(5));
    metrics.succeeded(Mode::Iptables, IpFamily::V4, &report, Duration::from_secs(2));
    metrics.failed(Mode::Iptables, IpFamily::V4, false);
    metrics.failed(Mode::Nftables, IpFamily::V4, false);
    metrics.programmed(IpFamily::V4, Duration::from_secs(2));
    metrics.flows_checked(IpFamily::V4, Duration::from_millis(1), 7);
    metrics.healthz_answered(200);
    metrics.livez_answered(503);
    let text = metrics.render(false);
    let samples: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("kubeproxy_") && !line.contains("_bucket"))
        .filter(|line| !line.contains("_sum"))
        .collect();
    expect![[r#"
        kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 2.0
        kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1.0
        kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_endpoint_changes_pending 0
        kubeproxy_sync_proxy_rules_endpoint_changes_total 0
        kubeproxy_sync_proxy_rules_service_changes_pending 0
        kubeproxy_sync_proxy_rules_service_changes_total 0
        kubeproxy_sync_proxy_rules_iptables_total{table="nat",ip_family="IPv4"} 10
        kubeproxy_sync_proxy_rules_iptables_last{table="nat",ip_family="IPv4"} 3
        kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1
        kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family="IPv4"} 1
        kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1
        kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 7
        kubeproxy_proxy_healthz_total{code="200"} 1
        kubeproxy_proxy_livez_total{code="503"} 1
        kubeproxy_refused_service_ports{ip_family="IPv4"} 0
    "#]]
    .assert_eq(&(samples.join("\n") + "\n"));
    let buckets =
        |name: &str| text.lines().filter(|l| l.contains(&format!("{name}_bucket"))).count();
    assert_eq!(buckets("sync_proxy_rules_duration_seconds"), 15 + 1);
    assert_eq!(buckets("network_programming_duration_seconds"), 2 + 59 + 12 + 7 + 1);
}
