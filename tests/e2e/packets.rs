//! The table of packet cases: Services, and what becomes of connections to them. One table for all modes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::probe::{Outcome, Probe};
use libtest_mimic::Trial;

use crate::objects::{Svc, cluster_ip, external_ip, node_port, vip};
use crate::world::{From, Mode, World};

mod cases;
mod explained;

/// A group of cases that share a proxy, and so its flags.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    /// Flags besides those of the mode.
    pub(crate) flags: fn() -> Vec<String>,
    pub(crate) cases: fn() -> Vec<Case>,
}

/// Some Services and the fate of connections to them.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The Services, each with its endpoints as they are put into slices.
    pub(crate) services: Vec<(Svc, Endpoints)>,
    pub(crate) flows: Vec<Flow>,
}

/// Builds the slices of a Service, given the world with its pods.
pub(crate) type Endpoints = fn(&World, &Svc) -> Vec<serde_json::Value>;

/// One connection, or several of the same kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) from: From,
    pub(crate) to: To,
    pub(crate) expect: Expect,
    /// Only in this family.
    pub(crate) only: Option<IpFamily>,
    /// What differs in nftables mode.
    pub(crate) nftables: Option<Expect>,
    /// What differs in ipvs mode.
    pub(crate) ipvs: Option<Expect>,
    /// What differs in userspace mode.
    pub(crate) userspace: Option<Expect>,
}

/// A frontend of the Service with this number.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    ClusterIp(u8),
    ClusterIpUdp(u8),
    External(u8),
    Vip(u8),
    /// On the node's address.
    NodePort(u8),
    NodePortUdp(u8),
    /// On the address of the node towards its pods.
    NodePortOnBridge(u8),
    /// On the loopback address.
    NodePortOnLoopback(u8),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// Exactly these pods answer, each in its turn.
    Pods(&'static [&'static str], Source),
    Refused,
    Dropped,
}

/// The source address that pods see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Kept,
    Masqueraded,
    Any,
}

impl Flow {
    pub(crate) fn new(from: From, to: To, expect: Expect) -> Self {
        Self { from, to, expect, only: None, nftables: None, ipvs: None, userspace: None }
    }

    pub(crate) fn in_nftables(self, expect: Expect) -> Self {
        Self { nftables: Some(expect), ..self }
    }

    pub(crate) fn in_ipvs(self, expect: Expect) -> Self {
        Self { ipvs: Some(expect), ..self }
    }

    pub(crate) fn in_userspace(self, expect: Expect) -> Self {
        Self { userspace: Some(expect), ..self }
    }

    /// What endpoints see in userspace mode is always this node.
    fn expect(self, mode: Mode) -> Expect {
        match mode {
            Mode::Nftables => self.nftables.unwrap_or(self.expect),
            Mode::Ipvs => self.ipvs.unwrap_or(self.expect),
            Mode::IptablesLegacy | Mode::IptablesNft => self.expect,
            Mode::Userspace => self.userspace.unwrap_or(match self.expect {
                Expect::Pods(pods, Source::Kept | Source::Masqueraded) => {
                    Expect::Pods(pods, Source::Masqueraded)
                }
                other => other,
            }),
        }
    }

    pub(crate) fn only(self, family: IpFamily) -> Self {
        Self { only: Some(family), ..self }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}", self.from, self.to)
    }
}

impl To {
    fn address(self, family: IpFamily, world: &World) -> SocketAddr {
        let node = world.cluster.node(0);
        let loopback = match family {
            IpFamily::V4 => IpAddr::from([127, 0, 0, 1]),
            IpFamily::V6 => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        };
        let (ip, port) = match self {
            Self::ClusterIp(n) | Self::ClusterIpUdp(n) => (cluster_ip(n, family), 80),
            Self::External(n) => (external_ip(n, family), 80),
            Self::Vip(n) => (vip(n, family), 80),
            Self::NodePort(n) | Self::NodePortUdp(n) => (node.ip(family), node_port(n)),
            Self::NodePortOnBridge(n) => (node.pod_gateway(family), node_port(n)),
            Self::NodePortOnLoopback(n) => (loopback, node_port(n)),
        };
        SocketAddr::new(ip, port)
    }

