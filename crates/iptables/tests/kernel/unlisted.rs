//! Tables that iptables-nft lists no more, because of a rule that another program wrote with `nft`.

use kube_proxy_core::{IpFamily, Removed};
use kube_proxy_iptables::{InUse, Variant, remove};

use crate::namespace::run;
use crate::samples::snapshot;
use crate::syncs::{backend, every_kind, full, ip, partial, program};

type Test = fn(IpFamily);

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("restart_over_an_unlisted_table_adds_no_hook", no_second_hook),
    ("unlisted_tables_are_cleaned_up", cleaned_up),
    ("cleanup_of_unlisted_tables_says_what_others_lead_to", referenced),
    ("an_unlisted_table_without_anything_of_ours_stays", nothing_of_ours),
    ("a_rule_that_is_listed_as_another_stays", listed_wrongly),
];

/// The chains of the kernel that a rule is written into, by table.
const CHAINS: [(&str, &str); 6] = [
    ("nat", "POSTROUTING"),
    ("nat", "PREROUTING"),
    ("filter", "INPUT"),
    ("filter", "FORWARD"),
    ("mangle", "PREROUTING"),
    ("filter", "MINE"),
];

fn nft_family(family: IpFamily) -> &'static str {
    if family == IpFamily::V4 { "ip" } else { "ip6" }
}

/// A set in the table, and a rule that looks into it.
fn break_table(family: IpFamily, table: &str, chain: &str) {
    let name = nft_family(family);
    let kind = if family == IpFamily::V4 { "ipv4_addr" } else { "ipv6_addr" };
    // The chain has to be there first.
    let iptables = program(Variant::Nft, family, "");
    if chain == "MINE" {
        run(&iptables, &["-t", table, "-N", chain]);
    }
    run(&iptables, &["-t", table, "-A", chain, "-p", "tcp", "-j", "RETURN"]);
    run("nft", &["add", "set", name, table, "mine", &format!("{{ type {kind}; }}")]);
    run(
        "nft",
        &[
            "add", "rule", name, table, chain, name, "saddr", "@mine", "ct", "mark", "7",
            "counter", "accept",
        ],
    );
    let listed = run(&program(Variant::Nft, family, "-save"), &["-t", table]);
    assert!(!listed.contains(&format!("*{table}")), "{table} is still listed: {listed}");
}

fn ruleset() -> String {
    run("nft", &["--stateless", "list", "ruleset"])
}

fn hooks(ruleset: &str) -> Vec<String> {
    let mut chain = "";
    let mut hooks = Vec::new();
    for line in ruleset.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        } else if line.contains("jump KUBE-") && !chain.starts_with("KUBE-") {
            hooks.push(format!("{chain} {line}"));
        }
    }
    hooks
}

fn no_second_hook(family: IpFamily) {
    let mut samples = every_kind(family);
    let before = snapshot(family, &samples);
    full(&mut backend(Variant::Nft, family), &before);
    for (table, chain) in CHAINS {
        break_table(family, table, chain);
        let there = hooks(&ruleset());
        for _ in 0..2 {
            full(&mut backend(Variant::Nft, family), &before);
            assert_eq!(hooks(&ruleset()), there, "{table} {chain}");
        }
        run("nft", &["flush", "chain", nft_family(family), table, chain]);
        run("nft", &["delete", "set", nft_family(family), table, "mine"]);
        full(&mut backend(Variant::Nft, family), &before);
        let restored = hooks(&ruleset());
        let sorted = |mut hooks: Vec<String>| {
            hooks.sort_unstable();
            hooks
        };
        assert_eq!(sorted(restored), sorted(there), "{table} {chain}");
    }
    // A deleted Service goes although its table is not listed.
    break_table(family, "nat", "POSTROUTING");
    assert!(ruleset().contains(&format!("daddr {} ", ip(family, 96, 1))));
    let mut running = backend(Variant::Nft, family);
    full(&mut running, &before);
    samples.remove(0);
    let after = snapshot(family, &samples);
    partial(&mut running, &before, &after);
    assert!(!ruleset().contains(&format!("daddr {} ", ip(family, 96, 1))));
    full(&mut backend(Variant::Nft, family), &after);
    let stale = ruleset();
    full(&mut backend(Variant::Nft, family), &after);
    assert_eq!(ruleset(), stale);
}

