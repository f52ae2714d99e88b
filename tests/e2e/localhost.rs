//! NodePorts on loopback addresses in nftables mode: who listens, what is refused, and what is counted.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::Outcome;
use serde_json::json;

use crate::Once;
use crate::explain::named;
use crate::life::node::spare;
use crate::objects::{Svc, node, node_port};
use crate::traffic::{SILENCE, becomes};
use crate::world::{From, GUARD, Mode, NODE, TARGET, World};

pub(crate) const ONCE: &[Once] = &[
    ("nftables/localhost-node-ports", served),
    ("nftables/localhost-node-ports-refused", refused),
    ("nftables/localhost-node-ports-of-another-network", another_network),
    ("nftables/localhost-node-ports-left-alone", left_alone),
    ("nftables/localhost-node-port-in-use", in_use),
    ("nftables/localhost-node-ports-when-the-node-moves", node_moves),
];

const GATE_OFF: &str = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false";

fn loopback(family: IpFamily, number: u8) -> SocketAddr {
    match family {
        IpFamily::V4 => SocketAddr::from(([127, 0, 0, 1], node_port(number))),
        IpFamily::V6 => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], node_port(number))),
    }
}

/// A Service with a node port for each protocol: numbers 1, 2 and 3.
fn three_protocols() -> Svc {
    let port = |number: u8, protocol: &str| {
        json!({
            "name": protocol.to_lowercase(), "protocol": protocol,
            "port": 80 + u16::from(number), "targetPort": TARGET, "nodePort": node_port(number),
        })
    };
    let ports = json!([port(1, "TCP"), port(2, "UDP"), port(3, "SCTP")]);
    Svc::new("three", 1).node_port().with("/spec/ports", ports)
}

/// Lets these pods serve all three.
fn lead_to(world: &World, service: &Svc, pods: &[&str]) -> anyhow::Result<()> {
    let ports = ["TCP", "UDP", "SCTP"].map(
        |protocol| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET }),
    );
    let mut slices = service.slices(TARGET, &world.endpoints(pods));
    for slice in &mut slices {
        slice["ports"] = json!(ports);
    }
    world.apply(slices)
}

fn serve(world: &World, service: &Svc, pods: &[&str]) -> anyhow::Result<()> {
    world.apply([service.object()])?;
    lead_to(world, service, pods)?;
    world.settle()
}

/// The metrics of one reading.
struct Metrics(String);

impl Metrics {
    fn read(world: &World) -> anyhow::Result<Self> {
        let probe = world.cluster.node(0).probe();
        let answer = probe.http_get("127.0.0.1:10249".parse()?, "/metrics")?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(Self(answer.body))
    }

    fn value(&self, name: &str, labels: &str) -> anyhow::Result<u64> {
        let sample = format!("kubeproxy_nftables_localhost_nodeport_{name}{{{labels}}} ");
        let value = self.0.lines().find_map(|line| line.strip_prefix(&sample));
        Ok(value.with_context(|| format!("no {sample}"))?.parse()?)
    }

    /// Listeners, and ports that could not be listened at.
    fn listeners(&self, family: IpFamily) -> anyhow::Result<[u64; 2]> {
        let labels = format!("ip_family=\"{family}\"");
        let failures = self.value("listener_creation_failures_total", &labels)?;
        Ok([self.value("listeners", &labels)?, failures])
    }

    /// Refused packets of TCP, UDP and SCTP.
    fn refused(&self, family: IpFamily) -> anyhow::Result<[u64; 3]> {
        let value = |protocol: &str| {
            let labels = format!("ip_family=\"{family}\",protocol=\"{protocol}\"");
            self.value("rejected_packets_total", &labels)
        };
        Ok([value("TCP")?, value("UDP")?, value("SCTP")?])
    }
}

/// TCP and UDP are served at both addresses, before and after a restart, and SCTP is refused.
fn served() -> anyhow::Result<()> {
    let mut world =
        World::without_proxy(Mode::Nftables, &["--nodeport-addresses=primary,localhost"])?;
    world.start()?;
    let web = three_protocols().external_local();
    serve(&world, &web, &["local-1", "remote-1"])?;
    // Not refused after a restart (k/k #142183).
    world.stop()?;
    world.start()?;
    for family in IpFamily::BOTH {
        // The policy is Local.
        world.check_pods(From::Node, loopback(family, 1), &["local-1"])?;
        let answer = world.probe(From::Node).udp(loopback(family, 2)).answer()?;
        ensure!(answer.pod == "local-1", "{answer:?}");
        let outcome = world.probe(From::Node).sctp(loopback(family, 3));
        ensure!(outcome.is_refused(), "SCTP: {outcome}");
        let socket = format!("On the node   listening socket tcp {}", loopback(family, 1));
        explained(&world, family, 1, "tcp", &socket)?;
        // What nothing listens for is the business of the rules.
        let element = format!("element loopback-nodeports: sctp . {} : goto reject", node_port(3));
        explained(&world, family, 3, "sctp", &element)?;
        // The rules continue serving the node's other addresses.
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    let metrics = Metrics::read(&world)?;
    for family in IpFamily::BOTH {
        let found = (metrics.listeners(family)?, metrics.refused(family)?);
        ensure!(found == ([2, 0], [0, 0, 1]), "{family}: {found:?}");
    }
    lead_to(&world, &web, &["local-2"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Node), loopback(family, 1), "local-2");
    }
    // Without an endpoint on this node nothing listens.
    lead_to(&world, &web, &["remote-1"])?;
    for family in IpFamily::BOTH {
        is_refused("TCP", || world.probe(From::Node).tcp(loopback(family, 1)));
        is_refused("UDP", || world.probe(From::Node).udp(loopback(family, 2)));
    }
    lead_to(&world, &web, &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Node), loopback(family, 1), "local-1");
    }
    world.delete("Service", "three")?;
    for family in IpFamily::BOTH {
        is_refused("gone", || world.probe(From::Node).tcp(loopback(family, 1)));
        eventually(GUARD, || {
            let outcome = world.probe(From::Node).timeout(SILENCE).sctp(loopback(family, 3));
            ensure!(outcome.is_closed(), "SCTP of a service that is gone: {outcome}");
            Ok(())
        });
    }
    Ok(())
}

