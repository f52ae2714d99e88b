//! Addresses of other machines that this node needs, and so must not take for itself.
//!
//! An address on the interface is one of this node: whatever is sent to it from here or through here ends here.
//! An external IP or VIP is not served on this node while it is the next hop of a route, or an endpoint of any Service, of another machine.
//! Then packets to it leave the node as if there were no Service, and other nodes, above all the one whose address it is, may serve it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kube_proxy_core::{ServicePort, ServicePortName, Snapshot};
use rustc_hash::FxHashSet;

/// What was found at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needed {
    /// The next hops of the routes, whatever Services there are.
    pub(crate) next_hops: BTreeSet<IpAddr>,
    /// External IPs and VIPs that are needed otherwise, each with the service ports that have it as an endpoint.
    /// One that no service port asks for any more may be among them.
    pub(crate) refused: BTreeMap<IpAddr, BTreeSet<ServicePortName>>,
}

/// The addresses of a service port that users choose freely.
pub(crate) fn outer(port: &ServicePort) -> impl Iterator<Item = IpAddr> + '_ {
    let external = port.frontends.iter().filter(|(_, kind)| kind.is_external());
    external.filter_map(|(frontend, _)| frontend.ip())
}

impl Needed {
    pub(crate) fn of(snapshot: &Snapshot, next_hops: BTreeSet<IpAddr>, node: &[IpAddr]) -> Self {
        let chosen: FxHashSet<IpAddr> =
            snapshot.services.values().flat_map(|entry| outer(&entry.port)).collect();
        let mut refused: BTreeMap<IpAddr, BTreeSet<ServicePortName>> = BTreeMap::new();
        if !chosen.is_empty() {
            // What the node has already is not taken away from it.
            let is_other = |ip: &IpAddr| chosen.contains(ip) && !node.contains(ip);
            for ip in next_hops.iter().copied().filter(is_other) {
                refused.entry(ip).or_default();
            }
            for (name, entry) in &snapshot.services {
                let endpoints = entry.endpoints.iter().map(|endpoint| endpoint.ip);
                for ip in endpoints.filter(is_other) {
                    refused.entry(ip).or_default().insert(name.clone());
                }
            }
        }
        Self { next_hops, refused }
    }

    /// Whether an address is not to be taken.
    pub(crate) fn refuses(&self, ip: &IpAddr) -> bool {
        self.refused.contains_key(ip)
    }

    /// Takes in the endpoints that a service port has now; whether an address is needed no more.
    pub(crate) fn releases(
        &mut self,
        name: &ServicePortName,
        endpoints: &FxHashSet<IpAddr>,
    ) -> bool {
        let mut released = false;
        for (ip, because) in &mut self.refused {
            if endpoints.contains(ip) {
                because.insert(name.clone());
            } else if because.remove(name) {
                released |= because.is_empty() && !self.next_hops.contains(ip);
            }
        }
        released
    }

    /// Whether other next hops than before make a difference to these addresses.
    pub(crate) fn differs(
        &self,
        next_hops: &BTreeSet<IpAddr>,
        mut chosen: impl Iterator<Item = IpAddr>,
    ) -> bool {
        chosen.any(|ip| self.next_hops.contains(&ip) != next_hops.contains(&ip))
    }
}

#[cfg(test)]
mod tests;
