//! A cluster whose nodes, pods and outside client are network namespaces.
//!
//! ```text
//!   client ──┐                          ┌── eth0  pod
//!            ├── br0 (fabric) ── eth0 node cni0 ─┤
//!   node   ──┘                          └── eth0  pod
//! ```
//!
//! - Nodes and client share one link, the fabric. Whatever no node takes care of goes to the
//!   fabric's own address, which drops it silently, so an unserved cluster IP times out.
//! - A pod owns a single address per family, not a subnet: all its packets pass through its node,
//!   also those to a pod on the same node, as conntrack needs it to undo a DNAT.
//! - Nodes forward and know each other's pod networks; nothing is masqueraded but by kube-proxy.
//! - Duplicate address detection is off: IPv6 addresses work at once.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use kube_proxy_core::IpFamily;
//! use kube_proxy_testkit::cluster::Cluster;
//! use kube_proxy_testkit::sandbox;
//!
//! fn main() -> anyhow::Result<()> {
//!     sandbox::enter_or_reexec();
//!     let cluster = Cluster::builder().nodes(2).build()?;
//!     let pods = cluster.add_pods(&[(0, "web-1"), (1, "web-2")])?;
//!     for pod in &pods {
//!         pod.serve_tcp(80)?;
//!     }
//!     // Start the proxy here, in `cluster.node(0).netns()`.
//!     let spread = cluster.client().probe().spread("10.96.0.10:80".parse()?, 100);
//!     spread.check_even(&["web-1", "web-2"])?;
//!     Ok(())
//! }
//! ```

mod client;
mod node;
pub mod plan;
pub mod pod;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};

pub use self::client::Client;
pub use self::node::{Node, POD_BRIDGE};
use self::pod::Pod;
use crate::netns::Netns;

/// Sysctls of every namespace: addresses work at once, and routes stay as they were set.
///
/// `accept_redirects` is off because pods are told to send everything through their node.
/// ICMP errors are not limited, or else a few probes in a row of a `REJECT` would time out.
const QUIET: [(&str, &str); 15] = [
    // A new namespace may have inherited the host's settings.
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/icmp_ratemask", "0"),
    // For IPv6 this is a list; type 0 does not exist.
    ("ipv6/icmp/ratemask", "0"),
    ("ipv6/icmp/ratelimit", "0"),
];

/// Namespaces joined to a cluster. Dropping it removes them.
#[derive(Debug)]
pub struct Cluster {
    client: Client,
    nodes: Vec<Arc<Node>>,
    fabric: Netns,
    number: u32,
}

/// What a cluster is to consist of.
#[derive(Clone, Copy, Debug)]
pub struct Builder {
    nodes: u8,
}

impl Builder {
    /// Number of nodes, 1 to [`plan::MAX_NODES`]; 1 unless set.
    #[must_use]
    pub fn nodes(mut self, nodes: u8) -> Self {
        self.nodes = nodes;
        self
    }

    /// Makes the namespaces and links.
    ///
    /// # Errors
    /// Outside a sandbox, for a number of nodes out of range, or when `ip` fails.
    pub fn build(self) -> anyhow::Result<Cluster> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        ensure!(
            (1..=plan::MAX_NODES).contains(&self.nodes),
            "a cluster has 1 to {} nodes, not {}",
            plan::MAX_NODES,
            self.nodes
        );
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fabric = quiet_netns(&format!("c{number}-fabric"))?;
        disable_bridge_filter(&fabric)?;
        let names: Vec<String> = (0..self.nodes).map(|i| format!("c{number}-node-{i}")).collect();
        let mut namespaces = Vec::new();
        for name in &names {
            namespaces.push(quiet_netns(name)?);
        }
        let client = quiet_netns(&format!("c{number}-client"))?;
        fabric
            .ip(&fabric_commands(&names, client.name()))
            .context("cannot join the nodes of a cluster")?;
        let mut nodes = Vec::new();
        for (index, netns) in (0..).zip(namespaces) {
            nodes.push(Arc::new(Node::set_up(index, self.nodes, netns)?));
        }
        let client = Client::set_up(client, &nodes)?;
        let ports: Vec<String> = (0..=nodes.len()).map(|index| format!("port{index}")).collect();
        let links: Vec<&str> = ports.iter().map(String::as_str).chain(["br0"]).collect();
        fabric.wait_up(&links)?;
        Ok(Cluster { client, nodes, fabric, number })
    }
}

