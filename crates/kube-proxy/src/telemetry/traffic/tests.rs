use expect_test::{Expect, expect};
use kube_proxy_core::{
    IpFamily, ObjectName, Protocol, Refused, RefusedReason, ServicePortName, Traffic, TrafficBytes,
};
use proptest::prelude::*;

use super::{Counted, Ledger, Numbers, TrafficTotals};
use crate::telemetry::metrics::Metrics;

fn service(name: &str) -> ServicePortName {
    ServicePortName {
        service: ObjectName::new("shop", name),
        port: "http".into(),
        protocol: Protocol::Tcp,
    }
}

fn connections(name: &str, connections: u64) -> Traffic {
    Traffic { service: service(name), endpoint: None, connections, bytes: None }
}

/// The samples of the totals of service ports after some readings of IPv4.
fn check(limit: usize, readings: &[&[Traffic]], expected: &Expect) {
    let metrics = Metrics::counting_traffic(limit);
    for reading in readings {
        metrics.traffic().update(IpFamily::V4, reading.to_vec());
    }
    let text = metrics.render(false);
    let of_traffic = |line: &&str| {
        ["kubeproxy_service_", "kubeproxy_endpoint_"].iter().any(|start| line.starts_with(start))
    };
    let samples: Vec<_> = text.lines().filter(of_traffic).collect();
    expected.assert_eq(&samples.join("\n"));
}

