use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use kube_proxy_core as core;
use serde_json::json;

use super::facts::{Facts, Iptables, Owner};
use super::*;
use crate::debug::FamilyCheck;

fn check(mode: &str) -> Check {
    let family = |name| json!({"family": name, "compared": true, "differences": [], "total": 0});
    let check = json!({
        "node": "node-a", "mode": mode, "version": "1", "families": [family("IPv4"), family("IPv6")]
    });
    serde_json::from_value(check).unwrap()
}

/// A node on which all is well.
fn facts(mode: &str) -> Facts {
    let sysctls = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv4/conf/all/rp_filter", "2"),
        ("net/netfilter/nf_conntrack_count", "100"),
        ("net/netfilter/nf_conntrack_max", "1000"),
        ("net/netfilter/nf_conntrack_events", "2"),
    ];
    Facts {
        check: Ok(check(mode)),
        sysctls: sysctls.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        interfaces: BTreeSet::new(),
        bridges: BTreeSet::new(),
        programs: BTreeMap::from([("kube-proxy", 1)]),
        iptables: Vec::new(),
        forward_chains: Vec::new(),
        nftables_tables: Vec::new(),
        now: SystemTime::UNIX_EPOCH + Duration::from_hours(500_000),
        meant: None,
    }
}

fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = proxy::of_proxy(facts);
    findings.extend(surroundings::surroundings(facts));
    findings
}

fn ids(facts: &Facts) -> Vec<(Severity, String)> {
    findings(facts).into_iter().map(|finding| (finding.severity, finding.id)).collect()
}

/// What is found after one thing changed.
fn after(mode: &str, change: impl FnOnce(&mut Facts)) -> Vec<(Severity, String)> {
    let mut facts = facts(mode);
    change(&mut facts);
    ids(&facts)
}

fn only(severity: Severity, id: &str) -> Vec<(Severity, String)> {
    vec![(severity, id.to_owned())]
}

#[test]
fn all_is_well_says_nothing() {
    for mode in ["iptables", "nftables", "ipvs", "userspace"] {
        assert_eq!(ids(&facts(mode)), [], "{mode}");
    }
}

#[test]
fn silence_and_failures_of_the_proxy() {
    let no_answer = after("nftables", |facts| facts.check = Err("nobody there".to_owned()));
    assert_eq!(no_answer, only(Severity::Problem, "no-answer"));
    let silent = |seconds| {
        after("nftables", |facts| {
            facts.check.as_mut().unwrap().api_server_silent_seconds = Some(seconds);
        })
    };
    assert_eq!(silent(60.0), []);
    assert_eq!(silent(600.0), only(Severity::Problem, "api-server-silent"));
    let unsynced =
        after("nftables", |facts| facts.check.as_mut().unwrap().families[0].compared = false);
    assert_eq!(unsynced, only(Severity::Problem, "not-synced"));
    let failed = after("nftables", |facts| {
        facts.check.as_mut().unwrap().families[0].failure = Some("locked".to_owned());
    });
    assert_eq!(failed, only(Severity::Problem, "not-compared"));
}

fn difference(number: u32) -> core::Difference {
    core::Difference::new("element", format!("e{number}"), core::Deviation::Missing)
}

#[test]
fn differences_are_named_up_to_ten_and_counted() {
    let family = |count| {
        let found = (0..count).map(difference).collect();
        FamilyCheck::new(core::IpFamily::V4, Ok(Some(found)), [])
    };
    let mut facts = facts("nftables");
    facts.check.as_mut().unwrap().families = vec![family(3)];
    let finding = findings(&facts).remove(0);
    assert_eq!((finding.severity, &*finding.id), (Severity::Problem, "rules-differ"));
    assert!(
        finding.what.contains("3 objects are not") && finding.what.contains("missing element e2")
    );
    facts.check.as_mut().unwrap().families = vec![family(1000)];
    let finding = findings(&facts).remove(0);
    assert!(finding.what.contains("1000 objects are not") && finding.what.contains("and 990 more"));
    assert!(!finding.what.contains("e10\n"));
    // The JSON is bounded too.
    assert_eq!(family(1000).differences.len(), 200);
    assert_eq!(family(1000).total, 1000);
}

#[test]
fn repairs_are_a_warning() {
    let mut facts = facts("nftables");
    let repair = crate::debug::Repair::now(&[difference(1)]);
    let family = FamilyCheck::new(core::IpFamily::V4, Ok(Some(Vec::new())), [repair]);
    facts.check.as_mut().unwrap().families = vec![family];
    let finding = findings(&facts).remove(0);
    assert_eq!((finding.severity, &*finding.id), (Severity::Warning, "rules-repaired"));
    assert!(finding.what.contains("missing element e1"), "{}", finding.what);
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts.sysctls.insert(name.to_owned(), value.to_owned());
}

