//! Nodes whose chains drop by default, and packets that conntrack finds invalid.

use std::net::SocketAddr;

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::pod::{Responder, Serve};

use crate::objects::Svc;
use crate::traffic::{SILENCE, becomes};
use crate::world::{From, Mode, World, cluster_address};

/// Where the node drops what it forwards, NodePorts work all the same.
pub(super) fn forward_drop(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    for family in IpFamily::BOTH {
        world.on_node(&mode.program(family, ""), &["-P", "FORWARD", "DROP"])?;
    }
    world.serve(&Svc::new("far", 1).node_port(), &["remote-1"])?;
    world.serve(&Svc::new("near", 2).load_balancer(), &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), world.node_port(1, family), "remote-1");
        becomes(world.probe(From::Outside), world.node_port(2, family), "local-1");
        // A pod that reaches itself is sent through the node, and let through although nothing marked it on the way in.
        for to in [cluster_address(2, family), world.node_port(2, family)] {
            becomes(world.probe(From::Pod("local-1")), to, "local-1");
        }
        let mut connection = world.probe(From::Outside).connect(world.node_port(1, family))?;
        connection.ping().answer()?;
        // The policy is at work: what is no service traffic does not pass.
        let direct = world.pod("local-1").address(family, crate::world::TARGET);
        let outcome = world.probe(From::Outside).timeout(SILENCE).tcp(direct);
        ensure!(outcome.is_timed_out(), "{family}: {outcome} at a pod, past the policy");
    }
    Ok(())
}

/// Where the node drops what is sent to it, the load balancer's health checks get through.
pub(super) fn input_drop(mode: Mode) -> anyhow::Result<()> {
    const PORT: u16 = 32_000;
    let world = World::new(mode)?;
    let node = world.cluster.node(0);
    let responder = Responder::start(node.netns(), "node")?;
    for family in IpFamily::BOTH {
        let program = mode.program(family, "");
        for rule in ["-A INPUT -i lo -j ACCEPT", "-P INPUT DROP"] {
            world.on_node(&program, &rule.split(' ').collect::<Vec<_>>())?;
        }
        if family == IpFamily::V6 {
            // Neighbours have to be found.
            world.on_node(&program, &["-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT"])?;
        }
        let address = SocketAddr::new(node.ip(family), PORT);
        responder.serve(Serve::Tcp, address)?;
        let outcome = world.probe(From::Outside).timeout(SILENCE).tcp(address);
        ensure!(outcome.is_timed_out(), "{family}: {outcome} before the Service");
    }
    let service =
        Svc::new("web", 1).load_balancer().external_local().with("/spec/healthCheckNodePort", PORT);
    world.serve(&service, &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), SocketAddr::new(node.ip(family), PORT), "node");
    }
    Ok(())
}

/// Packets outside the window are dropped, unless conntrack was told to let them pass.
pub(super) fn invalid_packets(mode: Mode) -> anyhow::Result<()> {
    for (flag, dropped) in
        [("--conntrack-tcp-be-liberal=false", true), ("--conntrack-tcp-be-liberal=true", false)]
    {
        let world = World::with_flags(mode, &[flag])?;
        for family in IpFamily::BOTH {
            let rules = world.on_node(&mode.program(family, ""), &["-S", "KUBE-FORWARD"])?;
            let has =
                rules.lines().any(|rule| rule.contains("INVALID") && rule.ends_with("-j DROP"));
            ensure!(has == dropped, "{flag}, {family}: {rules}");
        }
    }
    Ok(())
}