#[test]
fn what_was_counted_before_the_first_reading_is_not_ours() {
    check(
        9,
        &[&[connections("web", 40)], &[connections("new", 3), connections("web", 42)]],
        &expect![[r#"
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="new",port="http",protocol="TCP"} 3
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP"} 2"#]],
    );
}

#[test]
fn a_counter_that_starts_anew_adds_what_it_rises_by() {
    let readings: [&[_]; 5] = [
        &[],
        &[connections("web", 10)],
        &[connections("web", 2)],
        &[connections("web", 5)],
        &[connections("web", 5)],
    ];
    check(
        9,
        &readings,
        &expect![[r#"
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP"} 13"#]],
    );
}

#[test]
fn series_of_service_ports_that_went_go_too() {
    check(9, &[&[], &[connections("web", 10)], &[]], &expect![[""]]);
}

#[test]
fn bytes_and_endpoints_have_metrics_of_their_own() {
    let bytes = |sent, received| Some(TrafficBytes { sent, received });
    let whole = Traffic { bytes: bytes(100, 2000), ..connections("web", 3) };
    let endpoint = Some("[fd00::1]:80".parse().unwrap());
    let part = Traffic { endpoint, bytes: bytes(40, 900), ..connections("web", 1) };
    check(
        9,
        &[&[], &[whole, part]],
        &expect![[r#"
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP"} 3
            kubeproxy_service_sent_bytes_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP"} 100
            kubeproxy_service_received_bytes_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP"} 2000
            kubeproxy_endpoint_connections_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP",endpoint="[fd00::1]:80"} 1
            kubeproxy_endpoint_sent_bytes_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP",endpoint="[fd00::1]:80"} 40
            kubeproxy_endpoint_received_bytes_total{ip_family="IPv4",namespace="shop",service="web",port="http",protocol="TCP",endpoint="[fd00::1]:80"} 900"#]],
    );
}

#[test]
fn beyond_the_limit_who_has_traffic_goes_first_and_the_rest_is_one_sum() {
    let readings: [&[_]; 3] = [
        // Both places are taken by the first names.
        &[connections("a", 0), connections("b", 0), connections("c", 0)],
        // `c` takes the place of one that never had a connection.
        &[connections("a", 1), connections("b", 0), connections("c", 7)],
        // `b` comes too late.
        &[connections("a", 1), connections("b", 4), connections("c", 7), connections("d", 2)],
    ];
    check(
        2,
        &readings,
        &expect![[r#"
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="a",port="http",protocol="TCP"} 1
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="shop",service="c",port="http",protocol="TCP"} 7
            kubeproxy_service_connections_total{ip_family="IPv4",namespace="(others)",service="(others)",port="",protocol=""} 6"#]],
    );
}

fn refused(name: &str, reason: RefusedReason, attempts: u64) -> Refused {
    Refused { service: service(name), reason, attempts }
}

#[test]
fn refused_attempts_are_bounded_by_reason() {
    use RefusedReason::{NoEndpoints, SourceRanges};
    let metrics = Metrics::counting_traffic(1);
    let totals = metrics.traffic();
    let readings = [
        // What an earlier process let the kernel count.
        vec![refused("a", NoEndpoints, 40)],
        vec![
            refused("a", NoEndpoints, 42),
            refused("b", NoEndpoints, 3),
            refused("c", NoEndpoints, 4),
            refused("b", SourceRanges, 5),
        ],
    ];
    for reading in readings {
        totals.update_refused(IpFamily::V6, reading);
    }
    let text = metrics.render(false);
    let samples: Vec<_> =
        text.lines().filter(|line| line.starts_with("kubeproxy_service_refused")).collect();
    expect![[r#"
        kubeproxy_service_refused_connections_total{ip_family="IPv6",namespace="shop",service="a",port="http",protocol="TCP",reason="no-endpoints"} 2
        kubeproxy_service_refused_connections_total{ip_family="IPv6",namespace="(others)",service="(others)",port="",protocol="",reason="no-endpoints"} 7
        kubeproxy_service_refused_connections_total{ip_family="IPv6",namespace="shop",service="b",port="http",protocol="TCP",reason="source-ranges"} 5"#]]
    .assert_eq(&samples.join("\n"));
    let of = |name| totals.of(IpFamily::V6, &service(name));
    let counted = |refused: &[_]| Counted { connections: None, refused: refused.to_vec() };
    assert_eq!(of("a"), counted(&[(NoEndpoints, 2)]));
    assert_eq!(of("b"), counted(&[(SourceRanges, 5)]));
    assert_eq!(of("c"), Counted::default());
}

#[test]
fn nothing_is_counted_unless_asked_for() {
    assert!(!TrafficTotals::new(0).is_on());
    assert!(TrafficTotals::new(1).is_on());
}

proptest! {
    /// Whatever the counters do: no total falls while its service port is there, the sum of all is what was added, and the limit holds.
    #[test]
    fn totals_only_rise(
        limit in 1_usize..5,
        readings in prop::collection::vec(prop::collection::btree_map(0_u8..8, 0_u64..50, 0..8), 1..20),
    ) {
        let mut ledger = Ledger::default();
        let mut last = None;
        for reading in readings {
            let before = ledger.clone();
            let read: std::collections::BTreeMap<_, _> = reading
                .iter()
                .map(|(name, connections)| (*name, Numbers { connections: *connections, bytes: None }))
                .collect();
            ledger.update(read.clone(), limit);
            prop_assert!(ledger.own.len() <= limit);
            for (name, total) in &ledger.own {
                let old = before.own.get(name).copied().unwrap_or_default();
                prop_assert!(total.connections >= old.connections);
            }
            let others = |ledger: &Ledger<u8>| ledger.others.unwrap_or_default().connections;
            prop_assert!(others(&ledger) >= others(&before));
            // What was dropped was either gone or zero.
            let sum = |ledger: &Ledger<u8>| {
                ledger.own.values().map(|total| total.connections).sum::<u64>() + others(ledger)
            };
            let gone: u64 = before
                .own
                .iter()
                .filter(|(name, _)| !read.contains_key(name))
                .map(|(_, total)| total.connections)
                .sum();
            let risen: u64 = match &last {
                None => 0,
                Some(last) => reading
                    .iter()
                    .map(|(name, now)| {
                        let before: &std::collections::BTreeMap<u8, u64> = last;
                        now.saturating_sub(before.get(name).copied().unwrap_or_default())
                    })
                    .sum(),
            };
            prop_assert_eq!(sum(&ledger), sum(&before) - gone + risen);
            last = Some(reading);
        }
    }
}
