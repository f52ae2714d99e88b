//! Which tracked UDP flows lead to the wrong place after a change.
//!
//! UDP has no end of connection: a client that goes on sending keeps its conntrack entry alive, and with it the DNAT decision of long ago.
//! So after the rules changed, entries that contradict them have to go. Nothing else may: a flow that is right is somebody's session.
//! TCP and SCTP are never touched; an ended connection announces itself there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{Protocol, ServicePort, ServicePortName, Snapshot};

/// A UDP destination that a service port offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// A cluster IP, external IP or load-balancer VIP with its port.
    Address(SocketAddr),
    /// A node port, on whichever addresses this node has.
    NodePort(u16),
}

/// What a frontend is to a service port that wants it. The first in this order has it, among equals the first by name:
/// no external IP takes the traffic of a cluster IP (CVE-2020-8554).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    ClusterIp,
    Other,
}

/// Who has which UDP frontend, and for which of them that changed since the last check.
#[derive(Clone, Debug, Default)]
pub(crate) struct UdpFrontends {
    claims: FxHashMap<Frontend, BTreeSet<(Role, ServicePortName)>>,
    touched: BTreeSet<Frontend>,
}

impl UdpFrontends {
    /// A service port that had these frontends is gone or different.
    pub(crate) fn forget(&mut self, name: &ServicePortName, port: &ServicePort) {
        for (frontend, role) in frontends(port) {
            if let Some(claims) = self.claims.get_mut(&frontend) {
                claims.remove(&(role, name.clone()));
                if claims.is_empty() {
                    self.claims.remove(&frontend);
                }
            }
            self.touched.insert(frontend);
        }
    }

    /// A service port has these frontends now.
    pub(crate) fn keep(&mut self, name: &ServicePortName, port: &ServicePort) {
        for (frontend, role) in frontends(port) {
            self.claims.entry(frontend).or_default().insert((role, name.clone()));
            self.touched.insert(frontend);
        }
    }

    /// Puts a failed check back.
    pub(crate) fn take_back(&mut self, check: &UdpCheck) {
        self.touched.extend(check.addresses.keys().copied().map(Frontend::Address));
        self.touched.extend(check.node_ports.keys().copied().map(Frontend::NodePort));
    }

    /// Looks up where each touched frontend leads now; `None` if none was touched.
    pub(crate) fn take_check(&mut self, snapshot: &Snapshot) -> Option<UdpCheck> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return None;
        }
        let mut check = UdpCheck::default();
        for frontend in touched {
            let owner = self.claims.get(&frontend).and_then(BTreeSet::first);
            let entry = owner.and_then(|(_, name)| snapshot.services.get(name));
            let expected = Expected(entry.map(|entry| {
                let serving = entry.endpoints.iter().filter(|e| e.conditions.serving);
                serving.map(crate::Endpoint::socket_address).collect()
            }));
            match frontend {
                Frontend::Address(address) => check.addresses.insert(address, expected),
                Frontend::NodePort(port) => check.node_ports.insert(port, expected),
            };
        }
        Some(check)
    }
}

/// The UDP frontends of a service port; none if it is not UDP.
fn frontends(port: &ServicePort) -> impl Iterator<Item = (Frontend, Role)> + '_ {
    let address =
        |ip: &IpAddr, role| (Frontend::Address(SocketAddr::new(*ip, port.port.get())), role);
    let external = port.external_ips.iter().map(move |ip| address(ip, Role::Other));
    let vips = port.load_balancer_vips.iter().map(move |ip| address(ip, Role::Other));
    let node_port = port.node_port.map(|p| (Frontend::NodePort(p.get()), Role::Other));
    let udp = port.protocol == Protocol::Udp;
    std::iter::once(address(&port.cluster_ip, Role::ClusterIp))
        .chain(external)
        .chain(vips)
        .chain(node_port)
        .filter(move |_| udp)
}

/// Where flows to one frontend have to lead: the serving endpoints of its service port; `None` if no service port has it any more.
#[derive(Clone, Debug)]
struct Expected(Option<FxHashSet<SocketAddr>>);

impl Expected {
    fn allows(&self, flow: &UdpFlow) -> bool {
        match &self.0 {
            Some(endpoints) => endpoints.contains(&flow.reply_source),
            // Nobody claims the destination: a flow that was never redirected is none of our business.
            None => flow.reply_source == flow.original_destination,
        }
    }
}

/// A tracked UDP flow, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFlow {
    /// Where the client sends to.
    pub original_destination: SocketAddr,
    /// Who answers: the endpoint, if the flow was redirected to one.
    pub reply_source: SocketAddr,
}

/// Tells stale UDP flows from right ones, for the frontends that changed.
///
/// A serving endpoint of the service port is right, whatever policy or topology now prefers: a flow that works is left alone.
#[derive(Clone, Debug, Default)]
pub struct UdpCheck {
    addresses: FxHashMap<SocketAddr, Expected>,
    node_ports: FxHashMap<u16, Expected>,
}

impl UdpCheck {
    /// Whether the flow has to be deleted. `is_node_address` says which addresses are this node's own:
    /// the same port number elsewhere is no node port of ours.
    pub fn is_stale(&self, flow: &UdpFlow, is_node_address: impl Fn(&IpAddr) -> bool) -> bool {
        let to = flow.original_destination;
        if let Some(expected) = self.addresses.get(&to) {
            return !expected.allows(flow);
        }
        match self.node_ports.get(&to.port()) {
            Some(expected) => is_node_address(&to.ip()) && !expected.allows(flow),
            None => false,
        }
    }

    /// The one destination address and port that all flows in question share, if there is just one: lets the kernel do the filtering.
    pub fn only_destination(&self) -> Option<SocketAddr> {
        if self.node_ports.is_empty() && self.addresses.len() == 1 {
            self.addresses.keys().next().copied()
        } else {
            None
        }
    }

    /// Whether any node port is among the frontends, so that the node's addresses are needed.
    pub fn has_node_ports(&self) -> bool {
        !self.node_ports.is_empty()
    }

    /// How many frontends are looked at.
    pub fn len(&self) -> usize {
        self.addresses.len() + self.node_ports.len()
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests;
