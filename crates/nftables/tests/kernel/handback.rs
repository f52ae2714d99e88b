//! Back to the Go kube-proxy: its first transaction over a table of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::ensure;
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses, Protocol};
use libtest_mimic::Trial;

use crate::listing::shapes;
use crate::trial;
use crate::world::{SILENCE, Svc, TARGET, World, config, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("handback::the_go_version_takes_over", takes_over)]
}

/// The Service that the Go version serves afterwards, with another endpoint than before.
const ONE: Svc = Svc(1);
/// One with affinity and source ranges, which it does not serve.
const OTHER: Svc = Svc(2);

/// How the names of chains and sets begin that only ours has.
const OURS: [&str; 10] = [
    "cluster-",
    "local-",
    "nodeport-",
    "masq-",
    "remember-",
    "sessions",
    "short-circuit",
    "@loopback-",
    "@unserved-",
    "@firewall-dropped",
];

fn takes_over() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "c")])?;
    shapes(&mut world);
    let detectors = [None, Some(LocalTrafficDetector::None)];
    for (limited, detector) in [true, false].into_iter().zip(detectors) {
        world.restart_with(|with| {
            *with = config(with.family);
            with.masquerade_all = detector.is_some();
            with.local_traffic = detector.clone().unwrap_or(with.local_traffic.clone());
            if !limited {
                with.node_ports = NodePortAddresses::All;
                with.refused_on_loopback = vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
            }
        })?;
        world.sync()?;
        for family in IpFamily::BOTH {
            // Sessions and connections of ours.
            for to in [OTHER.cluster_ip(family), OTHER.node_port(family), ONE.vip(family)] {
                world.cluster.client().probe().spread(to, 3);
            }
            let file = std::env::temp_dir().join("go.nft");
            std::fs::write(&file, first_transaction(&world, family, limited))?;
            world.nft(&format!("-f {}", file.display()))?;
        }
        ensure_theirs(&world)?;
        // Theirs is of another layout: replaced as a whole.
        let last = world.full_sync()?;
        ensure!(last.v4.transactions >= 1 && last.v6.transactions >= 1, "{last:?}");
        let again = world.ruleset()?;
        ensure!(!again.contains("ABCDEFGH"), "{again}");
        for family in IpFamily::BOTH {
            let met = world.cluster.client().probe().spread(ONE.cluster_ip(family), 6);
            ensure!(!met.pods.contains_key("c") && met.failures.is_empty(), "{met}");
        }
        ensure_nothing_sent(world.full_sync()?)?;
    }
    Ok(())
}

fn ensure_theirs(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let client = world.cluster.client().probe();
        for to in [ONE.cluster_ip(family), ONE.node_port(family)] {
            let met = client.spread(to, 6);
            let pods: Vec<_> = met.pods.keys().map(String::as_str).collect();
            ensure!(pods == ["c"] && met.failures.is_empty(), "{to}: {met}");
        }
        for to in [OTHER.vip(family), OTHER.external_ip(family), OTHER.node_port(family)] {
            let outcome = client.timeout(SILENCE).tcp(to);
            ensure!(!outcome.is_answer(), "{to} is not served any more: {outcome}");
        }
        let table = if family == IpFamily::V4 { "ip" } else { "ip6" };
        let reached = reached(&world.nft(&format!("list table {table} kube-proxy"))?);
        let ours = |name: &&String| {
            OURS.iter().any(|start| name.starts_with(start))
                && !["cluster-ips-check", "nodeport-endpoints-check"].contains(&name.as_str())
        };
        let left: Vec<_> = reached.iter().filter(ours).collect();
        ensure!(left.is_empty(), "{left:?} of ours");
        ensure!(reached.contains("service-ABCDEFGH-test/svc-1/tcp/tcp"), "{reached:?}");
    }
    Ok(())
}

/// The chains of a listed table that a packet can get to.
fn reached(listing: &str) -> BTreeSet<String> {
    let mut leads: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut hooked = Vec::new();
    let mut block = String::new();
    for line in listing.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["chain", name, "{"] => (*name).clone_into(&mut block),
            ["map" | "set", name, "{"] => block = format!("@{name}"),
            ["type", _, "hook", ..] => hooked.push(block.clone()),
            _ => {}
        }
        for pair in words.windows(2) {
            if let ["jump" | "goto" | "vmap", to] = pair {
                let to = to.trim_end_matches(',').to_owned();
                leads.entry(block.clone()).or_default().push(to);
            }
        }
    }
    let mut reached = BTreeSet::new();
    while let Some(name) = hooked.pop() {
        if reached.insert(name.clone()) {
            hooked.extend(leads.get(&name).into_iter().flatten().cloned());
        }
    }
    reached
}

