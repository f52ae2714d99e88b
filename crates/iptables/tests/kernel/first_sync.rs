//! First syncs of a number of services for which iptables-nft gets another input than for later ones.

use std::process::Command;

use futures::executor::block_on;
use kube_proxy_core::{IpFamily, ProxyBackend, Scope, Snapshot};
use kube_proxy_iptables::{IptablesBackend, Variant};

use crate::namespace::{in_new_network, run};
use crate::samples::{service, snapshot};
use crate::syncs::{config, program, saved};

type Test = fn(IpFamily);

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("nft_large_first_sync_writes_what_a_later_one_does", writes_the_same),
    ("nft_large_first_sync_keeps_the_rules_of_others", keeps_others),
    ("nft_large_first_sync_beside_a_rule_that_iptables_cannot_list", beside_unlistable),
];

/// Enough for the other input.
const SERVICES: u16 = 600;

fn services(family: IpFamily) -> Snapshot {
    let samples: Vec<_> = (0..SERVICES)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let (ip, endpoint) = match family {
                IpFamily::V4 => (format!("10.96.{high}.{low}"), format!("10.1.{high}.{low}:8080")),
                IpFamily::V6 => {
                    (format!("fd00:96::{number:x}"), format!("[fd00:1::{number:x}]:8080"))
                }
            };
            service(&format!("s{number}"), &ip).remote(&endpoint)
        })
        .collect();
    snapshot(family, &samples)
}

fn full(backend: &mut IptablesBackend, snapshot: &Snapshot) {
    block_on(backend.sync(snapshot, Scope::Full)).unwrap();
}

fn backend(family: IpFamily) -> IptablesBackend {
    IptablesBackend::new(config(Variant::Nft, family)).unwrap()
}

fn writes_the_same(family: IpFamily) {
    let all = services(family);
    full(&mut backend(family), &all);
    let first = saved(Variant::Nft, family);
    let later = in_new_network(|| {
        let mut backend = backend(family);
        // Brings the hooks into being, so that the next is no first sync.
        full(&mut backend, &Snapshot::new(family));
        full(&mut backend, &all);
        saved(Variant::Nft, family)
    });
    assert!(first.len() > usize::from(SERVICES));
    assert_eq!(first, later);
}

fn keeps_others(family: IpFamily) {
    let iptables = program(Variant::Nft, family, "");
    for chain in ["OUTPUT", "POSTROUTING"] {
        for mark in ["7", "8"] {
            run(
                &iptables,
                &["-t", "nat", "-A", chain, "-m", "mark", "--mark", mark, "-j", "RETURN"],
            );
        }
    }
    full(&mut backend(family), &services(family));
    let chains = saved(Variant::Nft, family);
    for (chain, to) in [("OUTPUT", "KUBE-SERVICES"), ("POSTROUTING", "KUBE-POSTROUTING")] {
        let rules = &chains[&format!("nat {chain}")];
        assert_eq!(rules.len(), 3, "{rules:?}");
        assert!(rules[0].ends_with(&format!("-j {to}")), "{rules:?}");
        assert!(rules[1].ends_with("--mark 0x7 -j RETURN"), "{rules:?}");
        assert!(rules[2].ends_with("--mark 0x8 -j RETURN"), "{rules:?}");
    }
}

/// The listing fails, and the services are served all the same.
fn beside_unlistable(family: IpFamily) {
    let (name, address) = match family {
        IpFamily::V4 => ("ip", "ipv4_addr"),
        IpFamily::V6 => ("ip6", "ipv6_addr"),
    };
    let ruleset = format!(
        "table {name} nat {{
            set mine {{ type {address}; }}
            chain POSTROUTING {{
                type nat hook postrouting priority 100;
                {name} saddr @mine masquerade
            }}
        }}"
    );
    run("nft", &[&ruleset]);
    let listed =
        Command::new(program(Variant::Nft, family, "")).args(["-t", "nat", "-S"]).output().unwrap();
    assert!(!listed.status.success(), "iptables can list that rule: the test shows nothing");
    full(&mut backend(family), &services(family));
    let table = run("nft", &["list", "table", name, "nat"]);
    assert_eq!(table.matches("dnat to").count(), usize::from(SERVICES));
    assert_eq!(table.matches("jump KUBE-SERVICES").count(), 2);
    assert!(table.contains("@mine masquerade"));
}