impl Cluster {
    /// Starts the description of a cluster; its default is one node.
    pub fn builder() -> Builder {
        Builder { nodes: 1 }
    }

    /// A node, counted from 0.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().map(Arc::as_ref)
    }

    /// The client outside the cluster.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Namespace of the link between the nodes, to watch or disturb their traffic.
    pub fn fabric(&self) -> &Netns {
        &self.fabric
    }

    /// Adds a pod to a node; it lives until it is dropped.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pod(&self, node: usize, name: &str) -> anyhow::Result<Pod> {
        self.add_pod_at(node, name, self.nodes[node].next_pod_number()?)
    }

    /// Adds a pod with the same addresses as an earlier one on this node, which must be gone.
    ///
    /// `host` is what [`Pod::host_number`] returned for that one.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pod_at(&self, node: usize, name: &str, host: u8) -> anyhow::Result<Pod> {
        let pod = Pod::set_up(self.number, &self.nodes[node], name, host)?;
        pod.node().netns().wait_up(&[POD_BRIDGE, pod.node_interface()])?;
        Ok(pod)
    }

    /// Adds pods, each given by the number of its node and its name.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn add_pods(&self, pods: &[(usize, &str)]) -> anyhow::Result<Vec<Pod>> {
        let mut added = Vec::new();
        for &(node, name) in pods {
            let node = &self.nodes[node];
            added.push(Pod::set_up(self.number, node, name, node.next_pod_number()?)?);
        }
        for node in self.nodes() {
            let here = added.iter().filter(|pod| pod.node().index() == node.index());
            let mut names: Vec<_> = here.map(Pod::node_interface).collect();
            if !names.is_empty() {
                names.push(POD_BRIDGE);
                node.netns().wait_up(&names)?;
            }
        }
        Ok(added)
    }
}

/// A namespace with the settings all of a cluster have.
pub(crate) fn quiet_netns(name: &str) -> anyhow::Result<Netns> {
    let netns = Netns::create_bare(name)?;
    netns.sysctl(&QUIET)?;
    Ok(netns)
}

/// Keeps bridged packets away from iptables, whether or not this kernel could pass them there.
///
/// They are routed at the same node anyway, so that the rules see them exactly once.
pub(crate) fn disable_bridge_filter(netns: &Netns) -> anyhow::Result<()> {
    let present =
        netns.run(|| std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists());
    if present {
        netns.sysctl(&[
            ("bridge/bridge-nf-call-iptables", "0"),
            ("bridge/bridge-nf-call-ip6tables", "0"),
        ])?;
    }
    Ok(())
}

fn fabric_commands(nodes: &[String], client: &str) -> String {
    let mut commands = String::from("link set lo up\nlink add br0 type bridge mcast_snooping 0\n");
    let ends = nodes.iter().map(String::as_str).chain([client]);
    for (index, end) in ends.enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(commands, "link add port{index} type veth peer name eth0 netns {end}");
        let _ = writeln!(commands, "link set port{index} master br0 up");
    }
    let (v4, v6) = (plan::fabric_net().v4, plan::fabric_net().v6);
    let gateway = plan::fabric_gateway();
    let _ = writeln!(commands, "addr add {}/{} dev br0", gateway.v4, v4.prefix_len());
    let _ = writeln!(commands, "addr add {}/{} dev br0 nodad", gateway.v6, v6.prefix_len());
    commands.push_str("link set br0 up\n");
    // Without these the fabric would answer that it knows no route.
    commands.push_str("route add blackhole 0.0.0.0/0\nroute add blackhole ::/0\n");
    commands
}
