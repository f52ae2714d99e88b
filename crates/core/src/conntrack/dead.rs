//! Tracked TCP connections to endpoints that left, of Services that want them ended.
//!
//! An endpoint that is no longer in any slice of the Service has left; one that terminates, or is not ready, has not.
//! An endpoint may be missing for a moment while it moves from one slice to another, so it has left only after a while.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::{TcpFlow, TcpPhase};
use crate::topology::contains_address;
use crate::{Endpoint, Frontend, Protocol, ServiceEntry, ServicePortName, Snapshot};

/// How long an endpoint has to be missing before it has left.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// An endpoint that is no longer among those of a service port; `None` stands for any that may have been there before the service port was looked at.
pub(crate) type Left = (ServicePortName, Option<SocketAddr>);

/// The endpoints of an entry that are missing in the one that takes its place, if their connections are to be ended.
pub(crate) fn left(
    name: &ServicePortName,
    old: Option<&ServiceEntry>,
    new: &ServiceEntry,
    left: &mut Vec<Left>,
) {
    if !new.port.ends_dead_connections() {
        return;
    }
    match old.filter(|old| old.port.ends_dead_connections()) {
        None => left.push((name.clone(), None)),
        Some(old) if Arc::ptr_eq(&old.endpoints, &new.endpoints) => {}
        Some(old) => {
            let all = old.endpoints.iter().map(Endpoint::socket_address);
            let gone = all.filter(|address| !contains_address(&new.endpoints, *address));
            left.extend(gone.map(|address| (name.clone(), Some(address))));
        }
    }
}

/// Endpoints that are missing, and when that means that they have left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Departures(BTreeMap<ServicePortName, Vec<(Option<SocketAddr>, Instant)>>);

impl Departures {
    /// These are missing from now on.
    pub(crate) fn add(&mut self, left: Vec<Left>, now: Instant) {
        for (name, endpoint) in left {
            self.0.entry(name).or_default().push((endpoint, now + PATIENCE));
        }
    }

    /// A check could not be carried out: its service ports are looked at again, after a while.
    pub(crate) fn take_back(&mut self, check: DeadCheck, now: Instant) {
        self.add(check.names.into_iter().map(|name| (name, None)).collect(), now);
    }

    /// When the next has left.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.values().flatten().map(|(_, due)| *due).min()
    }

    /// Takes those that have left by now, and says what to check; `None` if there are none, or their service ports are gone or want nothing any more.
    pub(crate) fn take_check(&mut self, snapshot: &Snapshot, now: Instant) -> Option<DeadCheck> {
        let mut check = DeadCheck::default();
        self.0.retain(|name, missing| {
            let before = missing.len();
            missing.retain(|(_, due)| *due > now);
            let entry = snapshot.entry(name).filter(|entry| entry.port.ends_dead_connections());
            if let Some(entry) = entry
                && missing.len() < before
            {
                let spared = missing.iter().filter_map(|(endpoint, _)| *endpoint).collect();
                check.add(name, entry, &spared);
            }
            !missing.is_empty()
        });
        Some(check).filter(|check| !check.is_empty())
    }
}

/// Where connections to one frontend may lead.
#[derive(Clone, Debug)]
struct Present {
    endpoints: Arc<[Endpoint]>,
    /// Missing, but not for long.
    spared: Arc<[SocketAddr]>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It continues.
    Kept,
    /// The client has not been answered: without the entry its next packet finds another endpoint.
    Forgotten,
    /// The client has to learn that the other side is gone.
    Reset,
}

/// Distinguishes connections to endpoints that left from others, for the frontends of some service ports.
#[derive(Clone, Debug, Default)]
pub struct DeadCheck {
    names: Vec<ServicePortName>,
    addresses: FxHashMap<SocketAddr, Present>,
    node_ports: FxHashMap<u16, Present>,
}

impl DeadCheck {
    fn add(&mut self, name: &ServicePortName, entry: &ServiceEntry, spared: &Arc<[SocketAddr]>) {
        self.names.push(name.clone());
        for (frontend, _) in &entry.port.frontends {
            let present = Present { endpoints: entry.endpoints.clone(), spared: spared.clone() };
            match *frontend {
                Frontend::Address(_, address) => self.addresses.insert(address, present),
                Frontend::NodePort(_, port) => self.node_ports.insert(port, present),
            };
        }
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.node_ports.is_empty()
    }

    /// What becomes of a connection. `is_own` says which addresses are this node's, and `takes_node_ports` which of them take node ports.
    ///
    /// Connections to programs of this node end by themselves: its kernel answers for those that are gone.
    pub fn fate(
        &self,
        flow: &TcpFlow,
        is_own: impl Fn(&IpAddr) -> bool,
        takes_node_ports: impl Fn(&IpAddr) -> bool,
    ) -> Fate {
        let (to, from) = (flow.original_destination, flow.reply_source);
        let at_node_port =
            || self.node_ports.get(&to.port()).filter(|_| takes_node_ports(&to.ip()));
        let Some(present) = self.addresses.get(&to).or_else(at_node_port) else {
            return Fate::Kept;
        };
        let is_present =
            contains_address(&present.endpoints, from) || present.spared.contains(&from);
        if !flow.is_translated() || is_present || is_own(&from.ip()) {
            return Fate::Kept;
        }
        match flow.phase {
            TcpPhase::Waiting => Fate::Forgotten,
            TcpPhase::Open => Fate::Reset,
            TcpPhase::Ended => Fate::Kept,
        }
    }

    /// The one destination that all connections in question share, if there is just one: lets the kernel do the filtering.
    pub fn only_destination(&self) -> Option<SocketAddr> {
        match (self.node_ports.is_empty(), self.addresses.len()) {
            (true, 1) => self.addresses.keys().next().copied(),
            _ => None,
        }
    }
}

impl crate::ServicePort {
    /// Whether connections to its endpoints are ended when those left.
    pub fn ends_dead_connections(&self) -> bool {
        self.policy.reset_dead_connections && self.protocol == Protocol::Tcp
    }
}

#[cfg(test)]
mod tests;
