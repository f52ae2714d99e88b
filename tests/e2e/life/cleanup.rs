//! `--cleanup`.

use anyhow::ensure;
use kube_proxy_core::IpFamily;

use crate::objects::Svc;
use crate::traffic::becomes;
use crate::world::{From, Mode, World, cluster_address};

/// Rules and chains of others, among them one that uses a chain of ours by name only.
const FOREIGN: &[&str] = &[
    "-t nat -N FOREIGN",
    "-t nat -A FOREIGN -p tcp --dport 9 -j RETURN",
    "-t nat -A PREROUTING -j FOREIGN",
    "-t nat -A POSTROUTING -p tcp --dport 9 -j MASQUERADE",
    "-t filter -N KUBERNETES-LIKE",
    "-t filter -A KUBERNETES-LIKE -j RETURN",
    "-t filter -A FORWARD -m comment --comment KUBE-SERVICES -j KUBERNETES-LIKE",
    "-t filter -N KUBE-FIREWALL",
    "-t filter -A INPUT -j KUBE-FIREWALL",
    "-t filter -A OUTPUT -j KUBE-FIREWALL",
    "-t mangle -N KUBE-IPTABLES-HINT",
    "-t mangle -N KUBE-KUBELET-CANARY",
];

/// Runs `--cleanup` on the node to a good end.
pub(crate) fn run(world: &World) -> anyhow::Result<()> {
    let command = world.command()?;
    let mut arguments: Vec<&str> = command.get_args().filter_map(|a| a.to_str()).collect();
    arguments.push("--cleanup");
    world.on_node(&command.get_program().to_string_lossy(), &arguments)?;
    Ok(())
}

fn foreign(world: &World, mode: Mode) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        for rule in FOREIGN {
            world.on_node(&mode.program(family, ""), &rule.split(' ').collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn rules(world: &World, mode: Mode) -> anyhow::Result<Vec<String>> {
    Ok([world.rules(mode, IpFamily::V4)?, world.rules(mode, IpFamily::V6)?].concat())
}

/// Everything of ours goes, nothing of others; a second run finds nothing, and a new start serves again.
pub(super) fn removes_ours_only(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    foreign(&world, mode)?;
    // A table comes into being when a program lists it.
    for family in IpFamily::BOTH {
        for table in ["nat", "filter", "mangle"] {
            world.on_node(&mode.program(family, ""), &["-t", table, "-S"])?;
        }
    }
    let before = rules(&world, mode)?;
    world.start()?;
    world.serve(&everything(), &["local-1", "local-2", "remote-1"])?;
    world.settle()?;
    world.stop()?;
    ensure!(rules(&world, mode)?.len() > before.len() + 20, "the proxy wrote rules");
    for run_number in 1..=2 {
        run(&world)?;
        let after = rules(&world, mode)?;
        ensure!(after == before, "run {run_number}: {after:#?}\ninstead of {before:#?}");
    }
    world.start()?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Pod("client")), cluster_address(200, family), "local-1");
    }
    Ok(())
}

/// A Service that needs chains of every kind.
fn everything() -> Svc {
    Svc::new("web", 1)
        .load_balancer()
        .external_ips()
        .external_local()
        .affinity(100)
        .with("/spec/loadBalancerSourceRanges", vec!["192.0.2.0/24", "2001:db8:192::/64"])
        .with("/spec/healthCheckNodePort", 32_000)
}

/// Rules that an earlier run wrote with the other iptables would see every packet a second time.
pub(super) fn removes_other_variant(mode: Mode) -> anyhow::Result<()> {
    let other = Mode::ALL
        .into_iter()
        .find(|other| other.is_iptables() && *other != mode)
        .expect("there are two");
    let mut world = World::new(other)?;
    world.serve(&everything(), &["local-1", "local-2", "remote-1"])?;
    world.settle()?;
    world.stop()?;
    world.use_mode(mode);
    run(&world)?;
    let left: Vec<String> = rules(&world, other)?
        .into_iter()
        .filter(|rule| rule.contains("KUBE-") && !rule.contains("KUBE-FIREWALL"))
        .collect();
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}
