//! Which tracked UDP flows lead to the wrong place after a change.
//!
//! UDP has no end of connection: a client that goes on sending keeps its conntrack entry alive, and with it the DNAT decision of long ago.
//! So after the rules changed, entries that contradict them have to go. Nothing else may: a flow that is right is somebody's session.
//! TCP and SCTP are never touched; an ended connection announces itself there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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

/// UDP frontends whose service port changed since the last check, with the service port that has them now.
#[derive(Clone, Debug, Default)]
pub(crate) struct TouchedFrontends(BTreeMap<Frontend, Option<ServicePortName>>);

impl TouchedFrontends {
    /// A service port that had these frontends is gone or different.
    pub(crate) fn forget(&mut self, port: &ServicePort) {
        for frontend in frontends(port) {
            self.0.entry(frontend).or_default();
        }
    }

    /// A service port has these frontends now.
    pub(crate) fn keep(&mut self, name: &ServicePortName, port: &ServicePort) {
        for frontend in frontends(port) {
            self.0.insert(frontend, Some(name.clone()));
        }
    }

    /// Puts a failed check back; what was noted since then is newer and stays.
    pub(crate) fn take_back(&mut self, check: UdpCheck) {
        let all = check.addresses.into_iter().map(|(a, e)| (Frontend::Address(a), e));
        let all = all.chain(check.node_ports.into_iter().map(|(p, e)| (Frontend::NodePort(p), e)));
        for (frontend, expected) in all {
            self.0.entry(frontend).or_insert(expected.owner);
        }
    }

    /// Looks up where each frontend leads now.
    pub(crate) fn resolve(self, snapshot: &Snapshot) -> Option<UdpCheck> {
        if self.0.is_empty() {
            return None;
        }
        let mut check = UdpCheck::default();
        for (frontend, owner) in self.0 {
            // The owner may have lost the frontend again in a later fold.
            let entry = owner.as_ref().and_then(|name| snapshot.services.get(name));
            let entry = entry.filter(|entry| frontends(&entry.port).any(|own| own == frontend));
            let expected = Expected {
                owner: entry.is_some().then_some(owner).flatten(),
                endpoints: entry.map(|entry| {
                    let serving = entry.endpoints.iter().filter(|e| e.conditions.serving);
                    Arc::new(serving.map(crate::Endpoint::socket_address).collect())
                }),
            };
            match frontend {
                Frontend::Address(address) => check.addresses.insert(address, expected),
                Frontend::NodePort(port) => check.node_ports.insert(port, expected),
            };
        }
        Some(check)
    }
}

/// The UDP frontends of a service port; none if it is not UDP.
fn frontends(port: &ServicePort) -> impl Iterator<Item = Frontend> + '_ {
    let udp = port.protocol == Protocol::Udp;
    port.addressed_frontends()
        .map(Frontend::Address)
        .chain(port.node_port.map(|p| Frontend::NodePort(p.get())))
        .filter(move |_| udp)
}

/// Where flows to one frontend have to lead.
#[derive(Clone, Debug)]
struct Expected {
    owner: Option<ServicePortName>,
    /// The serving endpoints of the service port; `None` if no service port has the frontend any more.
    endpoints: Option<Arc<FxHashSet<SocketAddr>>>,
}

impl Expected {
    fn allows(&self, flow: &UdpFlow) -> bool {
        match &self.endpoints {
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
