//! Connections whose source port, as the endpoint sees it, is a node port of another Service: answers to it come to an address and port of a
//! virtual server, and are no requests to it.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::{Outcome, Probe};

use super::CLIENT;
use crate::objects::{Svc, node_port};
use crate::world::{From, Mode, TARGET, World, cluster_address};

/// Numbers of the Services that are asked, by protocol, and of those that own the source ports, by protocol and external policy.
const ASKED: [u8; 2] = [1, 2];
const OWNERS: [[u8; 2]; 2] = [[3, 4], [5, 6]];

/// Where a connection starts and what it is to.
#[derive(Clone, Copy, Debug)]
enum Path {
    NodeToClusterIp,
    NodeToNodePort,
    PodToClusterIp,
    PodToNodePort,
    OutsideToNodePort,
}

const PATHS: [Path; 5] = [
    Path::NodeToClusterIp,
    Path::NodeToNodePort,
    Path::PodToClusterIp,
    Path::PodToNodePort,
    Path::OutsideToNodePort,
];

/// Who chooses the source port.
#[derive(Clone, Copy, Debug)]
enum Chosen {
    /// The client binds to it.
    ByClient,
    /// Masquerading chooses it.
    ByMasquerade,
}

/// One connection.
#[derive(Clone, Copy, Debug)]
struct Try {
    udp: bool,
    family: IpFamily,
    /// The node port.
    port: u16,
    path: Path,
    chosen: Chosen,
}

/// Each path, both protocols and families, ports of Services of both external policies, endpoints here and elsewhere.
pub(super) fn are_node_ports(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = super::begin(mode, &[], &["remote-1"])?;
    for pod in ["remote-1", "local-1"] {
        world.serve(&Svc::new("tcp", ASKED[0]).node_port(), &[pod])?;
        world.serve(&Svc::new("udp", ASKED[1]).udp().node_port(), &[pod])?;
        for (udp, owners) in OWNERS.into_iter().enumerate() {
            for (local, number) in owners.into_iter().enumerate() {
                let owner = Svc::new(&format!("owner-{number}"), number).node_port();
                let owner = if udp == 1 { owner.udp() } else { owner };
                let owner = if local == 1 { owner.external_local() } else { owner };
                // A pod that is taken for a client of the node port is answered by this one.
                world.serve(&owner, &["local-2"])?;
            }
        }
        world.settle()?;
        let wrong: Vec<String> = tries()
            .filter_map(|one| one.run(&world, mode, pod).err().map(|e| format!("{one:?}: {e:#}")))
            .collect();
        ensure!(wrong.is_empty(), "endpoint {pod}: {wrong:#?}");
    }
    Ok(())
}

fn tries() -> impl Iterator<Item = Try> {
    let choices = [Chosen::ByClient, Chosen::ByMasquerade];
    let mut all = Vec::new();
    for (udp, owners) in [false, true].into_iter().zip(OWNERS) {
        for (family, owner) in IpFamily::BOTH.into_iter().flat_map(|f| owners.map(|o| (f, o))) {
            for (path, chosen) in PATHS.into_iter().flat_map(|p| choices.map(|c| (p, c))) {
                all.push(Try { udp, family, port: node_port(owner), path, chosen });
            }
        }
    }
    all.into_iter()
}

impl Try {
    fn run(self, world: &World, mode: Mode, pod: &str) -> anyhow::Result<()> {
        // One port for many connections to the same endpoint: each begins with nothing known of the one before.
        world.on_node("conntrack", &["-F"])?;
        let (from, to) = self.ends(world);
        let outcome = match self.chosen {
            Chosen::ByClient => self.ask(world.probe(from).source_port(self.port), to),
            Chosen::ByMasquerade => {
                let rule = self.masquerade(world, pod);
                let change = |verb| {
                    let words = ["-t", "nat", verb, "POSTROUTING"].into_iter();
                    let words: Vec<&str> = words.chain(rule.split(' ')).collect();
                    world.on_node(&mode.program(self.family, ""), &words)
                };
                change("-I")?;
                let outcome = self.ask(world.probe(from), to);
                change("-D")?;
                outcome
            }
        };
        let answer = outcome.answer()?;
        ensure!(answer.pod == pod, "{} answered", answer.pod);
        let source = answer.source_seen;
        if matches!(self.chosen, Chosen::ByMasquerade) {
            ensure!(source.port() == self.port, "from {source}");
        }
        Ok(())
    }

    fn ends(self, world: &World) -> (From, SocketAddr) {
        let number = ASKED[usize::from(self.udp)];
        let cluster_ip = cluster_address(number, self.family);
        let node_port = world.node_port(number, self.family);
        match self.path {
            Path::NodeToClusterIp => (From::Node, cluster_ip),
            Path::NodeToNodePort => (From::Node, node_port),
            Path::PodToClusterIp => (CLIENT, cluster_ip),
            Path::PodToNodePort => (CLIENT, node_port),
            Path::OutsideToNodePort => (From::Outside, node_port),
        }
    }

    fn ask(self, probe: Probe<'_>, to: SocketAddr) -> Outcome {
        if self.udp { probe.udp(to) } else { probe.tcp(to) }
    }

    /// Gives connections to the endpoint this source port.
    fn masquerade(self, world: &World, pod: &str) -> String {
        let protocol = if self.udp { "udp" } else { "tcp" };
        let pod = world.pod(pod).ip(self.family);
        format!("-p {protocol} -d {pod} -j MASQUERADE --to-ports {}", self.port)
    }
}

/// What the documents advise against the one case that cannot be helped, connections of the node itself to anywhere but a Service: of the ports
/// that the kernel may choose for these, it takes none that is reserved.
pub(super) fn reserved(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = super::begin(mode, &[], &["remote-1"])?;
    world.serve(&Svc::new("owner", OWNERS[0][0]).node_port(), &["local-2"])?;
    world.settle()?;
    let (taken, free) = (node_port(OWNERS[0][0]), node_port(OWNERS[0][1]));
    let sysctl = |name: &str, value: String| -> anyhow::Result<()> {
        let netns = world.cluster.node(0).netns();
        netns.run(|| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value))?;
        Ok(())
    };
    sysctl("ip_local_port_range", format!("{taken} {free}"))?;
    sysctl("ip_local_reserved_ports", taken.to_string())?;
    for family in IpFamily::BOTH {
        let to = world.pod("remote-1").address(family, TARGET);
        let answer = world.probe(From::Node).tcp(to).answer().with_context(|| to.to_string())?;
        ensure!(answer.pod == "remote-1" && answer.source_sent.port() == free, "{answer:?}");
    }
    Ok(())
}
