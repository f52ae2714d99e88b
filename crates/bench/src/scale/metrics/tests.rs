use super::{FULL_SYNCS, Syncs, parse};

#[test]
fn both_families_are_added() {
    let text = "# TYPE kubeproxy_sync_full_proxy_rules_duration_seconds histogram\n\
                kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv4\"} 1.5\n\
                kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"} 2\n\
                kubeproxy_sync_full_proxy_rules_duration_seconds_sum{ip_family=\"IPv6\"} 0.5\n\
                kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family=\"IPv6\"} 1\n";
    assert_eq!(parse(text, FULL_SYNCS[0]), Some(Syncs { count: 3.0, seconds: 2.0 }));
    let old = "kubeproxy_sync_proxy_rules_duration_seconds_sum 3e-1\n\
               kubeproxy_sync_proxy_rules_duration_seconds_count 4\n";
    assert_eq!(parse(old, FULL_SYNCS[1]), Some(Syncs { count: 4.0, seconds: 0.3 }));
    assert_eq!(parse("nothing", FULL_SYNCS[0]), None);
}
