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
use rustc_hash::{FxHashMap, FxHashSet};

use crate::connections::Connection;
use crate::layout::Set;
use crate::marks::{KnownMarks, Place};

/// The chains that stay, all in the table `filter`.
pub(crate) const KEPT_CHAINS: [&str; 4] =
    ["KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-IPVS-DROP", "KUBE-IPVS-REJECT"];

/// Virtual servers with connections, and how many.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    servers: BTreeMap<ServerKey, usize>,
    /// Virtual servers by mark that may have some of these connections.
    by_mark: BTreeSet<ServerKey>,
    addresses: BTreeSet<IpAddr>,
}

impl Kept {
    /// Those among `ours` with connections that have not ended; `marks` are those of frontends, with the bits that they use.
    pub(crate) fn new(
        ours: &[ServerKey],
        connections: &[Connection],
        (marks, mask): (&FxHashMap<Place, u32>, u32),
    ) -> Self {
        let mut servers = BTreeMap::new();
        for connection in connections.iter().filter(|connection| !connection.ended) {
            // The virtual servers come in order from a map.
            if ours.binary_search(&connection.server).is_ok() {
                *servers.entry(connection.server).or_default() += 1;
            }
        }
        let frontends = || servers.keys().filter_map(ServerKey::frontend);
        let addresses = frontends().map(|(_, address)| address.ip()).collect();
        // The kernel does not say by which virtual server a connection to a frontend came.
        let mark_of = |(protocol, address): (u8, SocketAddr)| {
            marks.get(&(address.ip(), protocol, address.port())).copied()
        };
        let marks: FxHashSet<u32> = frontends().filter_map(mark_of).collect();
        let known = KnownMarks { marks, mask };
        let has_mark = |key: &&ServerKey| key.mark().is_some_and(|mark| known.has(mark));
        let by_mark = ours.iter().filter(has_mark).copied().collect();
        Self { servers, by_mark, addresses }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    pub(crate) fn contains(&self, key: &ServerKey) -> bool {
        self.servers.contains_key(key) || self.by_mark.contains(key)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = ServerKey> {
        self.servers.keys().chain(&self.by_mark).copied()
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
        let records = records || (set == Set::Mark && !self.by_mark.is_empty());
        !self.is_empty() && (in_filter || records)
    }

    /// Whether an entry of such a set has to stay.
    pub(crate) fn needs_entry(&self, set: Set, entry: &Entry) -> bool {
        match (set, entry) {
            (set, _) if set.bars() => false,
            (_, Entry::Ip(ip)) => self.has_address(ip),
            (
                _,
                Entry::IpPort(ip, protocol, port) | Entry::IpPortMark { ip, protocol, port, .. },
            ) => {
                let address = SocketAddr::new(*ip, *port);
                self.contains(&ServerKey::Frontend { protocol: *protocol, address })
            }
            (Set::NodePort(protocol), Entry::Port(port)) => {
                let protocol = protocol.number();
                let mut frontends = self.servers.keys().filter_map(ServerKey::frontend);
                frontends.any(|(of, address)| (of, address.port()) == (protocol, *port))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
