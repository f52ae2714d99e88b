//! What connections need that continue when another mode has taken over.
//!
//! * Their virtual servers, which balance each of their packets, with weight 0 everywhere.
//! * The addresses of these on the interface, so that packets get to IPVS.
//! * The filter that refuses other ports of these addresses. Without it whatever the node itself listens on could be reached by them.
//! * The sets that this filter looks into, and those that record which virtual servers are ours, with no more entries than needed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::ServerKey;

use crate::connections::Connection;
use crate::layout::Set;

/// The chains that stay, all in the table `filter`.
pub(crate) const KEPT_CHAINS: [&str; 4] =
    ["KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-IPVS-DROP", "KUBE-IPVS-REJECT"];

/// Virtual servers with connections, and how many.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    servers: BTreeMap<ServerKey, usize>,
    addresses: BTreeSet<IpAddr>,
}

impl Kept {
    /// Those among `ours` with connections that have not ended.
    pub(crate) fn new(ours: &[ServerKey], connections: &[Connection]) -> Self {
        let mut servers = BTreeMap::new();
        for connection in connections.iter().filter(|connection| !connection.ended) {
            // The virtual servers come in order from a map.
            if ours.binary_search(&connection.server).is_ok() {
                *servers.entry(connection.server).or_default() += 1;
            }
        }
        let addresses = servers.keys().map(|key: &ServerKey| key.address.ip()).collect();
        Self { servers, addresses }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    pub(crate) fn contains(&self, key: &ServerKey) -> bool {
        self.servers.contains_key(key)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = ServerKey> {
        self.servers.keys().copied()
    }

    /// Connections of all of them.
    pub(crate) fn connections(&self) -> usize {
        self.servers.values().sum()
    }

    pub(crate) fn has_address(&self, ip: &IpAddr) -> bool {
        self.addresses.contains(ip)
    }

    /// Whether a set has to stay.
    pub(crate) fn needs_set(&self, set: Set) -> bool {
        let in_filter = set.bars() || matches!(set, Set::Addresses | Set::HealthCheck);
        let records = set.holds_frontends() || matches!(set, Set::NodePort(_));
        !self.is_empty() && (in_filter || records)
    }

    /// Whether an entry of such a set has to stay.
    pub(crate) fn needs_entry(&self, set: Set, entry: &Entry) -> bool {
        match (set, entry) {
            (set, _) if set.bars() => false,
            (_, Entry::Ip(ip)) => self.has_address(ip),
            (_, Entry::IpPort(ip, protocol, port)) => {
                let address = SocketAddr::new(*ip, *port);
                self.contains(&ServerKey { protocol: *protocol, address })
            }
            (Set::NodePort(protocol), Entry::Port(port)) => {
                let protocol = protocol.number();
                self.servers
                    .keys()
                    .any(|key| (key.protocol, key.address.port()) == (protocol, *port))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
