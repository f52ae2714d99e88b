//! Which tracked flows lead to the wrong place after a change.
//!
//! UDP has no end of connection: a client that continues sending keeps its conntrack entry alive, and with it the DNAT decision of long ago.
//! So after the rules changed, entries that contradict them have to go. Nothing else may: a flow that is right is a client's session.
//! TCP is touched in two cases only: a connection that began too early ([`EarlyCheck`]), and, for Services that ask for it, one to an
//! endpoint that left ([`DeadCheck`]). SCTP is never touched; an ended connection announces itself there.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::owners::Owners;
use crate::{Frontend, Protocol, ServicePort, Snapshot};

mod dead;
mod early;
mod tcp;

pub use dead::{DeadCheck, Fate, PATIENCE};
pub(crate) use dead::{Departures, Left, left};
pub use early::EarlyCheck;
pub(crate) use early::NewFrontends;
pub use tcp::{TcpFlow, TcpPhase};

/// UDP frontends that changed since the last check.
#[derive(Clone, Debug, Default)]
pub(crate) struct UdpFrontends {
    touched: BTreeSet<Frontend>,
}

impl UdpFrontends {
    /// A service port has, or had until now, these frontends.
    pub(crate) fn touch_port(&mut self, port: &ServicePort) {
        self.touch(port.frontends.iter().map(|(frontend, _)| *frontend));
    }

    /// The entries of those of these that are of UDP have to be checked.
    pub(crate) fn touch(&mut self, frontends: impl IntoIterator<Item = Frontend>) {
        let udp = |frontend: &Frontend| frontend.protocol() == Protocol::Udp;
        self.touched.extend(frontends.into_iter().filter(udp));
    }

    /// Puts a failed check back.
    pub(crate) fn take_back(&mut self, check: &UdpCheck) {
        let address = |to| Frontend::Address(Protocol::Udp, to);
        self.touched.extend(check.addresses.keys().copied().map(address));
        let node_port = |port| Frontend::NodePort(Protocol::Udp, port);
        self.touched.extend(check.node_ports.keys().copied().map(node_port));
    }

    /// Looks up where each touched frontend leads now; `None` if none was touched.
    pub(crate) fn take_check(&mut self, snapshot: &Snapshot, owners: &Owners) -> Option<UdpCheck> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return None;
        }
        let mut check = UdpCheck::default();
        for frontend in touched {
            let owner = owners.owner(frontend);
            let entry = owner.and_then(|name| snapshot.services.get(name));
            let expected = Expected(entry.map(|entry| {
                let serving = entry.endpoints.iter().filter(|e| e.conditions.serving);
                serving.map(crate::Endpoint::socket_address).collect()
            }));
            match frontend {
                Frontend::Address(_, address) => check.addresses.insert(address, expected),
                Frontend::NodePort(_, port) => check.node_ports.insert(port, expected),
            };
        }
        Some(check)
    }
}

/// Where flows to one frontend have to lead: the serving endpoints of its service port; `None` if no service port has it any more.
#[derive(Clone, Debug)]
struct Expected(Option<FxHashSet<SocketAddr>>);

impl Expected {
    fn allows(&self, flow: &UdpFlow) -> bool {
        match &self.0 {
            Some(endpoints) => endpoints.contains(&flow.reply_source),
            // Nothing claims the destination: a flow that was never redirected is none of our business.
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

/// Distinguishes stale UDP flows from right ones, for the frontends that changed.
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

    /// Keeps the frontends that no service port has any more: for a mode that looks after the flows to all others itself.
    pub fn retain_unowned(&mut self) {
        self.addresses.retain(|_, expected| expected.0.is_none());
        self.node_ports.retain(|_, expected| expected.0.is_none());
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
