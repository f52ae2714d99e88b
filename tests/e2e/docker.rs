//! Nodes on which Docker runs: its chains, its bridge, its policy to drop what is forwarded, and bridged packets that pass iptables.

use std::io::{Seek as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::pod::{Responder, Serve};

use crate::PerMode;
use crate::life::remove_everything;
use crate::objects::Svc;
use crate::traffic::{Traffic, becomes};
use crate::world::{From, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[("docker/side-by-side", side_by_side)];

/// The port of the node that leads to the container.
const PUBLISHED: u16 = 8088;

/// A Docker with one container, as the node sees it.
pub(crate) struct Docker {
    variant: &'static str,
    container: Netns,
    _server: Responder,
}

impl Docker {
    /// Starts it on the node under test, with the programs of iptables of this variant.
    pub(crate) fn start(world: &World, variant: &'static str) -> anyhow::Result<Self> {
        let node = world.cluster.node(0).netns();
        let container = Netns::create(&format!("{}-container", node.name()))?;
        node.ip(&format!(
            "link add docker0 type bridge\n\
             addr add 172.17.0.1/16 dev docker0\n\
             addr add fd00:17::1/64 dev docker0 nodad\n\
             link set docker0 up\n\
             link add vethdocker type veth peer name eth0 netns {}\n\
             link set vethdocker master docker0 up",
            container.name()
        ))?;
        container.ip("link set eth0 up\n\
             addr add 172.17.0.2/16 dev eth0\n\
             addr add fd00:17::2/64 dev eth0 nodad\n\
             route add default via 172.17.0.1\n\
             route add default via fd00:17::1")?;
        let server = Responder::start(&container, "container")?;
        for family in IpFamily::BOTH {
            server.serve(Serve::Tcp, SocketAddr::new(address(family), TARGET))?;
        }
        let docker = Self { variant, container, _server: server };
        docker.write(world, "-I")?;
        // What a network plugin adds where nothing is forwarded that no rule accepts.
        for family in IpFamily::BOTH {
            let net = plan::cluster_net().get(family).to_string();
            for end in ["-s", "-d"] {
                let rule = ["-A", "FORWARD", end, &net, "-j", "ACCEPT"];
                world.on_node(&docker.program(family, ""), &rule)?;
            }
        }
        Ok(docker)
    }

    /// Writes its chains again, and puts its jumps in front of all others.
    fn restart(&self, world: &World) -> anyhow::Result<()> {
        self.write(world, "-D")
    }

    fn write(&self, world: &World, first: &str) -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            let mut file = tempfile::tempfile()?;
            file.write_all(chains(family, first).as_bytes())?;
            file.rewind()?;
            let mut restore = Command::new(self.program(family, "-restore"));
            restore.arg("--noflush").stdin(file);
            let status = world.cluster.node(0).netns().run(|| restore.status())?;
            ensure!(status.success(), "{restore:?}: {status}");
        }
        Ok(())
    }

    fn program(&self, family: IpFamily, suffix: &str) -> String {
        let base = if family == IpFamily::V4 { "iptables" } else { "ip6tables" };
        format!("{base}-{}{suffix}", self.variant)
    }

    /// All rules and chains in their order but those of kube-proxy.
    fn rules(&self, world: &World) -> anyhow::Result<Vec<String>> {
        let mut rules = Vec::new();
        for (family, table) in IpFamily::BOTH.into_iter().flat_map(|f| [(f, "nat"), (f, "filter")])
        {
            let text = world.on_node(&self.program(family, ""), &["-t", table, "-S"])?;
            let others = text.lines().filter(|rule| !rule.contains("KUBE-"));
            rules.extend(others.map(|rule| format!("{family} {table} {rule}")));
        }
        Ok(rules)
    }

    /// The container is reached where Docker publishes it, and reaches the Services of the cluster.
    fn check(&self, world: &World) {
        for family in IpFamily::BOTH {
            Self::check_published(world, family);
            becomes(self.container.probe(), cluster_address(1, family), "local-1");
        }
    }

    fn check_published(world: &World, family: IpFamily) {
        let published = SocketAddr::new(world.cluster.node(0).ip(family), PUBLISHED);
        becomes(world.probe(From::Outside), published, "container");
    }
}

/// The container's address.
fn address(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::from([172, 17, 0, 2]),
        IpFamily::V6 => IpAddr::from([0xfd00, 0x17, 0, 0, 0, 0, 0, 2]),
    }
}