#[test]
fn sysctls() {
    let with = |name, value| after("iptables", |facts| set(facts, name, value));
    assert_eq!(with("net/ipv4/ip_forward", "0"), only(Severity::Problem, "ip-forward"));
    let ipv6 = with("net/ipv6/conf/all/forwarding", "0");
    assert_eq!(ipv6, only(Severity::Warning, "ip-forward"));
    assert_eq!(with("net/ipv4/conf/all/rp_filter", "1"), only(Severity::Note, "rp-filter"));
    let events = with("net/netfilter/nf_conntrack_events", "0");
    assert_eq!(events, only(Severity::Note, "conntrack-events"));
    let count = |count| with("net/netfilter/nf_conntrack_count", count);
    assert_eq!(count("749"), []);
    assert_eq!(count("750"), only(Severity::Warning, "conntrack-full"));
    assert_eq!(count("900"), only(Severity::Problem, "conntrack-full"));
    // Without IPv6 Services, its forwarding does not matter; a limit of 0 is none.
    let ipv4_only = after("iptables", |facts| {
        facts.check.as_mut().unwrap().families.truncate(1);
        set(facts, "net/ipv6/conf/all/forwarding", "0");
        set(facts, "net/netfilter/nf_conntrack_max", "0");
    });
    assert_eq!(ipv4_only, []);
    let bridged = |on: &'static str| {
        after("iptables", move |facts| {
            facts.bridges.insert("cni0".to_owned());
            set(facts, "net/bridge/bridge-nf-call-iptables", on);
            set(facts, "net/bridge/bridge-nf-call-ip6tables", "1");
        })
    };
    assert_eq!(bridged("1"), []);
    assert_eq!(bridged("0"), only(Severity::Note, "bridge-nf-call"));
}

fn iptables(variant: &str, lines: &[(&str, &str)]) -> Iptables {
    let mut read =
        Iptables { variant: variant.to_owned(), family: "IPv4".to_owned(), ..Iptables::default() };
    for (table, line) in lines {
        read.line(table, line);
    }
    read
}

#[test]
fn forward_policy_matters_in_nftables_mode() {
    let drops = |facts: &mut Facts| {
        facts.iptables.push(iptables("iptables-nft", &[("filter", ":FORWARD DROP [0:0]")]));
    };
    assert_eq!(after("nftables", drops), only(Severity::Warning, "forward-drop"));
    // The iptables mode accepts what it forwards there.
    assert_eq!(after("iptables", drops), []);
    let firewalld = |facts: &mut Facts| {
        facts.forward_chains.push("table inet firewalld chain filter_FORWARD".to_owned());
    };
    assert_eq!(after("nftables", firewalld), only(Severity::Warning, "forward-drop"));
    let elsewhere = |facts: &mut Facts| {
        let lines = [("mangle", ":FORWARD DROP [0:0]"), ("filter", ":INPUT DROP [0:0]")];
        facts.iptables.push(iptables("iptables-nft", &lines));
    };
    assert_eq!(after("nftables", elsewhere), []);
}

#[test]
fn other_programs_and_leftovers() {
    let two = after("nftables", |facts| facts.programs = BTreeMap::from([("kube-proxy", 2)]));
    assert_eq!(two, only(Severity::Problem, "two-kube-proxies"));
    for interface in ["cilium_host", "kube-bridge"] {
        let found = after("nftables", |facts| facts.interfaces = [interface.to_owned()].into());
        assert_eq!(found, only(Severity::Warning, "other-proxy"), "{interface}");
    }
    let dns = after("nftables", |facts| facts.interfaces = ["nodelocaldns".to_owned()].into());
    assert_eq!(dns, only(Severity::Note, "node-local-dns"));
    let cases = [
        ("KUBE-SVC-ABC", Owner::IptablesMode, "iptables", "nftables"),
        ("KUBE-IPVS-FILTER", Owner::IpvsMode, "ipvs", "iptables"),
        ("KUBE-PORTALS-HOST", Owner::UserspaceMode, "userspace", "ipvs"),
    ];
    for (chain, owner, own, other) in cases {
        let listed = iptables("iptables-nft", &[("nat", &format!(":{chain} - [0:0]"))]);
        assert_eq!(listed.owners, BTreeSet::from([owner]));
        let found = |mode| after(mode, |facts| facts.iptables.push(listed.clone()));
        assert_eq!(found(own), [], "{chain}");
        assert_eq!(found(other), only(Severity::Warning, "leftovers"), "{chain}");
    }
    let device = |facts: &mut Facts| facts.interfaces = ["kube-ipvs0".to_owned()].into();
    assert_eq!(after("ipvs", device), []);
    assert_eq!(after("nftables", device), only(Severity::Warning, "leftovers"));
    let table = |facts: &mut Facts| facts.nftables_tables.push("IPv4".to_owned());
    assert_eq!(after("nftables", table), []);
    assert_eq!(after("iptables", table), only(Severity::Warning, "leftovers"));
}

#[test]
fn both_variants_of_iptables() {
    let rule = [("filter", "-A INPUT -j ACCEPT")];
    let both = |facts: &mut Facts| {
        facts.iptables.push(iptables("iptables-legacy", &rule));
        facts.iptables.push(iptables("iptables-nft", &rule));
    };
    assert_eq!(after("iptables", both), only(Severity::Warning, "mixed-iptables"));
    let one = |facts: &mut Facts| {
        facts.iptables.push(iptables("iptables-legacy", &[]));
        facts.iptables.push(iptables("iptables-nft", &rule));
    };
    assert_eq!(after("iptables", one), []);
}

#[test]
fn clock_that_is_years_behind() {
    let behind = after("iptables", |facts| facts.now = SystemTime::UNIX_EPOCH);
    assert_eq!(behind, only(Severity::Problem, "clock"));
}

#[test]
fn interfaces_are_read_from_the_listing_of_the_kernel() {
    let listing = "Inter-|   Receive  |  Transmit\n face |bytes    packets|bytes\n    lo: 0 0\ncilium_host:  12 0\n";
    let names = facts::interfaces(listing);
    assert_eq!(names, BTreeSet::from(["cilium_host".to_owned(), "lo".to_owned()]));
}