/// What the node holds for a node port on loopback.
fn explained(
    world: &World,
    family: IpFamily,
    number: u8,
    protocol: &str,
    text: &str,
) -> anyhow::Result<()> {
    let line = format!("explain --from node -o wide {}/{protocol}", loopback(family, number));
    named(world, &line, &[text])
}

fn is_refused(what: &str, probe: impl Fn() -> Outcome) {
    eventually(GUARD, || {
        let outcome = probe();
        ensure!(outcome.is_refused(), "{what}: {outcome}");
        Ok(())
    });
}

/// Loopback was not asked for, but the gate is on: all protocols are refused by a rule, also where another program listens.
fn refused() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &["--nodeport-addresses=all"])?;
    serve(&world, &three_protocols(), &["local-1"])?;
    for family in IpFamily::BOTH {
        let node = world.probe(From::Node);
        for outcome in [
            node.tcp(loopback(family, 1)),
            node.udp(loopback(family, 2)),
            node.sctp(loopback(family, 3)),
            node.sctp(loopback(family, 3)),
        ] {
            ensure!(outcome.is_refused(), "{family}: {outcome}");
        }
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    let metrics = Metrics::read(&world)?;
    for family in IpFamily::BOTH {
        let (listeners, [tcp, udp, sctp]) = (metrics.listeners(family)?, metrics.refused(family)?);
        // TCP may have tried more than once.
        ensure!(listeners == [0, 0] && tcp >= 1 && udp == 1 && sctp == 2, "{tcp} {udp} {sctp}");
    }
    Ok(())
}

/// A loopback network without 127.0.0.1 turns nothing on (k/k #142129).
fn another_network() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &["--nodeport-addresses=primary,127.0.0.2/32"])?;
    serve(&world, &three_protocols(), &["local-1"])?;
    for address in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let outcome = world.probe(From::Node).tcp((address, node_port(1)).into());
        ensure!(outcome.is_refused(), "{address:?}: {outcome}");
    }
    let metrics = Metrics::read(&world)?;
    let found = metrics.listeners(IpFamily::V4)?;
    ensure!(found == [0, 0] && metrics.refused(IpFamily::V4)?[0] >= 2, "{found:?}");
    Ok(())
}

/// With the gate off the rules leave loopback alone: the packet gets to who is there.
fn left_alone() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &["--nodeport-addresses=localhost", GATE_OFF])?;
    serve(&world, &three_protocols(), &["local-1"])?;
    for family in IpFamily::BOTH {
        let outcome = world.probe(From::Node).timeout(SILENCE).sctp(loopback(family, 3));
        ensure!(outcome.is_closed(), "{family}: {outcome}");
    }
    let metrics = Metrics::read(&world)?;
    for family in IpFamily::BOTH {
        let found = (metrics.listeners(family)?, metrics.refused(family)?);
        ensure!(found == ([0, 0], [0, 0, 0]), "{family}: {found:?}");
    }
    Ok(())
}

/// A port that another process has is counted, and the others are served.
fn in_use() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &["--nftables-localhost-nodeports"])?;
    let taken = world
        .cluster
        .node(0)
        .netns()
        .run(|| std::net::TcpListener::bind(loopback(IpFamily::V4, 1)))?;
    world.start()?;
    serve(&world, &three_protocols(), &["local-1"])?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("is not reachable at 127.0.0.1"))?;
    let metrics = Metrics::read(&world)?;
    let [listeners, failures] = metrics.listeners(IpFamily::V4)?;
    ensure!(listeners == 1 && failures >= 1, "{listeners} {failures}");
    ensure!(metrics.listeners(IpFamily::V6)? == [2, 0]);
    world.probe(From::Node).udp(loopback(IpFamily::V4, 2)).answer()?;
    let text = format!("in the way: socket tcp {} of another program", loopback(IpFamily::V4, 1));
    explained(&world, IpFamily::V4, 1, "tcp", &text)?;
    drop(taken);
    Ok(())
}

/// Node ports follow the address of the node; what goes through this process on loopback continues.
fn node_moves() -> anyhow::Result<()> {
    let world = World::with_flags(Mode::Nftables, &["--nodeport-addresses=primary,localhost"])?;
    serve(&world, &three_protocols(), &["local-1"])?;
    let mut connections = Vec::new();
    for family in IpFamily::BOTH {
        connections.push(world.probe(From::Node).connect(loopback(family, 1))?);
    }
    let mut object = node(NODE, 0, "zone-a");
    for (index, family) in IpFamily::BOTH.into_iter().enumerate() {
        world.cluster.node(0).add_address(spare(family))?;
        object["status"]["addresses"][index]["address"] = json!(spare(family).to_string());
    }
    world.apply([object])?;
    for family in IpFamily::BOTH {
        let to = SocketAddr::new(spare(family), node_port(1));
        becomes(world.probe(From::Outside), to, "local-1");
        becomes(world.probe(From::Node), loopback(family, 1), "local-1");
    }
    for connection in &mut connections {
        connection.ping().answer().context("a connection of before")?;
    }
    let metrics = Metrics::read(&world)?;
    for family in IpFamily::BOTH {
        ensure!(metrics.listeners(family)? == [2, 0], "{family}: {:?}", metrics.listeners(family));
    }
    Ok(())
}
