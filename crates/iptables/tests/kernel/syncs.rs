//! Tests that run on every variant and family.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use futures::executor::block_on;
use kube_proxy_core::{
    Changes, IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectCount, Protocol,
    ProxyBackend, Scope, Snapshot, SyncReport,
};
use kube_proxy_iptables::{Config, InUse, IptablesBackend, Variant, remove};

use crate::namespace::{in_new_network, run};
use crate::samples::{Sample, changes, service, snapshot};

pub(crate) type Test = fn(Variant, IpFamily);

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("accepts_every_rule_and_changes_nothing_twice", accepts_every_rule),
    ("partial_syncs_end_where_a_full_one_does", partial_equals_full),
    (DISPATCH_TREE, dispatch_tree),
    (DEEP_TREE, deep_tree),
    ("takes_over_from_another_kube_proxy", takes_over),
    ("flush_is_noticed_and_repaired", notices_flush),
    ("cleanup_leaves_foreign_rules", cleans_up),
    ("refused_service_is_left_out", leaves_out_refused),
];

const DISPATCH_TREE: &str = "dispatch_tree_is_accepted_and_shrinks";
const DEEP_TREE: &str = "addresses_that_nest_too_deeply_are_a_plain_list";

/// Need more in one transaction than a user namespace lets iptables-nft send (`net.core.wmem_max`).
pub(crate) const LARGE: [&str; 2] = [DISPATCH_TREE, DEEP_TREE];

pub(crate) fn name(variant: Variant) -> &'static str {
    match variant {
        Variant::Legacy => "legacy",
        _ => "nft",
    }
}

/// Such as `ip6tables-nft`, with `-save` or the like behind it.
pub(crate) fn program(variant: Variant, family: IpFamily, suffix: &str) -> String {
    let start = match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    };
    format!("{start}-{}{suffix}", name(variant))
}

pub(crate) fn config(variant: Variant, family: IpFamily) -> Config {
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 1 << 14,
        local_traffic: LocalTrafficDetector::Cidr(match family {
            IpFamily::V4 => "10.0.0.0/8".parse().unwrap(),
            IpFamily::V6 => "fd00::/8".parse().unwrap(),
        }),
        node_ports: NodePortAddresses::All,
        localhost_node_ports: true,
        drop_invalid: true,
        variant,
    }
}

pub(crate) fn backend(variant: Variant, family: IpFamily) -> IptablesBackend {
    IptablesBackend::new(config(variant, family)).unwrap()
}

pub(crate) fn full(backend: &mut IptablesBackend, snapshot: &Snapshot) -> SyncReport {
    block_on(backend.sync(snapshot, Scope::Full)).unwrap()
}

pub(crate) fn partial(backend: &mut IptablesBackend, before: &Snapshot, after: &Snapshot) {
    let changes = changes(before, after);
    block_on(backend.sync(after, Scope::Partial(&changes))).unwrap();
}

/// Everything in the namespace: the rules of each chain of each table, in order.
pub(crate) fn saved(variant: Variant, family: IpFamily) -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in run(&program(variant, family, "-save"), &[]).lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(' ').next().unwrap();
            chains.entry(format!("{table} {chain}")).or_default();
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap();
            let rules = chains.get_mut(&format!("{table} {chain}")).unwrap();
            rules.push(rule.to_owned());
        }
    }
    chains
}

/// The same in a namespace where nothing but a full sync happened.
pub(crate) fn saved_after_full(
    variant: Variant,
    family: IpFamily,
    snapshot: &Snapshot,
) -> BTreeMap<String, Vec<String>> {
    in_new_network(|| {
        full(&mut backend(variant, family), snapshot);
        saved(variant, family)
    })
}

pub(crate) fn restore(variant: Variant, family: IpFamily, input: &str) {
    let mut child = Command::new(program(variant, family, "-restore"))
        .arg("--noflush")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{input}");
}

/// An address of the family, distinct for each kind and number.
pub(crate) fn ip(family: IpFamily, kind: u8, number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    match family {
        IpFamily::V4 => format!("10.{kind}.{high}.{low}"),
        IpFamily::V6 => format!("fd00:{kind:x}::{number:x}"),
    }
}