fn cleaned_up(family: IpFamily) {
    for (table, chain) in CHAINS {
        full(&mut backend(Variant::Nft, family), &snapshot(family, &every_kind(family)));
        break_table(family, table, chain);
        assert_eq!(remove(family, InUse::default()).unwrap(), Removed::All, "{table} {chain}");
        let left = ruleset();
        let ours: Vec<_> = left
            .lines()
            .filter(|line| line.contains("KUBE-") && !line.contains("KUBE-FIREWALL"))
            .collect();
        assert!(ours.is_empty(), "{table} {chain}: {ours:?}");
        assert!(!left.contains("127.0.0.0/8"), "{left}");
        assert!(left.contains("@mine"), "the rule of somebody else is gone: {left}");
        assert_eq!(remove(family, InUse::default()).unwrap(), Removed::Nothing, "{table} {chain}");
        run("nft", &["flush", "ruleset"]);
    }
}

fn referenced(family: IpFamily) {
    full(&mut backend(Variant::Nft, family), &snapshot(family, &every_kind(family)));
    break_table(family, "nat", "OUTPUT");
    let name = nft_family(family);
    let words = ["saddr", "@mine", "ct", "mark", "7", "jump", "KUBE-MARK-MASQ"];
    run("nft", &[&["add", "rule", name, "nat", "OUTPUT", name], &words[..]].concat());
    let kept = Removed::Referenced { chains: 1 };
    assert_eq!(remove(family, InUse::default()).unwrap(), kept);
    let left = ruleset();
    assert!(left.contains("jump KUBE-MARK-MASQ"), "{left}");
    assert!(!left.contains("KUBE-SERVICES"), "{left}");
}

fn nothing_of_ours(family: IpFamily) {
    break_table(family, "nat", "POSTROUTING");
    break_table(family, "filter", "INPUT");
    let before = ruleset();
    assert_eq!(remove(family, InUse::default()).unwrap(), Removed::Nothing);
    assert_eq!(ruleset(), before);
}

/// iptables-nft 1.8.9 leaves out a look into a set: another program's rule then looks like a hook without its comment, and `-D` would take it.
fn listed_wrongly(family: IpFamily) {
    let services = snapshot(family, &every_kind(family));
    full(&mut backend(Variant::Nft, family), &services);
    let name = nft_family(family);
    let kind = if family == IpFamily::V4 { "ipv4_addr" } else { "ipv6_addr" };
    for (table, chain, target) in [
        ("nat", "PREROUTING", "jump KUBE-SERVICES"),
        ("nat", "POSTROUTING", "accept"),
        ("filter", "FORWARD", "jump KUBE-FORWARD"),
    ] {
        // One set for each table.
        run("nft", &["add", "set", name, table, "mine", &format!("{{ type {kind}; }}")]);
        let rule = [name, "saddr", "@mine", "counter"];
        let target: Vec<_> = target.split(' ').collect();
        run("nft", &[&["add", "rule", name, table, chain], &rule[..], &target].concat());
    }
    let theirs = |ruleset: &str| -> Vec<String> {
        ruleset.lines().filter(|line| line.contains("saddr @mine")).map(str::to_owned).collect()
    };
    let (there, foreign) = (hooks(&ruleset()), theirs(&ruleset()));
    assert_eq!(foreign.len(), 3);
    for _ in 0..2 {
        full(&mut backend(Variant::Nft, family), &services);
        assert_eq!(hooks(&ruleset()), there);
    }
    for _ in 0..2 {
        let kept = Removed::Referenced { chains: 2 };
        assert_eq!(remove(family, InUse::default()).unwrap(), kept);
        let left = ruleset();
        assert_eq!(theirs(&left), foreign);
        assert_eq!(left.matches("jump KUBE-SERVICES").count(), 1, "{left}");
        assert_eq!(left.matches("jump KUBE-FORWARD").count(), 1, "{left}");
        assert!(!left.contains("KUBE-POSTROUTING"), "{left}");
    }
}