/// What Docker writes. `first` is `-I` the first time; later `-D` takes out the jumps before they are put in.
fn chains(family: IpFamily, first: &str) -> String {
    let address = address(family);
    let (net, loopback, to) = match family {
        IpFamily::V4 => ("172.17.0.0/16", "127.0.0.0/8", format!("{address}:{TARGET}")),
        IpFamily::V6 => ("fd00:17::/64", "::1/128", format!("[{address}]:{TARGET}")),
    };
    let again = first == "-D";
    let hooks = if again {
        String::new()
    } else {
        format!(
            "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A OUTPUT ! -d {loopback} -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A POSTROUTING -s {net} ! -o docker0 -j MASQUERADE\n"
        )
    };
    let removals =
        if again { "-D FORWARD -j DOCKER-USER\n-D FORWARD -j DOCKER-FORWARD\n" } else { "" };
    format!(
        "*nat\n\
         :DOCKER - [0:0]\n\
         {hooks}\
         -A DOCKER ! -i docker0 -p tcp -m tcp --dport {PUBLISHED} -j DNAT --to-destination {to}\n\
         COMMIT\n\
         *filter\n\
         :FORWARD DROP [0:0]\n\
         :DOCKER - [0:0]\n\
         :DOCKER-FORWARD - [0:0]\n\
         :DOCKER-USER - [0:0]\n\
         {removals}\
         -I FORWARD -j DOCKER-FORWARD\n\
         -I FORWARD -j DOCKER-USER\n\
         -A DOCKER-FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A DOCKER-FORWARD -o docker0 -j DOCKER\n\
         -A DOCKER-FORWARD -i docker0 -j ACCEPT\n\
         -A DOCKER -d {address} ! -i docker0 -o docker0 -p tcp -m tcp --dport {TARGET} -j ACCEPT\n\
         COMMIT\n"
    )
}

/// As Docker's `br_netfilter` has it, and with pods that answer each other over the bridge, past the node's routing.
///
/// Where the kernel cannot do that, pods continue to reach each other through the node.
fn bridged_packets_pass_iptables(world: &World) -> anyhow::Result<()> {
    let node = world.cluster.node(0);
    let setting = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !node.netns().run(|| setting.exists()) {
        return Ok(());
    }
    node.netns().sysctl(&[
        ("bridge/bridge-nf-call-iptables", "1"),
        ("bridge/bridge-nf-call-ip6tables", "1"),
    ])?;
    for pod in world.pods.iter().filter(|pod| pod.node().index() == 0) {
        for family in IpFamily::BOTH {
            let (net, own) = (node.pod_cidr(family), pod.ip(family));
            pod.netns().ip(&format!("route replace {net} dev eth0 src {own}"))?;
        }
    }
    Ok(())
}

/// Services and published containers work side by side, in any order of start, and neither touches the rules of the other.
fn side_by_side(mode: Mode) -> anyhow::Result<()> {
    for variant in ["legacy", "nft"] {
        beside(mode, variant).with_context(|| format!("Docker with iptables-{variant}"))?;
    }
    Ok(())
}

fn beside(mode: Mode, variant: &'static str) -> anyhow::Result<()> {
    let nets = plan::cluster_net();
    let cidr = format!("--cluster-cidr={},{}", nets.v4, nets.v6);
    let mut world = World::without_proxy(mode, &[&cidr])?;
    let docker = Docker::start(&world, variant)?;
    bridged_packets_pass_iptables(&world)?;
    for family in IpFamily::BOTH {
        Docker::check_published(&world, family);
    }
    let before = docker.rules(&world)?;
    world.serve(&Svc::new("near", 1).node_port(), &["local-1"])?;
    world.serve(&Svc::new("far", 2).node_port(), &["remote-1"])?;
    world.start()?;
    for (number, pod) in [(1, "local-1"), (2, "remote-1")] {
        for family in IpFamily::BOTH {
            becomes(world.probe(From::Pod("client")), cluster_address(number, family), pod);
            becomes(world.probe(From::Outside), world.node_port(number, family), pod);
        }
    }
    docker.check(&world);
    let traffic = Traffic::to_service(&world, 1)?;
    docker.restart(&world)?;
    docker.check(&world);
    traffic.stop()?;
    let after = docker.rules(&world)?;
    ensure!(after == before, "rules before:\n{before:#?}\nand after:\n{after:#?}");
    world.stop()?;
    remove_everything(&world)?;
    let after = docker.rules(&world)?;
    ensure!(after == before, "rules before:\n{before:#?}\nand after the removal:\n{after:#?}");
    for family in IpFamily::BOTH {
        Docker::check_published(&world, family);
    }
    Ok(())
}
