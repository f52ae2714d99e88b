//! Rules that somebody else removed.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::objects::Svc;
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

/// Chains that always exist, each of which somebody may empty, with their tables.
const CHAINS: [(&str, &str); 12] = [
    ("nat", "KUBE-SERVICES"),
    ("nat", "KUBE-NODEPORTS"),
    ("nat", "KUBE-POSTROUTING"),
    ("nat", "KUBE-MARK-MASQ"),
    ("nat", "KUBE-HAIRPIN"),
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
    let said = world.proxy().lines().into_iter().find(|line| line.contains("writing them anew"));
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
