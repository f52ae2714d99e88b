//! Rules that another program removed.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::objects::Svc;
use crate::servers::{METRICS, get};
use crate::traffic::works;
use crate::world::{From, GUARD, Mode, World, cluster_address};

/// What others do to the tables, as arguments of `iptables`, one command a line.
const DAMAGES: &[(&str, &[&str])] = &[
    ("nat flushed", &["-t nat -F"]),
    ("nat flushed and deleted", &["-t nat -F", "-t nat -X"]),
    ("filter flushed", &["-t filter -F"]),
    ("filter flushed and deleted", &["-t filter -F", "-t filter -X"]),
    (
        "everything flushed and deleted",
        &["-t mangle -F", "-t nat -F", "-t filter -F", "-t mangle -X", "-t nat -X", "-t filter -X"],
    ),
];

/// Chains that always exist, each of which another program may empty, with their tables.
const CHAINS: [(&str, &str); 12] = [
    ("nat", "KUBE-SERVICES"),
    ("nat", "KUBE-NODEPORTS"),
    ("nat", "KUBE-POSTROUTING"),
    ("nat", "KUBE-MARK-MASQ"),
    ("nat", "KUBE-SEP-HAIRPIN"),
    ("filter", "KUBE-SERVICES"),
    ("filter", "KUBE-EXTERNAL-SERVICES"),
    ("filter", "KUBE-EXTERNAL-NODEPORTS"),
    ("filter", "KUBE-NODEPORTS"),
    ("filter", "KUBE-FORWARD"),
    ("filter", "KUBE-HAIRPIN"),
    ("filter", "KUBE-PROXY-FIREWALL"),
];

/// Each damage is noticed within the sync period and repaired completely.
pub(super) fn flushed(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    fill_every_chain(&world)?;
    let before = [world.rules(mode, IpFamily::V4)?, world.rules(mode, IpFamily::V6)?];
    for (family, before) in IpFamily::BOTH.into_iter().zip(&before) {
        for (what, commands) in DAMAGES {
            for command in *commands {
                let arguments: Vec<&str> = command.split(' ').collect();
                world.on_node(&mode.program(family, ""), &arguments)?;
            }
            is_repaired(&world, mode, family, before, what);
            works(world.probe(From::Outside), world.node_port(1, family));
            works(world.probe(From::Pod("client")), cluster_address(1, family));
        }
    }
    for (table, chain) in CHAINS {
        for (family, before) in IpFamily::BOTH.into_iter().zip(&before) {
            let start = format!("{table} -A {chain} ");
            ensure!(before.iter().any(|rule| rule.starts_with(&start)), "{table} {chain} is empty");
            world.on_node(&mode.program(family, ""), &["-t", table, "-F", chain])?;
        }
        for (family, before) in IpFamily::BOTH.into_iter().zip(&before) {
            is_repaired(&world, mode, family, before, &format!("{table} {chain} emptied"));
        }
    }
    let said = world.proxy().lines().into_iter().find(|line| line.contains("writing them again"));
    said.context("no log line says that rules were missing")?;
    Ok(())
}

/// Services because of which none of [`CHAINS`] is empty.
fn fill_every_chain(world: &World) -> anyhow::Result<()> {
    world.serve(&Svc::new("web", 1).load_balancer(), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("empty", 2).load_balancer(), &[])?;
    let guarded = Svc::new("guarded", 3)
        .load_balancer()
        .external_local()
        .with("/spec/healthCheckNodePort", 32_000)
        .with("/spec/loadBalancerSourceRanges", json!(["192.0.2.0/24", "2001:db8::/64"]));
    world.serve(&guarded, &["local-1"])?;
    world.settle()
}

