//! What the node holds for one frontend: sockets and rules, each by itself.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;

use anyhow::ensure;
use kube_proxy_core::{Frontend, FrontendQuery, IpFamily, Protocol, ServicePortName};
use kube_proxy_xtables::Variant;

use crate::Test;
use crate::world::{Options, World, address_of, node_ip, service, service_address};

pub(crate) const TESTS: &[Test] =
    &[("look-up/nft", || both(Variant::Nft)), ("look-up/legacy", || both(Variant::Legacy))];

const NODE_PORT: u16 = 30_001;

fn both(variant: Variant) -> anyhow::Result<()> {
    IpFamily::BOTH.into_iter().try_for_each(|family| looked_up(variant, family))
}

fn query(world: &World, to: SocketAddr) -> FrontendQuery {
    let names = world.snapshot.services.keys();
    let name: &ServicePortName =
        names.into_iter().find(|name| *name.service.name == *"s-1").expect("the service");
    let frontend = match to.port() {
        NODE_PORT => Frontend::NodePort(Protocol::Tcp, NODE_PORT),
        _ => Frontend::Address(Protocol::Tcp, to),
    };
    FrontendQuery::new(name.clone(), frontend, to)
}

/// What is not as it should be, and how much is.
fn look_up(world: &mut World, to: SocketAddr) -> anyhow::Result<(Vec<String>, usize)> {
    let query = query(world, to);
    let lines = world.look_up(&query)?;
    let is_right = |line: &String| {
        ["rule ", "listening socket ", "socket "].iter().any(|start| line.starts_with(start))
    };
    let (right, wrong): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_right);
    Ok((wrong, right.len()))
}

fn looked_up(variant: Variant, family: IpFamily) -> anyhow::Result<()> {
    let mut world = World::new(Options { family, variant, ..Options::default() })?;
    let (mut one, _) = service(1, Protocol::Tcp);
    one.ports[0].node_port = NonZeroU16::new(NODE_PORT);
    world.set(&one, &[address_of(1, family)]);
    world.set(&service(2, Protocol::Tcp).0, &[address_of(1, family)]);
    world.sync()?;
    let cluster_ip = service_address(1, family);
    let node_port = SocketAddr::new(node_ip(family), NODE_PORT);
    for to in [cluster_ip, node_port] {
        let (wrong, right) = look_up(&mut world, to)?;
        ensure!(wrong.is_empty() && right >= 5, "{to}: {right} right, {wrong:#?}");
    }
    let kind = if variant == Variant::Nft { "nft" } else { "legacy" };
    let program = if family == IpFamily::V4 { "iptables" } else { "ip6tables" };
    let program = format!("{program}-{kind}");
    for (to, command, expected) in [
        (
            cluster_ip,
            "-t nat -F KUBE-PORTALS-CONTAINER",
            "missing rule nat -A KUBE-PORTALS-CONTAINER ",
        ),
        (cluster_ip, "-t nat -F OUTPUT", "missing rule nat -A OUTPUT "),
        (
            cluster_ip,
            "-F KUBE-NODEPORT-NON-LOCAL",
            "missing rule filter -A KUBE-NODEPORT-NON-LOCAL ",
        ),
        (node_port, "-t nat -F KUBE-NODEPORT-HOST", "missing rule nat -A KUBE-NODEPORT-HOST "),
    ] {
        world.netns.output(&program, &command.split(' ').collect::<Vec<_>>())?;
        let (wrong, _) = look_up(&mut world, to)?;
        ensure!(!wrong.is_empty(), "{command}");
        ensure!(wrong.iter().all(|line| line.starts_with(expected)), "{command}: {wrong:#?}");
        world.sync()?;
        ensure!(look_up(&mut world, to)?.0.is_empty(), "{command}");
    }
    // A chain that is gone takes its rules with it, and the way to it.
    for command in
        ["-t nat -F OUTPUT", "-t nat -F KUBE-PORTALS-HOST", "-t nat -X KUBE-PORTALS-HOST"]
    {
        world.netns.output(&program, &command.split(' ').collect::<Vec<_>>())?;
    }
    let (wrong, _) = look_up(&mut world, cluster_ip)?;
    ensure!(
        wrong.iter().any(|line| line.starts_with("missing rule nat -A KUBE-PORTALS-HOST ")),
        "{wrong:#?}"
    );
    ensure!(wrong.iter().any(|line| line.starts_with("missing rule nat -A OUTPUT ")), "{wrong:#?}");
    world.sync()?;
    // The node port in the hands of another program.
    world.snapshot.services.retain(|name, _| *name.service.name != *"s-1");
    world.sync()?;
    let listener =
        world.netns.run(|| TcpListener::bind(SocketAddr::new(node_ip(family), NODE_PORT)))?;
    world.set(&one, &[address_of(1, family)]);
    world.sync()?;
    let (wrong, _) = look_up(&mut world, node_port)?;
    ensure!(
        wrong == [format!("in the way: socket tcp port {NODE_PORT} of another program")],
        "{wrong:#?}"
    );
    let (wrong, _) = look_up(&mut world, cluster_ip)?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    drop(listener);
    Ok(())
}
