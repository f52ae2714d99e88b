//! What a restart makes of the rules that an earlier process wrote, as the programs print them.

use std::collections::BTreeMap;

use kube_proxy_core::Frontend;
use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_iptables::Variant;

use crate::namespace::run;
use crate::samples::{Sample, service, snapshot};
use crate::syncs::{
    Test, backend, endpoint, every_kind, full, ip, many_services, program, saved, saved_after_full,
};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("restart_over_right_rules_writes_nothing", writes_nothing),
    (LARGE, writes_nothing_of_many),
    ("restart_writes_the_chains_that_differ", writes_difference),
    ("restart_repairs_single_rules", repairs_rules),
    ("restart_names_udp_frontends_that_went", names_udp),
];

/// Needs more in one transaction than a user namespace lets iptables-nft send.
pub(crate) const LARGE: &str = "restart_over_right_rules_of_many_services_writes_nothing";

fn written_by_restart(variant: Variant, family: IpFamily, samples: &[Sample]) -> usize {
    let report = full(&mut backend(variant, family), &snapshot(family, samples));
    report.counts.iter().map(|count| count.written).sum()
}

/// What shows whether a rule is still the same one: its number in nft, and its counters in legacy.
fn identities(variant: Variant, family: IpFamily) -> String {
    if variant == Variant::Nft {
        let family = if family == IpFamily::V4 { "ip" } else { "ip6" };
        let list = |table| run("nft", &["--handle", "list", "table", family, table]);
        return list("nat") + &list("filter");
    }
    let text = run(&program(variant, family, "-save"), &["-c"]);
    text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
}

fn keeps_everything(variant: Variant, family: IpFamily, samples: &[Sample]) {
    let report = full(&mut backend(variant, family), &snapshot(family, samples));
    assert!(report.counts.iter().all(|count| count.written > 0));
    let before = identities(variant, family);
    assert_eq!(written_by_restart(variant, family, samples), 0);
    assert_eq!(identities(variant, family), before);
}

fn writes_nothing(variant: Variant, family: IpFamily) {
    keeps_everything(variant, family, &every_kind(family));
}

fn writes_nothing_of_many(variant: Variant, family: IpFamily) {
    keeps_everything(variant, family, &many_services(family));
}

fn writes_difference(variant: Variant, family: IpFamily) {
    let mut samples = every_kind(family);
    full(&mut backend(variant, family), &snapshot(family, &samples));
    let before = saved(variant, family);
    samples[0] = samples[0].clone().remote(&endpoint(family, 40));
    samples.remove(3);
    samples.push(service("new", &ip(family, 96, 50)).local(&endpoint(family, 41)).node_port(31000));
    let written = written_by_restart(variant, family, &samples);
    let after = saved(variant, family);
    assert_eq!(after, saved_after_full(variant, family, &snapshot(family, &samples)));
    assert_eq!(written, rules_of_changed_chains(&before, &after));
}

fn rules_of_changed_chains(
    before: &BTreeMap<String, Vec<String>>,
    after: &BTreeMap<String, Vec<String>>,
) -> usize {
    let changed = after.iter().filter(|(chain, rules)| before.get(*chain) != Some(rules));
    changed.map(|(_, rules)| rules.len()).sum()
}

fn repairs_rules(variant: Variant, family: IpFamily) {
    let samples = every_kind(family);
    full(&mut backend(variant, family), &snapshot(family, &samples));
    let before = saved(variant, family);
    let iptables = program(variant, family, "");
    for (chain, rules) in before.iter().filter(|(_, rules)| !rules.is_empty()) {
        let (table, chain) = chain.split_once(' ').unwrap();
        let is_ours = chain.starts_with("KUBE-") && chain != "KUBE-FIREWALL";
        run(&iptables, &["-t", table, "-D", chain, "1"]);
        let written = written_by_restart(variant, family, &samples);
        assert_eq!(written, if is_ours { rules.len() } else { 1 }, "{table} {chain}");
        if is_ours {
            assert_eq!(saved(variant, family), before, "{table} {chain}");
            run(&iptables, &["-t", table, "-A", chain, "-m", "mark", "--mark", "1"]);
            assert_eq!(written_by_restart(variant, family, &samples), rules.len());
        }
        // A hook comes back as the first of its chain.
        let sorted = |chains: BTreeMap<String, Vec<String>>| -> BTreeMap<_, _> {
            let sort = |mut rules: Vec<String>| {
                rules.sort_unstable();
                rules
            };
            chains.into_iter().map(|(chain, rules)| (chain, sort(rules))).collect()
        };
        assert_eq!(sorted(saved(variant, family)), sorted(before.clone()), "{table} {chain}");
    }
}

fn names_udp(variant: Variant, family: IpFamily) {
    let dns = |n: u16| {
        let sample = service(&format!("dns{n}"), &ip(family, 96, n)).protocol(Protocol::Udp);
        sample.remote(&endpoint(family, n)).node_port(30000 + n).external_ip(&ip(family, 200, n))
    };
    full(&mut backend(variant, family), &snapshot(family, &[dns(1), dns(2)]));
    let report = full(&mut backend(variant, family), &snapshot(family, &[dns(2)]));
    let address = |kind| Frontend::address(Protocol::Udp, ip(family, kind, 1).parse().unwrap(), 80);
    assert_eq!(
        report.removed_udp,
        [address(96), address(200), Frontend::NodePort(Protocol::Udp, 30001)]
    );
    let report = full(&mut backend(variant, family), &snapshot(family, &[dns(2)]));
    assert_eq!(report.removed_udp, []);
}