fn is_repaired(world: &World, mode: Mode, family: IpFamily, before: &[String], what: &str) {
    eventually(GUARD, || {
        let now = world.rules(mode, family)?;
        let missing: Vec<_> = before.iter().filter(|rule| !now.contains(rule)).collect();
        ensure!(missing.is_empty(), "{family}, {what}: missing: {missing:#?}");
        ensure!(now.len() == before.len(), "{family}, {what}: too many rules: {now:#?}");
        Ok(())
    });
}

/// What others do to our nftables table, as arguments of `nft`; `{ip}` is the family, `{address}` the cluster IP of `web`.
const NFTABLES_DAMAGES: &[&str] = &[
    "flush ruleset",
    "delete table {ip} kube-proxy",
    "flush chain {ip} kube-proxy services",
    "insert rule {ip} kube-proxy nat-prerouting accept",
    "add chain {ip} kube-proxy foreign",
    "delete element {ip} kube-proxy frontend-ips { {address} . tcp . 80 }",
    "delete element {ip} kube-proxy cluster-endpoints { {address} . tcp . 80 . 1 }",
    "add element {ip} kube-proxy unserved-ips { {address} . tcp . 80 : drop }",
];

/// Each damage is repaired at once: the sync period is so long that nothing else would find it.
pub(super) fn noticed(mode: Mode) -> anyhow::Result<()> {
    let nets = kube_proxy_testkit::cluster::plan::cluster_net();
    let cidrs = format!("--cluster-cidr={},{}", nets.v4, nets.v6);
    let world = World::with_flags(mode, &[&cidrs, "--iptables-sync-period=1h"])?;
    world.serve(&Svc::new("web", 1).load_balancer(), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("empty", 2).load_balancer(), &[])?;
    world.settle()?;
    // A table that is made again has chains to spare, for the services that there are then.
    world.on_node("nft", &["flush ruleset"])?;
    eventually(GUARD, || {
        let now = ruleset(&world)?;
        let tables = ["table ip kube-proxy {", "table ip6 kube-proxy {"];
        ensure!(tables.iter().all(|table| now.contains(table)), "not repaired:\n{now}");
        Ok(())
    });
    let before = ruleset(&world)?;
    for family in IpFamily::BOTH {
        let name = if family == IpFamily::V4 { "ip" } else { "ip6" };
        let address = cluster_address(1, family).ip().to_string();
        for damage in NFTABLES_DAMAGES {
            let damage = damage.replace("{ip}", name).replace("{address}", &address);
            world.on_node("nft", &[&damage])?;
            eventually(GUARD, || {
                let now = ruleset(&world)?;
                ensure!(now == before, "{damage}: not repaired:\n{now}");
                Ok(())
            });
            works(world.probe(From::Outside), world.node_port(1, family));
            works(world.probe(From::Pod("client")), cluster_address(1, family));
        }
    }
    // Each was noticed; what the proxy wrote itself was not.
    let lines = world.proxy().lines();
    let noticed = lines.iter().filter(|line| line.contains("writing them again")).count();
    let damages = 2 * NFTABLES_DAMAGES.len();
    // The ruleset of both families was flushed three times.
    let most = damages + 4;
    ensure!(noticed >= damages && noticed <= most, "{noticed} looks for {damages} damages");
    let counted = drift_repairs(&world)?;
    ensure!(counted == noticed, "{counted} counted, {noticed} logged");
    Ok(())
}

/// Repairs of both families, as the metric counts them.
fn drift_repairs(world: &World) -> anyhow::Result<usize> {
    let text = get(world, METRICS, "/metrics")?.body;
    let lines = text.lines().filter(|line| line.starts_with("kubeproxy_drift_repairs_total{"));
    let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<usize>());
    Ok(values.sum::<Result<usize, _>>()?)
}

/// The ruleset without what traffic changes, in an order of its own.
fn ruleset(world: &World) -> anyhow::Result<String> {
    let text = world.on_node("nft", &["--stateless", "list", "ruleset"])?;
    let mut lines: Vec<_> = text.lines().map(|line| line.trim_matches([' ', '\t', ','])).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}
