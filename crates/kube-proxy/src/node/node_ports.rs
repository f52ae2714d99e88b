//! At which addresses of this node its node ports may be used.

use std::net::IpAddr;

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::{IpFamily, NodePortAddresses};

use super::watch::NodeStatus;

/// Where node ports of one family may be used.
#[derive(Clone, Debug)]
pub struct NodePortScope {
    /// Among the addresses of the node, these.
    pub addresses: NodePortAddresses,
    /// Loopback addresses as well.
    pub loopback: bool,
}

impl NodePortScope {
    /// Where node ports of a family may be used: needed to tell whose UDP flows they are.
    pub fn of(config: &Effective, family: IpFamily, node: &NodeStatus) -> Self {
        let addresses = config.node_port_addresses(family, node.address(config, family));
        let loopback = config.mode == Mode::Iptables
            && family == IpFamily::V4
            && config.localhost_node_ports
            && addresses.contains_loopback();
        Self { addresses, loopback }
    }

    /// Whether node ports may be used at this address of the node.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        self.addresses.contains(ip) && (self.loopback || !ip.is_loopback())
    }
}

#[cfg(test)]
mod tests;
