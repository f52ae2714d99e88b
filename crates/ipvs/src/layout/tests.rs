use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::expect_file;
use kube_proxy_core::NodePortAddresses;

use super::*;

fn config(family: IpFamily, local_traffic: LocalTrafficDetector) -> Config {
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic,
        node_ports: NodePortAddresses::All,
        scheduler: "rr".to_owned(),
        exclude_cidrs: Vec::new(),
        strict_arp: false,
        tcp_timeout: None,
        tcp_fin_timeout: None,
        udp_timeout: None,
        local_fallback: false,
        drain_timeout: Duration::ZERO,
        variant: kube_proxy_iptables::Variant::Auto,
    }
}

#[test]
fn rules_of_both_families() {
    let cidr = LocalTrafficDetector::Cidr("10.244.0.0/16".parse().unwrap());
    let all: Vec<&Hook> = HOOKS.iter().collect();
    let v4 = restore_input(&config(IpFamily::V4, cidr), true, &all, &TABLES);
    expect_file!["golden/cidr-ipv4.txt"].assert_eq(&v4);
    let bridge = LocalTrafficDetector::Bridge("cni0".to_owned());
    let v6 = restore_input(&config(IpFamily::V6, bridge), false, &[], &TABLES);
    expect_file!["golden/bridge-ipv6.txt"].assert_eq(&v6);
}

#[test]
fn without_a_detector_nobody_is_masqueraded_but_the_node() {
    let nobody =
        restore_input(&config(IpFamily::V4, LocalTrafficDetector::None), true, &[], &TABLES);
    assert!(!nobody.contains("for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP"));
    let all = Config { masquerade_all: true, ..config(IpFamily::V4, LocalTrafficDetector::None) };
    let all = restore_input(&all, true, &[], &TABLES);
    assert!(all.contains("for masquerade purpose\" -m set --match-set KUBE-CLUSTER-IP"));
}

#[test]
fn names_are_short_enough_and_all_different() {
    let mut names = BTreeSet::new();
    for family in IpFamily::BOTH {
        for (set, ..) in SETS {
            let name = set.name(family);
            assert!(name.len() <= MAX_NAME, "{name}");
            assert!(names.insert(name.clone()), "{name} twice");
        }
    }
    assert!(names.contains("KUBE-6-LOAD-BALANCER-SOURCE-CID"));
    assert!(names.contains("KUBE-NODE-PORT-LOCAL-SCTP-HASH"));
}

#[test]
fn a_rule_leads_only_to_chains_that_are_declared() {
    let config = config(IpFamily::V4, LocalTrafficDetector::None);
    for (table, chain, rule) in rules(&config, true) {
        let declared = |name: &str| {
            OWN_CHAINS
                .iter()
                .chain(&SHARED_CHAINS)
                .any(|(of, known)| *of == table && *known == name)
        };
        assert!(declared(chain), "{table} {chain}");
        let target = rule.rsplit_once("-j ").unwrap().1;
        assert!(!target.starts_with("KUBE-") || declared(target), "{table} {target}");
    }
}
