//! The client outside the cluster.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use ipnet::IpNet;
use kube_proxy_core::IpFamily;

use super::node::{add_address, fabric_routes};
use super::{Node, plan};
use crate::netns::Netns;
use crate::probe::Probe;

/// A machine on the fabric that is no node.
///
/// It reaches cluster IPs, load-balancer VIPs and external IPs through the first node until
/// [`Self::route_through`] chooses another.
#[derive(Debug)]
pub struct Client {
    netns: Netns,
}

impl Client {
    pub(super) fn set_up(netns: Netns, nodes: &[Arc<Node>]) -> anyhow::Result<Self> {
        let own = plan::client();
        let mut commands = String::from("link set lo up\nlink set eth0 up\n");
        // Writing to a string cannot fail.
        let _ = writeln!(commands, "addr add {}/24 dev eth0", own.v4);
        let _ = writeln!(commands, "addr add {}/64 dev eth0 nodad", own.v6);
        let count = nodes.iter().map(|node| node.plan_index()).max().map_or(0, |last| last + 1);
        commands.push_str(&fabric_routes(count, None));
        if let Some(first) = nodes.first() {
            commands.push_str(&virtual_routes(first));
        }
        netns.ip(&commands).context("cannot set up the client outside")?;
        Ok(Self { netns })
    }

    /// Its address on the fabric.
    pub fn ip(&self, family: IpFamily) -> IpAddr {
        *plan::client().get(family)
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Connections and datagrams from outside the cluster.
    pub fn probe(&self) -> Probe<'_> {
        self.netns.probe()
    }

    /// Gives the client another address on the fabric, for [`Probe::source`].
    pub fn add_address(&self, address: IpAddr) -> anyhow::Result<()> {
        add_address(&self.netns, address)
    }

    /// Reaches all service addresses of [`plan`] through this node from now on.
    pub fn route_through(&self, node: &Node) -> anyhow::Result<()> {
        self.netns.ip(&virtual_routes(node))
    }

    /// Reaches one network, of the fabric or not, through this node from now on.
    pub fn route(&self, net: IpNet, node: &Node) -> anyhow::Result<()> {
        self.netns.ip(&route(net, node))
    }
}

fn virtual_routes(node: &Node) -> String {
    let mut commands = String::new();
    for nets in [plan::service_net(), plan::load_balancer_net(), plan::external_net()] {
        commands.push_str(&route(nets.v4, node));
        commands.push_str(&route(nets.v6, node));
    }
    commands
}

fn route(net: IpNet, node: &Node) -> String {
    format!("route replace {net} via {}\n", node.ip(IpFamily::of_net(&net)))
}
