//! Rules that somebody else removed.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;

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

/// Each damage is noticed within the sync period and repaired completely.
pub(super) fn flushed(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).load_balancer();
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let before = world.rules(mode, family)?;
        for (what, commands) in DAMAGES {
            for command in *commands {
                let arguments: Vec<&str> = command.split(' ').collect();
                world.on_node(&mode.program(family, ""), &arguments)?;
            }
            eventually(GUARD, || {
                let now = world.rules(mode, family)?;
                let missing: Vec<_> = before.iter().filter(|rule| !now.contains(rule)).collect();
                ensure!(
                    missing.is_empty(),
                    "{family}, {what}: {} rules are missing",
                    missing.len()
                );
                ensure!(now.len() == before.len(), "{family}, {what}: too many rules: {now:#?}");
                Ok(())
            });
            works(world.probe(From::Outside), world.node_port(1, family));
            works(world.probe(From::Pod("client")), cluster_address(1, family));
        }
    }
    let said = world.proxy().lines().into_iter().find(|line| line.contains("writing them anew"));
    said.context("no log line says that rules were missing")?;
    Ok(())
}