pub(crate) fn endpoint(family: IpFamily, number: u16) -> String {
    match family {
        IpFamily::V4 => format!("{}:8080", ip(family, 1, number)),
        IpFamily::V6 => format!("[{}]:8080", ip(family, 1, number)),
    }
}

fn net(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "203.0.113.0/24",
        IpFamily::V6 => "2001:db8::/64",
    }
}

/// One service of every kind.
pub(crate) fn every_kind(family: IpFamily) -> Vec<Sample> {
    let plain = |number: u16| service(&format!("s{number}"), &ip(family, 96, number));
    let e = |number| endpoint(family, number);
    vec![
        plain(1).local(&e(1)).remote(&e(2)).remote(&e(3)).node_port(30001),
        plain(2).remote(&e(4)).affinity(10_800).external_ip(&ip(family, 200, 2)),
        plain(3).vip(&ip(family, 201, 3)).node_port(30003),
        plain(4).remote(&e(5)).vip(&ip(family, 201, 4)).range(net(family)),
        plain(5).remote(&e(6)).external_local().vip(&ip(family, 201, 5)).health_check(32005),
        plain(6).remote(&e(7)).internal_local().protocol(Protocol::Udp).node_port(30001),
        plain(7).local(&e(8)).external_local().node_port(30007).affinity(60),
        plain(8).local(&e(9)).terminating().external_local().node_port(30008),
        plain(9).somewhere(&e(10)).protocol(Protocol::Sctp).external_ip(&ip(family, 200, 2)),
        plain(10).remote(&e(11)).external_ip(&ip(family, 200, 2)).node_port(30001),
        plain(11).remote(&e(12)).weight(7).remote(&e(13)).weight(0).remote(&e(14)).local(&e(15)),
    ]
}

fn accepts_every_rule(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let mut snapshot = snapshot(family, &every_kind(family));
    snapshot.node_ip = Some(match family {
        IpFamily::V4 => "203.0.113.1".parse().unwrap(),
        IpFamily::V6 => "2001:db8::1".parse().unwrap(),
    });
    full(&mut backend, &snapshot);
    let first = saved(variant, family);
    let cluster_ip = ip(family, 96, 1);
    let rules = &first["nat KUBE-SERVICES"];
    assert!(rules.iter().any(|rule| rule.contains(&cluster_ip)), "{rules:?}");
    assert_eq!(first["filter INPUT"].len(), 4);
    assert_eq!(first["filter KUBE-FIREWALL"].len(), usize::from(family == IpFamily::V4));
    full(&mut backend, &snapshot);
    assert_eq!(saved(variant, family), first);
    // A restart takes over what is there.
    let report = full(&mut self::backend(variant, family), &snapshot);
    assert_eq!(saved(variant, family), first);
    let written = report.counts.iter().filter(|count| count.written > 0);
    assert_eq!(written.collect::<Vec<_>>(), Vec::<&ObjectCount>::new());
    assert!(block_on(backend.intact()).unwrap());
}

fn partial_equals_full(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let mut samples = every_kind(family);
    let first = snapshot(family, &samples);
    full(&mut backend, &first);
    samples.remove(0);
    samples[1] = samples[1].clone().remote(&endpoint(family, 20));
    let second = snapshot(family, &samples);
    partial(&mut backend, &first, &second);
    samples.remove(3);
    samples[0].service.policy.session_affinity = None;
    samples[2].service.policy.load_balancer_source_ranges.clear();
    samples.push(service("new", &ip(family, 96, 50)).local(&endpoint(family, 21)).node_port(31000));
    let third = snapshot(family, &samples);
    partial(&mut backend, &second, &third);
    assert_eq!(saved(variant, family), saved_after_full(variant, family, &third));
}

/// Enough services to split every list.
pub(crate) fn many_services(family: IpFamily) -> Vec<Sample> {
    (0..900)
        .map(|number| {
            let sample = service(&format!("s{number}"), &ip(family, 96, number * 7));
            let sample = sample.node_port(30000 + number).external_ip(&ip(family, 200, number));
            match number % 3 {
                0 => sample,
                1 => sample.remote(&endpoint(family, number)),
                _ => sample.local(&endpoint(family, number)),
            }
        })
        .collect()
}