/// What the Go version sends at its start, by the names and types that it documents, for one Service with one endpoint.
fn first_transaction(world: &World, family: IpFamily, limited: bool) -> String {
    let (ip, kind) = match family {
        IpFamily::V4 => ("ip", "ipv4_addr"),
        IpFamily::V6 => ("ip6", "ipv6_addr"),
    };
    let table = format!("{ip} kube-proxy");
    let mut text = format!("add table {table} {{ comment \"rules for kube-proxy\" ; }}\n");
    for (name, of) in [
        ("filter-prerouting-pre-dnat", "filter hook prerouting priority -110"),
        ("filter-output-pre-dnat", "filter hook output priority -110"),
        ("filter-input", "filter hook input priority 0"),
        ("filter-forward", "filter hook forward priority 0"),
        ("filter-output", "filter hook output priority 0"),
        ("nat-prerouting", "nat hook prerouting priority -100"),
        ("nat-output", "nat hook output priority -100"),
        ("nat-postrouting", "nat hook postrouting priority 100"),
    ] {
        let add = format!("add chain {table} {name} {{ type {of} ; }}\n");
        let _ = write!(text, "{add}delete chain {table} {name}\n{add}");
    }
    for name in [
        "services",
        "service-endpoints-check",
        "nodeport-endpoints-check",
        "firewall-check",
        "cluster-ips-check",
        "masquerading",
        "mark-for-masquerade",
        "reject-chain",
    ] {
        let _ = writeln!(text, "add chain {table} {name}\nflush chain {table} {name}");
    }
    text += &sets(&table, kind, limited);
    text + &rules(world, &table, family, limited)
}

fn sets(table: &str, kind: &str, limited: bool) -> String {
    let address = format!("{kind} . inet_proto . inet_service");
    let port = "inet_proto . inet_service".to_owned();
    let mut text = String::new();
    for (what, name, of) in [
        ("set", "cluster-ips", kind.to_owned()),
        ("set", "hairpin-connections", format!("{kind} . {address}")),
        ("map", "service-ips", format!("{address} : verdict")),
        ("map", "service-nodeports", format!("{port} : verdict")),
        ("map", "no-endpoint-services", format!("{address} : verdict")),
        ("map", "no-endpoint-nodeports", format!("{port} : verdict")),
        ("map", "firewall-ips", format!("{address} : verdict")),
    ] {
        let _ = writeln!(text, "add {what} {table} {name} {{ type {of} ; comment \"theirs\" ; }}");
        let _ = writeln!(text, "flush {what} {table} {name}");
    }
    let _ = writeln!(text, "add set {table} nodeport-ips {{ type {kind} ; }}");
    let end = if limited { "flush" } else { "delete" };
    text + &format!("{end} set {table} nodeport-ips\n")
}

fn rules(world: &World, table: &str, family: IpFamily, limited: bool) -> String {
    let ip = if family == IpFamily::V4 { "ip" } else { "ip6" };
    let one = ONE.cluster_ip(family).ip();
    let endpoint: SocketAddr = world.pod("c").address(family, TARGET);
    let (service, target) =
        ("service-ABCDEFGH-test/svc-1/tcp/tcp", "endpoint-ABCDEFGH-test/svc-1/tcp/tcp__x/8080");
    let key = format!("{ip} daddr . meta l4proto . th dport");
    let node_port = if limited {
        format!("{ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports")
    } else {
        "fib daddr type local meta l4proto . th dport vmap @service-nodeports".to_owned()
    };
    let mut text = String::new();
    for chain in [service, target] {
        let _ = writeln!(text, "add chain {table} {chain}\nflush chain {table} {chain}");
    }
    for (chain, rule) in [
        ("filter-input", "ct state new jump nodeport-endpoints-check"),
        ("filter-input", "ct state new jump service-endpoints-check"),
        ("filter-forward", "ct state new jump service-endpoints-check"),
        ("filter-output", "ct state new jump service-endpoints-check"),
        ("filter-prerouting-pre-dnat", "ct state new jump firewall-check"),
        ("filter-output-pre-dnat", "ct state new jump firewall-check"),
        ("filter-forward", "ct state new jump cluster-ips-check"),
        ("filter-output", "ct state new jump cluster-ips-check"),
        ("nat-output", "jump services"),
        ("nat-prerouting", "jump services"),
        ("nat-postrouting", "jump masquerading"),
        ("masquerading", "mark and 0x4000 == 0 return"),
        ("masquerading", "mark set mark xor 0x4000"),
        ("masquerading", "masquerade fully-random"),
        ("mark-for-masquerade", "mark set mark or 0x4000"),
        ("reject-chain", "reject"),
        ("firewall-check", &format!("{key} vmap @firewall-ips")),
        ("service-endpoints-check", &format!("{key} vmap @no-endpoint-services")),
        ("cluster-ips-check", &format!("{ip} daddr @cluster-ips reject")),
        ("services", &format!("{key} vmap @service-ips")),
        ("services", &node_port),
        (service, "jump mark-for-masquerade"),
        (service, &format!("numgen random mod 1 vmap {{ 0 : goto {target} }}")),
        (target, &format!("meta l4proto tcp dnat to {endpoint}")),
    ] {
        let _ = writeln!(text, "add rule {table} {chain} {rule}");
    }
    if limited {
        let address = ONE.node_port(family).ip();
        let _ = writeln!(text, "add element {table} nodeport-ips {{ {address} }}");
    }
    let port = ONE.node_port_number();
    text + &format!(
        "add element {table} cluster-ips {{ {one} }}
        add element {table} service-ips {{ {one} . tcp . 80 : goto {service} }}
        add element {table} service-nodeports {{ tcp . {port} : goto {service} }}\n"
    )
}