    fn is_udp(self) -> bool {
        matches!(self, Self::ClusterIpUdp(_) | Self::NodePortUdp(_))
    }
}

/// One test for each group: its cases share the cluster.
pub(crate) fn trials(mode: Mode) -> Vec<Trial> {
    let groups = cases::groups();
    groups
        .into_iter()
        .map(|group| {
            let name = format!("{mode}/packets/{}", group.name);
            crate::trial(&name, move || run(mode, &group))
        })
        .collect()
}

fn run(mode: Mode, group: &Group) -> anyhow::Result<()> {
    let flags = (group.flags)();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let world = World::with_flags(mode, &flags)?;
    let cases = (group.cases)();
    for (service, endpoints) in cases.iter().flat_map(|case| &case.services) {
        world.apply([service.object()])?;
        world.apply(endpoints(&world, service))?;
    }
    world.settle()?;
    let mut failures = Vec::new();
    for case in &cases {
        for flow in &case.flows {
            for family in IpFamily::BOTH {
                if flow.only.is_some_and(|only| only != family) {
                    continue;
                }
                if let Err(error) = check(&world, *flow, mode, family) {
                    failures.push(format!("{}: {family} {flow}: {error:#}", case.name));
                }
            }
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let rules = match mode {
        Mode::Nftables => world.on_node("nft", &["list", "table", "ip", "kube-proxy"])?,
        _ => world.on_node(&mode.program(IpFamily::V4, "-save"), &[])?,
    };
    bail!("{}\n\nIPv4 rules:\n{rules}", failures.join("\n"))
}

/// The packet does what is expected of it, and `explain` said so.
fn check(world: &World, flow: Flow, mode: Mode, family: IpFamily) -> anyhow::Result<()> {
    sent(world, flow, mode, family)?;
    explained::check(world, flow, flow.expect(mode), family)
}

fn sent(world: &World, flow: Flow, mode: Mode, family: IpFamily) -> anyhow::Result<()> {
    let to = flow.to.address(family, world);
    let probe = world.probe(flow.from);
    let send = |probe: Probe<'_>| if flow.to.is_udp() { probe.udp(to) } else { probe.tcp(to) };
    match flow.expect(mode) {
        Expect::Pods(pods, source) => check_pods(|| send(probe), pods, source),
        Expect::Refused => {
            let outcome = send(probe);
            ensure!(outcome.is_refused(), "{outcome}, not refused");
            Ok(())
        }
        Expect::Dropped => {
            let outcome = send(probe.timeout(Duration::from_millis(300)));
            // A packet that its own node drops may be reported as EPERM at once.
            let dropped = matches!(outcome, Outcome::TimedOut)
                || outcome.to_string().contains("not permitted");
            ensure!(dropped, "{outcome}, not dropped");
            Ok(())
        }
    }
}

fn check_pods(send: impl Fn() -> Outcome, pods: &[&str], source: Source) -> anyhow::Result<()> {
    let mut missing = pods.to_vec();
    // A fair choice among 3 misses one of them in 100 tries about once in 10^17.
    for _ in 0..100 {
        let answer = send().answer()?;
        let pod = answer.pod.as_str();
        ensure!(pods.contains(&pod), "{pod} answered, not one of {pods:?}");
        missing.retain(|name| *name != pod);
        match source {
            Source::Any => {}
            Source::Kept => {
                ensure!(!answer.is_masqueraded(), "{pod} saw {}", answer.source_seen);
            }
            Source::Masqueraded => {
                ensure!(answer.is_masqueraded(), "{pod} saw the client's address");
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
    }
    bail!("{missing:?} never answered")
}

/// `--cluster-cidr` with the pod networks of the test cluster.
pub(crate) fn cluster_cidr() -> String {
    let nets = plan::cluster_net();
    format!("--cluster-cidr={},{}", nets.v4, nets.v6)
}

/// The address of the outside client as a network of one address.
pub(crate) fn client_net(family: IpFamily) -> anyhow::Result<String> {
    let ip = *plan::client().get(family);
    let net = ipnet::IpNet::new(ip, family.bits()).context("a full prefix")?;
    Ok(net.to_string())
}