fn dispatch_tree(variant: Variant, family: IpFamily) {
    let samples = many_services(family);
    let (all, few) = (snapshot(family, &samples), snapshot(family, &samples[..280]));
    let mut backend = backend(variant, family);
    full(&mut backend, &all);
    let large = saved(variant, family);
    for root in
        ["nat KUBE-SERVICES", "nat KUBE-NODEPORTS", "filter KUBE-SERVICES", "nat KUBE-SEP-HAIRPIN"]
    {
        assert!(large[root].len() <= 20, "{root}: {}", large[root].len());
    }
    partial(&mut backend, &all, &few);
    let small = saved(variant, family);
    partial(&mut backend, &few, &all);
    assert_eq!(saved(variant, family), large);
    partial(&mut backend, &all, &few);
    assert_eq!(saved(variant, family), small);
    // Comments on endpoints depend on the size at the last full sync; nothing else may differ.
    full(&mut backend, &few);
    assert_eq!(saved(variant, family), saved_after_full(variant, family, &few));
    remove(family, InUse::default()).unwrap();
    assert!(!saved(variant, family).keys().any(|chain| chain.contains("KUBE-SVC")));
}

/// Addresses chosen so that each level of the tree holds just enough to need another one below.
fn deep_tree(variant: Variant, family: IpFamily) {
    let bits = match family {
        IpFamily::V4 => 32,
        IpFamily::V6 => 128,
    };
    let mut samples = Vec::new();
    for level in (8..bits - 8).step_by(4) {
        for number in 0..40_u128 {
            // A one in this level, and a number below that.
            let address = 0xfd << (bits - 8) | 1 << (bits - 1 - level) | number;
            let address = match family {
                IpFamily::V4 => Ipv4Addr::from(u32::try_from(address).unwrap()).to_string(),
                IpFamily::V6 => Ipv6Addr::from(address).to_string(),
            };
            samples.push(service(&format!("s{level}-{number}"), &address));
        }
    }
    for number in 0..200_u16 {
        samples.push(service(&format!("t{number}"), &ip(family, 96, number)));
    }
    let all = snapshot(family, &samples);
    let mut backend = backend(variant, family);
    full(&mut backend, &all);
    let rules = saved(variant, family);
    let refused = rules.values().flatten().filter(|rule| rule.contains("has no endpoints"));
    assert_eq!(refused.count(), samples.len());
    let deep = (variant, family) == (Variant::Nft, IpFamily::V6);
    assert_eq!(rules["filter KUBE-SERVICES"].len() == samples.len(), deep);
    // Changes keep to the same shape.
    samples.pop();
    let fewer = snapshot(family, &samples);
    partial(&mut backend, &all, &fewer);
    assert_eq!(saved(variant, family), saved_after_full(variant, family, &fewer));
}

fn takes_over(variant: Variant, family: IpFamily) {
    let (cluster, pod) = (ip(family, 96, 1), endpoint(family, 1));
    restore(
        variant,
        family,
        &format!(
            "*filter\n:KUBE-FIREWALL - [0:0]\n:KUBE-SERVICES - [0:0]\n:MINE - [0:0]\n\
             -I FORWARD 1 -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -I INPUT 1 -j KUBE-FIREWALL\n-A INPUT -p tcp -j MINE\nCOMMIT\n\
             *nat\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n\
             :KUBE-SVC-BBBBBBBBBBBBBBBB - [0:0]\n:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]\n:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]\n:MINE - [0:0]\n\
             -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
             -I PREROUTING 1 -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n\
             -A KUBE-SERVICES -d {cluster} -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA\n\
             -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA\n\
             -A KUBE-SVC-BBBBBBBBBBBBBBBB -j KUBE-SEP-BBBBBBBBBBBBBBBB\n\
             -A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -j DNAT --to-destination {pod}\n\
             -A KUBE-SEP-BBBBBBBBBBBBBBBB -j KUBE-MARK-MASQ\n\
             -A MINE -j KUBE-SVC-BBBBBBBBBBBBBBBB\nCOMMIT\n"
        ),
    );
    let mut backend = backend(variant, family);
    full(&mut backend, &snapshot(family, &every_kind(family)));
    let after = saved(variant, family);
    let stale: Vec<_> =
        after.keys().filter(|chain| chain.contains("AAAA") || chain.contains("SEP-BBBB")).collect();
    assert!(stale.is_empty(), "{stale:?}");
    // A foreign rule leads to it.
    assert_eq!(after["nat KUBE-SVC-BBBBBBBBBBBBBBBB"].len(), 0);
    assert_eq!(after["nat MINE"].len(), 1);
    assert_eq!(after["nat PREROUTING"].len(), 1);
    assert_eq!(after["filter FORWARD"].len(), 4);
    assert_eq!(after["filter INPUT"].len(), 5);
}

