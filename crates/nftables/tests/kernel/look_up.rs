//! What the table holds for one frontend, object by object: named by the exact key, at a cost that other Services do not change.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::{Frontend, FrontendQuery, IpFamily, Protocol, ServicePortName};
use libtest_mimic::Trial;

use crate::repair::world;
use crate::trial;
use crate::world::{Svc, World};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("look_up::all_is_as_wanted", all_is_as_wanted),
        trial("look_up::each_damage_is_named", each_damage_is_named),
        trial("look_up::what_is_in_the_way_is_named", in_the_way),
        trial("look_up::chains_of_the_way_are_looked_at", chains_of_the_way),
        trial("look_up::other_services_cost_nothing", other_services_cost_nothing),
        trial("look_up::many_slots_take_few_messages", many_slots),
    ]
}

/// Asks for the TCP port of a Service at an address, or at a node port of that number.
pub(crate) fn query(svc: Svc, to: SocketAddr) -> FrontendQuery {
    let service =
        ServicePortName { service: svc.name(), port: "tcp".into(), protocol: Protocol::Tcp };
    let frontend = if to.port() == svc.node_port_number() {
        Frontend::NodePort(Protocol::Tcp, to.port())
    } else {
        Frontend::Address(Protocol::Tcp, to)
    };
    FrontendQuery::new(service, frontend, to)
}

fn frontends(svc: Svc, family: IpFamily) -> [SocketAddr; 4] {
    let [external, vip, node_port] = svc.external(family);
    [svc.cluster_ip(family), external, vip, node_port]
}

/// What is not as it should be.
fn wrong(world: &mut World, svc: Svc, to: SocketAddr) -> anyhow::Result<Vec<String>> {
    let mut lines = world.look_up(&query(svc, to))?;
    lines.retain(|line| {
        ["missing ", "different ", "in the way: ", "not known: "]
            .iter()
            .any(|s| line.starts_with(s))
    });
    Ok(lines)
}

fn all_is_as_wanted() -> anyhow::Result<()> {
    let mut world = world()?;
    // With endpoints, under policy Local with affinity and source ranges, and without endpoints.
    for svc in [1, 2, 3].map(Svc) {
        for family in IpFamily::BOTH {
            let before = world.ruleset()?;
            for to in frontends(svc, family) {
                let lines = world.look_up(&query(svc, to))?;
                ensure!(lines.len() > 4, "{to}: {lines:#?}");
                let wrong = wrong(&mut world, svc, to)?;
                ensure!(wrong.is_empty(), "{to}: {wrong:#?}");
            }
            ensure!(world.ruleset()? == before, "it changed something");
        }
    }
    let v4 = world.look_up(&query(Svc(1), Svc(1).cluster_ip(IpFamily::V4)))?;
    let ip = Svc(1).cluster_ip(IpFamily::V4).ip();
    let has = |start: String| v4.iter().any(|line| line.starts_with(&start));
    ensure!(has(format!("element frontend-ips: {ip} . tcp . 80 : goto masq-outside-cluster-3")));
    for slot in 0..3 {
        ensure!(has(format!("element cluster-endpoints: {ip} . tcp . 80 . {slot} : ")), "{v4:#?}");
    }
    ensure!(has("chain cluster-3".to_owned()) && has("chain services".to_owned()), "{v4:#?}");
    ensure!(!v4.iter().any(|line| line.contains("udp")), "{v4:#?}");
    Ok(())
}

/// The table of a family as `nft` names it.
fn table(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip kube-proxy",
        IpFamily::V6 => "ip6 kube-proxy",
    }
}

