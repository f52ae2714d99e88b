//! Two proxies at the same time, each in the network namespace of its node: same ports, same lock of iptables, other rules.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::KubeProxy;

use crate::PerMode;
use crate::objects::Svc;
use crate::packets::cluster_cidr;
use crate::traffic::becomes;
use crate::world::{From, GUARD, Mode, NODE, OTHER_NODE, World, api_at, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[("neighbours/two-nodes-at-once", two_nodes)];

/// Services that come at once, so that both write at the same time.
const SERVICES: std::ops::RangeInclusive<u8> = 2..=20;

fn two_nodes(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[&cluster_cidr()])?;
    // Both have to reach it.
    world.api = api_at(&world.cluster, world.cluster.node(0).ip(IpFamily::V4))?;
    world.source = vec![format!("--master={}", world.api.url())];
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    let first = world.command()?;
    let mut second = Command::new(first.get_program());
    let own_name = format!("--hostname-override={NODE}");
    second.args(first.get_args().filter(|argument| *argument != own_name.as_str()));
    second.arg(format!("--hostname-override={OTHER_NODE}"));
    let other = world.cluster.node(1);
    let mut neighbour = KubeProxy::start(other.netns(), second)?;
    world.start_without_waiting(first)?;
    check_both(&world, 1);
    for number in SERVICES {
        world.serve(&Svc::new(&format!("web-{number}"), number).node_port(), &["local-1"])?;
    }
    for number in SERVICES {
        check_both(&world, number);
    }
    let other = world.cluster.node(1);
    let health = SocketAddr::from(([127, 0, 0, 1], 10_256));
    for probe in [world.probe(From::Node), other.probe()] {
        eventually(GUARD, || {
            let answer = probe.http_get(health, "/healthz")?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        });
    }
    for lines in [world.proxy().lines(), neighbour.lines()] {
        let complaints: Vec<_> = lines.into_iter().filter(|l| l.contains(" ERROR ")).collect();
        ensure!(complaints.is_empty(), "{complaints:#?}");
    }
    // The end of one is nothing to the other.
    world.stop()?;
    world.serve(&Svc::new("web", 1).node_port(), &["remote-1"])?;
    let other = world.cluster.node(1);
    for family in IpFamily::BOTH {
        becomes(other.probe(), cluster_address(1, family), "remote-1");
        // In userspace mode connections end with the process that copies them.
        if mode != Mode::Userspace {
            ensure!(world.probe(From::Node).tcp(cluster_address(2, family)).is_answer());
        }
    }
    ensure!(neighbour.is_running(), "{:#?}", neighbour.lines());
    Ok(())
}

/// The Service is reached from both nodes, and from outside at both.
fn check_both(world: &World, number: u8) {
    for family in IpFamily::BOTH {
        for node in world.cluster.nodes() {
            becomes(node.probe(), cluster_address(number, family), "local-1");
            let port = world.node_port(number, family).port();
            let address = SocketAddr::new(node.ip(family), port);
            becomes(world.probe(From::Outside), address, "local-1");
        }
    }
}
