//! Syncs that go deeper than a full one.

use futures::executor::block_on;
use kube_proxy_core::{Difference, IpFamily, ProxyBackend as _, Refusal, Repair, Scope, SyncError};
use kube_proxy_iptables::{IptablesBackend, Variant};

use crate::namespace::run;
use crate::samples::snapshot;
use crate::syncs::{Test, backend, every_kind, full, program, saved};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("repair_of_the_table_writes_all_of_it", whole_table),
    ("comparison_names_what_differs", compares),
];

/// A test of iptables-nft alone, with its name.
pub(crate) type NftTest = (&'static str, fn(IpFamily));

/// A chain that an `nft` map leads to cannot be deleted, and no listing of iptables shows why.
pub(crate) const NFT_TESTS: &[NftTest] = &[("chain_that_cannot_be_deleted_is_emptied", emptied)];

fn repair(backend: &mut IptablesBackend, family: IpFamily, repair: Repair<'_>) {
    let snapshot = snapshot(family, &every_kind(family)[1..]);
    block_on(backend.sync(&snapshot, Scope::Repair(repair))).unwrap();
}

fn whole_table(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let foreign = program(variant, family, "");
    run(&foreign, &["-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "ACCEPT"]);
    full(&mut backend, &snapshot(family, &every_kind(family)[1..]));
    let right = saved(variant, family);
    // A hook twice, and a chain with a rule too many.
    let hook = "-m conntrack --ctstate NEW -m comment --comment";
    let hook: Vec<_> = hook.split(' ').chain(["kubernetes service portals", "-j"]).collect();
    run(&foreign, &[&["-A", "FORWARD"][..], &hook, &["KUBE-SERVICES"]].concat());
    run(&foreign, &["-t", "nat", "-I", "KUBE-SERVICES", "-j", "RETURN"]);
    assert_ne!(saved(variant, family), right);
    repair(&mut backend, family, Repair::Table);
    assert_eq!(saved(variant, family), right);
}

fn compares(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let snapshot = snapshot(family, &every_kind(family)[1..]);
    full(&mut backend, &snapshot);
    let mut compare = || {
        let differences = block_on(backend.compare(&snapshot)).unwrap();
        let line = |d: Difference| format!("{:?} {} {}", d.deviation, d.kind, d.name);
        differences.into_iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(compare(), [] as [&str; 0]);
    let foreign = program(variant, family, "");
    run(&foreign, &["-t", "nat", "-I", "KUBE-POSTROUTING", "-j", "RETURN"]);
    run(&foreign, &["-t", "nat", "-N", "KUBE-SVC-STALE"]);
    let damaged = saved(variant, family);
    let expected = [
        "Different chain nat KUBE-POSTROUTING: 5 rules instead of 4",
        "Unexpected chain nat KUBE-SVC-STALE",
    ];
    assert_eq!(compare(), expected);
    assert_eq!(saved(variant, family), damaged, "it changed something");
}

fn refusal(backend: &mut IptablesBackend, family: IpFamily) -> Refusal {
    let snapshot = snapshot(family, &every_kind(family)[1..]);
    match block_on(backend.sync(&snapshot, Scope::Full)) {
        Err(SyncError::RefusedObject { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn emptied(family: IpFamily) {
    let (name, kind, address) = match family {
        IpFamily::V4 => ("ip", "ipv4_addr", "192.0.2.1"),
        IpFamily::V6 => ("ip6", "ipv6_addr", "2001:db8::1"),
    };
    let samples = every_kind(family);
    let variant = Variant::Nft;
    full(&mut backend(variant, family), &snapshot(family, &samples[1..]));
    let after = saved(variant, family);
    let mut running = backend(variant, family);
    full(&mut running, &snapshot(family, &samples));
    let is_stale = |chain: &&String| chain.contains("KUBE-SVC-") && !after.contains_key(*chain);
    let before = saved(variant, family);
    let stale = before.keys().find(is_stale).unwrap();
    let stale = stale.rsplit(' ').next().unwrap();
    run("nft", &["add", "map", name, "nat", "mine", &format!("{{ type {kind} : verdict; }}")]);
    let element = format!("{{ {address} : jump {stale} }}");
    run("nft", &["add", "element", name, "nat", "mine", &element]);
    for _ in 0..2 {
        let refusal = refusal(&mut running, family);
        assert_eq!((refusal.kind, refusal.name), ("chain", format!("nat {stale}")));
    }
    let refusal = refusal(&mut running, family);
    repair(&mut running, family, Repair::Object(&refusal));
    let mut now = saved(variant, family);
    now.retain(|chain, rules| !(chain.ends_with(stale) && rules.is_empty()));
    assert_eq!(now, after);
}