fn each_damage_is_named() -> anyhow::Result<()> {
    let mut world = world()?;
    for family in IpFamily::BOTH {
        let table = table(family);
        let [cluster, external, vip, node_port] = frontends(Svc(2), family);
        let one = Svc(1).cluster_ip(family);
        let key = |to: SocketAddr| format!("{} . tcp . {}", to.ip(), to.port());
        let number = node_port.port();
        let other = if family == IpFamily::V4 { "10.9.9.9" } else { "fd09::9" };
        let (first, second) = (format!("{} . 0", key(one)), format!("{} . 2", key(one)));
        let sources = world.nft(&format!("list set {table} firewall-sources"))?;
        let source = sources.lines().find(|line| line.contains(&key(vip))).context("sources")?;
        let source =
            source.trim().trim_start_matches("elements = {").trim().trim_matches([',', '}']);
        let source = source.trim().to_owned();
        let missing = |set: &str, key: &str| format!("missing element {set}: {key}");
        let cases: Vec<(SocketAddr, Svc, Vec<String>, String)> = vec![
            (
                one,
                Svc(1),
                vec![format!("frontend-ips {{ {} }}", key(one))],
                missing("frontend-ips", &key(one)),
            ),
            (
                one,
                Svc(1),
                vec![format!("cluster-endpoints {{ {first} }}")],
                missing("cluster-endpoints", &first),
            ),
            (
                one,
                Svc(1),
                vec![format!("cluster-endpoints {{ {second} }}")],
                missing("cluster-endpoints", &second),
            ),
            (
                external,
                Svc(2),
                vec![format!("short-circuit-ips {{ {} }}", key(external))],
                missing("short-circuit-ips", &key(external)),
            ),
            (
                vip,
                Svc(2),
                vec![format!("firewall-addresses {{ {} }}", key(vip))],
                missing("firewall-addresses", &key(vip)),
            ),
            (
                vip,
                Svc(2),
                vec![format!("firewall-sources {{ {source} }}")],
                missing("firewall-sources", &key(vip)),
            ),
            (
                cluster,
                Svc(2),
                vec![format!("sticky-ips {{ {} }}", key(cluster))],
                missing("sticky-ips", &key(cluster)),
            ),
            (
                node_port,
                Svc(2),
                vec![format!("frontend-nodeports {{ tcp . {number} }}")],
                missing("frontend-nodeports", &format!("tcp . {number}")),
            ),
            (
                node_port,
                Svc(2),
                vec![format!("nodeport-addresses {{ {} }}", node_port.ip())],
                missing("nodeport-addresses", &node_port.ip().to_string()),
            ),
            (
                Svc(3).cluster_ip(family),
                Svc(3),
                vec![format!("unserved-ips {{ {} }}", key(Svc(3).cluster_ip(family)))],
                missing("unserved-ips", &key(Svc(3).cluster_ip(family))),
            ),
        ];
        for (to, svc, elements, expected) in cases {
            for element in &elements {
                world.nft(&format!("delete element {table} {element}"))?;
            }
            let found = wrong(&mut world, svc, to)?;
            ensure!(found.len() == 1 && found[0].starts_with(&expected), "{expected}: {found:#?}");
            // What serves another frontend is another matter.
            let others = wrong(&mut world, Svc(1), Svc(1).external_ip(family))?;
            ensure!(others.is_empty(), "{expected}: {others:#?}");
            world.full_sync()?;
            ensure!(wrong(&mut world, svc, to)?.is_empty(), "{expected}: not repaired");
        }
        // Altered: the same key leads elsewhere.
        world.nft(&format!("delete element {table} cluster-endpoints {{ {second} }}"))?;
        world
            .nft(&format!("add element {table} cluster-endpoints {{ {second} : {other} . 99 }}"))?;
        let found = wrong(&mut world, Svc(1), one)?;
        let expected = format!("different element cluster-endpoints: {second} : ");
        ensure!(found.len() == 1 && found[0].starts_with(&expected), "{found:#?}");
        let actual = format!("there is cluster-endpoints: {second} : {other} . 99");
        ensure!(found[0].ends_with(&actual), "{actual}: {found:#?}");
        world.full_sync()?;
    }
    Ok(())
}

/// Another program's element in a set that is looked at before ours.
fn in_the_way() -> anyhow::Result<()> {
    let mut world = world()?;
    for family in IpFamily::BOTH {
        let table = table(family);
        let (to, number) = (Svc(1).cluster_ip(family), Svc(1).node_port_number());
        let key = format!("{} . tcp . 80", to.ip());
        world.nft(&format!("add element {table} unserved-ips {{ {key} : drop }}"))?;
        world
            .nft(&format!("add element {table} loopback-nodeports {{ tcp . {number} : drop }}"))?;
        let found = wrong(&mut world, Svc(1), to)?;
        let expected = format!("in the way: element unserved-ips: {key} : drop");
        ensure!(found == [expected], "{found:#?}");
        let found = wrong(&mut world, Svc(1), Svc(1).node_port(family))?;
        let expected = format!("in the way: element loopback-nodeports: tcp . {number} : drop");
        ensure!(found == [expected], "{found:#?}");
        world.full_sync()?;
    }
    Ok(())
}