fn notices_flush(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let snapshot = snapshot(family, &every_kind(family));
    assert!(!block_on(backend.intact()).unwrap());
    full(&mut backend, &snapshot);
    let before = saved(variant, family);
    let iptables = program(variant, family, "");
    let flushes: [&[&[&str]]; 4] = [
        &[&["-t", "nat", "-F"]],
        &[&["-t", "nat", "-F"], &["-t", "nat", "-X"]],
        &[&["-F"], &["-X"]],
        &[&["-t", "mangle", "-X", "KUBE-PROXY-CANARY"]],
    ];
    for flush in flushes {
        assert!(block_on(backend.intact()).unwrap(), "before {flush:?}");
        for arguments in flush {
            run(&iptables, arguments);
        }
        assert!(!block_on(backend.intact()).unwrap(), "{flush:?}");
        full(&mut backend, &snapshot);
        assert_eq!(saved(variant, family), before, "{flush:?}");
    }
    let mut emptied = 0;
    for (chain, _) in before.iter().filter(|(_, rules)| !rules.is_empty()) {
        let (table, chain) = chain.split_once(' ').unwrap();
        // Those of single services are not looked at.
        let of_service = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];
        let is_root = chain == "KUBE-SEP-HAIRPIN";
        if !is_root && of_service.iter().any(|start| chain.starts_with(start)) {
            continue;
        }
        assert!(block_on(backend.intact()).unwrap(), "before -F {chain}");
        run(&iptables, &["-t", table, "-F", chain]);
        assert!(!block_on(backend.intact()).unwrap(), "-t {table} -F {chain}");
        full(&mut backend, &snapshot);
        assert_eq!(saved(variant, family), before, "-t {table} -F {chain}");
        emptied += 1;
    }
    assert!(emptied >= 18, "{emptied}");
}

fn cleans_up(variant: Variant, family: IpFamily) {
    restore(
        variant,
        family,
        "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n\
         *filter\n:MINE - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -p tcp -j MINE\n\
         -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\n-I INPUT -j KUBE-FIREWALL\n-I OUTPUT -j KUBE-FIREWALL\nCOMMIT\n\
         *nat\n:MINE - [0:0]\n-A PREROUTING -p tcp -m comment --comment \"like -j KUBE-SERVICES\" -j MINE\nCOMMIT\n",
    );
    let before = saved(variant, family);
    let mut backend = backend(variant, family);
    full(&mut backend, &snapshot(family, &every_kind(family)));
    assert_ne!(saved(variant, family), before);
    remove(family, InUse::default()).unwrap();
    assert_eq!(saved(variant, family), before);
    remove(family, InUse::default()).unwrap();
    assert_eq!(saved(variant, family), before);
}

fn leaves_out_refused(variant: Variant, family: IpFamily) {
    let mut backend = backend(variant, family);
    let mut samples = every_kind(family);
    let good = snapshot(family, &samples);
    samples
        .push(service("bad", &ip(family, 96, 99)).remote(&endpoint(family, 99)).affinity(1 << 40));
    let bad = snapshot(family, &samples);
    full(&mut backend, &good);
    let before = saved(variant, family);
    // A partial sync says what is wrong and which line, and changes nothing.
    let changes = changes(&good, &bad);
    let error = block_on(backend.sync(&bad, Scope::Partial(&changes))).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("is: -A KUBE-SVC-") && error.contains("--seconds"), "{error}");
    assert_eq!(saved(variant, family), before);
    // The next sync is full whatever is asked for, and does without the one service.
    let nothing = Changes::default();
    let report = block_on(backend.sync(&bad, Scope::Partial(&nothing))).unwrap();
    assert_eq!(saved(variant, family), before);
    assert_eq!(report.refused, 1);
}
