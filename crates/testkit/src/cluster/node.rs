//! A node: a namespace that forwards between its pods and the fabric.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context as _;
use ipnet::IpNet;
use kube_proxy_core::{IpFamily, PerFamily};

use super::{disable_bridge_filter, plan};
use crate::netns::Netns;
use crate::probe::Probe;

/// Bridge to which a node's pods are attached, as the bridge CNI plugin calls it.
pub const POD_BRIDGE: &str = "cni0";

/// What makes a namespace a router. Redirects would tell pods to reach each other directly.
const FORWARDING: [(&str, &str); 5] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];

/// Seconds after which a conntrack entry of a silent UDP flow expires: long, so that it does not while a slow machine is busy.
const UDP_TIMEOUTS: [(&str, &str); 2] = [
    ("netfilter/nf_conntrack_udp_timeout", "3600"),
    ("netfilter/nf_conntrack_udp_timeout_stream", "3600"),
];

/// A node of a [`super::Cluster`].
#[derive(Debug)]
pub struct Node {
    netns: Netns,
    index: u8,
    name: String,
    addresses: PerFamily<IpAddr>,
    next_pod: AtomicU8,
}

impl Node {
    pub(super) fn set_up(index: u8, nodes: u8, netns: Netns) -> anyhow::Result<Self> {
        netns.sysctl(&FORWARDING)?;
        // Kernels that do not let an unprivileged user set them keep their values: 30 and 120 seconds.
        let _ = netns.sysctl(&UDP_TIMEOUTS);
        disable_bridge_filter(&netns)?;
        netns.ip(&commands(index, nodes)).with_context(|| format!("cannot set up node {index}"))?;
        Ok(Self {
            netns,
            index,
            name: format!("node-{index}"),
            addresses: plan::node(index),
            next_pod: AtomicU8::new(2),
        })
    }

    /// Kubernetes name: `node-0`, `node-1` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the node, from 0.
    pub fn index(&self) -> usize {
        self.index.into()
    }

    /// Its address on the fabric.
    pub fn ip(&self, family: IpFamily) -> IpAddr {
        *self.addresses.get(family)
    }

    /// Network of its pods.
    pub fn pod_cidr(&self, family: IpFamily) -> IpNet {
        *plan::pod_net(self.index).get(family)
    }

    /// Its address towards its pods, on the bridge [`POD_BRIDGE`].
    pub fn pod_gateway(&self, family: IpFamily) -> IpAddr {
        *plan::pod(self.index, 1).get(family)
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Connections and datagrams from the node itself.
    pub fn probe(&self) -> Probe<'_> {
        self.netns.probe()
    }

    /// Gives the node another address on the fabric, usable at once.
    pub fn add_address(&self, address: IpAddr) -> anyhow::Result<()> {
        add_address(&self.netns, address)
    }

    pub(super) fn next_pod_number(&self) -> anyhow::Result<u8> {
        self.next_pod
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| number.checked_add(1))
            .ok()
            .with_context(|| format!("{} has no address left for a pod", self.name))
    }

    pub(crate) fn plan_index(&self) -> u8 {
        self.index
    }
}

/// Adds an address of the fabric to `eth0`.
pub(super) fn add_address(netns: &Netns, address: IpAddr) -> anyhow::Result<()> {
    match address {
        IpAddr::V4(address) => netns.ip(&format!("addr add {address}/24 dev eth0")),
        IpAddr::V6(address) => netns.ip(&format!("addr add {address}/64 dev eth0 nodad")),
    }
}

fn commands(index: u8, nodes: u8) -> String {
    let mut commands = String::from("link set lo up\nlink set eth0 up\n");
    let own = plan::node(index);
    let gateway = plan::pod(index, 1);
    // Writing to a string cannot fail.
    let _ = writeln!(commands, "addr add {}/24 dev eth0", own.v4);
    let _ = writeln!(commands, "addr add {}/64 dev eth0 nodad", own.v6);
    let link = plan::link_address(index, 1);
    let _ = writeln!(commands, "link add {POD_BRIDGE} address {link} type bridge mcast_snooping 0");
    let _ = writeln!(commands, "addr add {}/24 dev {POD_BRIDGE}", gateway.v4);
    let _ = writeln!(commands, "addr add {}/64 dev {POD_BRIDGE} nodad", gateway.v6);
    let _ = writeln!(commands, "link set {POD_BRIDGE} up");
    commands.push_str(&fabric_routes(nodes, Some(index)));
    commands
}

/// Routes of something on the fabric: to the pods of the nodes, and for all else to the gateway.
pub(super) fn fabric_routes(nodes: u8, own: Option<u8>) -> String {
    let mut commands = String::new();
    for other in (0..nodes).filter(|&other| Some(other) != own) {
        let (net, via) = (plan::pod_net(other), plan::node(other));
        let _ = writeln!(commands, "route add {} via {}", net.v4, via.v4);
        let _ = writeln!(commands, "route add {} via {}", net.v6, via.v6);
    }
    let gateway = plan::fabric_gateway();
    let _ = writeln!(commands, "route add default via {}", gateway.v4);
    let _ = writeln!(commands, "route add default via {}", gateway.v6);
    commands
}