/// Rules and chains, of the service port and of all.
fn chains_of_the_way() -> anyhow::Result<()> {
    let mut world = world()?;
    let to = Svc(1).cluster_ip(IpFamily::V4);
    let table = table(IpFamily::V4);
    for (damage, expected) in [
        (
            "insert rule TABLE services drop",
            "different chain services, there is one with 5 rules instead of 4, 1 by another program",
        ),
        (
            "flush chain TABLE nat-prerouting",
            "different chain nat-prerouting, there is one without rules",
        ),
        (
            "insert rule TABLE cluster-3 accept",
            "different chain cluster-3, there is one with 2 rules instead of 1, 1 by another program",
        ),
    ] {
        world.nft(&damage.replace("TABLE", table))?;
        let found = wrong(&mut world, Svc(1), to)?;
        ensure!(found == [expected], "{damage}: {found:#?}");
        // Elsewhere in the table, that is of no interest here.
        let refused = wrong(&mut world, Svc(3), Svc(3).cluster_ip(IpFamily::V4))?;
        ensure!(refused.is_empty(), "{damage}: {refused:#?}");
        world.full_sync()?;
    }
    world.nft(&format!("flush chain {table} filter-output"))?;
    world.nft(&format!("delete chain {table} filter-output"))?;
    let found = wrong(&mut world, Svc(3), Svc(3).cluster_ip(IpFamily::V4))?;
    ensure!(found == ["missing chain filter-output"], "{found:#?}");
    world.nft(&format!(
        "add chain {table} filter-output {{ type filter hook output priority 9 ; }}"
    ))?;
    let found = wrong(&mut world, Svc(3), Svc(3).cluster_ip(IpFamily::V4))?;
    ensure!(
        found.len() == 1 && found[0].starts_with("different chain filter-output"),
        "{found:#?}"
    );
    world.nft(&format!("delete table {table}"))?;
    let found = wrong(&mut world, Svc(1), to)?;
    ensure!(found == ["missing table kube-proxy"], "{found:#?}");
    Ok(())
}

/// How many messages each look-up takes.
fn messages(world: &mut World) -> anyhow::Result<Vec<u32>> {
    let mut counts = Vec::new();
    for (svc, family) in [1, 2, 3].map(Svc).into_iter().zip(IpFamily::BOTH.into_iter().cycle()) {
        for to in frontends(svc, family) {
            let before = world.last_message(family);
            world.look_up(&query(svc, to))?;
            counts.push(world.last_message(family) - before);
        }
    }
    Ok(counts)
}

fn other_services_cost_nothing() -> anyhow::Result<()> {
    let mut world = world()?;
    let few = messages(&mut world)?;
    ensure!(few.iter().all(|count| (10..60).contains(count)), "{few:?}");
    for number in 4..=200 {
        world.set(Svc(number).everything());
        world.endpoints(Svc(number), &["a", "c"]);
    }
    world.sync()?;
    let many = messages(&mut world)?;
    ensure!(many == few, "{many:?} messages, with fewer Services {few:?}");
    Ok(())
}

/// Slots are asked for together; each that is missing costs one more message.
fn many_slots() -> anyhow::Result<()> {
    let mut world = world()?;
    let (family, to) = (IpFamily::V4, Svc(1).cluster_ip(IpFamily::V4));
    let count = |world: &mut World| -> anyhow::Result<u32> {
        let before = world.last_message(family);
        world.look_up(&query(Svc(1), to))?;
        Ok(world.last_message(family) - before)
    };
    world.weighted(Svc(1), &[("a", 99), ("b", 100), ("c", 1)]);
    world.sync()?;
    let whole = count(&mut world)?;
    ensure!(wrong(&mut world, Svc(1), to)?.is_empty());
    for slot in [0, 7, 8, 199] {
        let key = format!("{} . tcp . 80 . {slot}", to.ip());
        world.nft(&format!("delete element ip kube-proxy cluster-endpoints {{ {key} }}"))?;
    }
    let found = wrong(&mut world, Svc(1), to)?;
    let numbers: Vec<_> =
        found.iter().filter_map(|line| line.split(" . ").nth(3)?.split(' ').next()).collect();
    ensure!(numbers == ["0", "7", "8", "199"], "{found:#?}");
    let damaged = count(&mut world)?;
    ensure!(damaged <= whole + 4, "{damaged} messages, {whole} before");
    world.weighted(Svc(1), &[("a", 1), ("b", 1), ("c", 1)]);
    world.full_sync()?;
    ensure!(count(&mut world)? == whole, "as many for 200 slots as for 3");
    Ok(())
}
