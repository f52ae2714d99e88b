use std::collections::BTreeSet;
use std::time::Duration;

use expect_test::expect_file;
use kube_proxy_core::NodePortAddresses;

use super::mark_rules::MARK_CHAINS;
use super::*;

fn config(family: IpFamily, local_traffic: LocalTrafficDetector) -> Config {
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        mark_mask: 0x1f7f,
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
        variant: kube_proxy_xtables::Variant::Auto,
    }
}

#[test]
fn rules_of_both_families() {
    let cidr = LocalTrafficDetector::Cidr("10.244.0.0/16".parse().unwrap());
    let all: Vec<&Hook> = HOOKS.iter().filter(|hook| !is_for_marks(hook.3)).collect();
    let v4 = restore_input(&config(IpFamily::V4, cidr), true, &all, &TABLES);
    expect_file!["golden/cidr-ipv4.txt"].assert_eq(&v4);
    let bridge = LocalTrafficDetector::Bridge("cni0".to_owned());
    let v6 = restore_input(&config(IpFamily::V6, bridge), false, &[], &TABLES);
    expect_file!["golden/bridge-ipv6.txt"].assert_eq(&v6);
}

fn bits() -> Bits {
    Bits::new(0x1f7f, 0x4000).unwrap()
}

#[test]
fn rules_of_marks() {
    let hooks: Vec<&Hook> = HOOKS.iter().filter(|hook| is_for_marks(hook.3)).collect();
    assert_eq!(hooks.len(), 3);
    let cidr = LocalTrafficDetector::Cidr("10.244.0.0/16".parse().unwrap());
    let v4 = mark_input(&config(IpFamily::V4, cidr), bits(), &hooks);
    let v6 = mark_input(&config(IpFamily::V6, LocalTrafficDetector::None), bits(), &[]);
    let chains: BTreeSet<&str> = MARK_CHAINS.into_iter().collect();
    let removed = unmark_input(&hooks, &chains);
    expect_file!["golden/marks.txt"].assert_eq(&[v4, v6, removed].join("\n"));
}

#[test]
fn rules_of_marks_are_checked_only_where_they_are() {
    let config = config(IpFamily::V4, LocalTrafficDetector::None);
    let of_marks = |checks: Vec<Check>| {
        let is = |check: &&Check| match check {
            Check::Chain { chain, .. } => is_for_marks(chain),
            Check::Rule { chain, rule, .. } => is_for_marks(chain) || rule.contains("mark rules"),
        };
        checks.iter().filter(is).count()
    };
    assert_eq!(of_marks(checks(&config, true, None)), 0);
    // Three hooks and the last rules of two chains: without a detector the third has none.
    assert_eq!(of_marks(checks(&config, true, Some(bits()))), 5);
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

/// What the Go kube-proxy creates at its start, without the prefix: it continues with a set of ours only if the type is the same.
#[rustfmt::skip]
const SETS_OF_GO: [(&str, SetType); 17] = [
    ("LOOP-BACK",                 SetType::IpPortIp),
    ("CLUSTER-IP",                SetType::IpPort),
    ("EXTERNAL-IP",               SetType::IpPort),
    ("EXTERNAL-IP-LOCAL",         SetType::IpPort),
    ("LOAD-BALANCER",             SetType::IpPort),
    ("LOAD-BALANCER-LOCAL",       SetType::IpPort),
    ("LOAD-BALANCER-FW",          SetType::IpPort),
    ("LOAD-BALANCER-SOURCE-IP",   SetType::IpPortIp),
    ("LOAD-BALANCER-SOURCE-CIDR", SetType::IpPortNet),
    ("NODE-PORT-TCP",             SetType::Port),
    ("NODE-PORT-LOCAL-TCP",       SetType::Port),
    ("NODE-PORT-UDP",             SetType::Port),
    ("NODE-PORT-LOCAL-UDP",       SetType::Port),
    ("NODE-PORT-SCTP-HASH",       SetType::IpPort),
    ("NODE-PORT-LOCAL-SCTP-HASH", SetType::IpPort),
    ("HEALTH-CHECK-NODE-PORT",    SetType::Port),
    ("IPVS-IPS",                  SetType::Ip),
];

#[rustfmt::skip]
const CHAINS_OF_GO: [(&str, &str); 11] = [
    ("nat", "KUBE-SERVICES"), ("nat", "KUBE-POSTROUTING"), ("nat", "KUBE-NODE-PORT"),
    ("nat", "KUBE-LOAD-BALANCER"), ("nat", "KUBE-MARK-MASQ"),
    ("filter", "KUBE-FORWARD"), ("filter", "KUBE-NODE-PORT"), ("filter", "KUBE-PROXY-FIREWALL"),
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL"), ("filter", "KUBE-IPVS-FILTER"), ("filter", "KUBE-IPVS-OUT-FILTER"),
];

#[test]
fn the_go_kube_proxy_can_take_over() {
    for (name, kind) in SETS_OF_GO {
        let ours = SETS.iter().find(|(_, base, _)| *base == name);
        assert_eq!(ours.map(|(.., ours)| *ours), Some(kind), "{name}");
    }
    let own = SETS.iter().filter(|(_, base, _)| !SETS_OF_GO.iter().any(|(name, _)| name == base));
    let own: Vec<_> = own.map(|(_, base, _)| *base).collect();
    let expected = ["DROP", "DROP-OUTSIDE", "REJECT-OUTSIDE", "IPVS-MARK"];
    assert_eq!(own, expected, "sets that only this version has");
    let chains: Vec<_> = OWN_CHAINS.iter().chain(&SHARED_CHAINS).collect();
    for chain in &CHAINS_OF_GO {
        assert!(chains.contains(&chain), "{chain:?}");
    }
    let own: Vec<_> = chains.into_iter().filter(|chain| !CHAINS_OF_GO.contains(chain)).collect();
    let expected = [
        &("filter", "KUBE-IPVS-DROP"),
        &("filter", "KUBE-IPVS-REJECT"),
        &("mangle", "KUBE-IPVS-OUT-DROP"),
        &("mangle", "KUBE-IPVS-OUT-RANGES"),
        &("mangle", "KUBE-IPVS-MARK"),
        &("mangle", "KUBE-IPVS-OUT-MARK"),
        &("mangle", "KUBE-IPVS-UNMARK"),
    ];
    assert_eq!(own, expected);
}
