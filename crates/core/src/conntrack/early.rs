//! Tracked TCP connections that began before the rules for their destination were there.
//!
//! A client that asks for a connection before its Service is on this node leaves an entry without translation behind. Every further SYN of
//! it belongs to that entry, and no rule for new connections sees it: the client waits until it gives up. Once the entry is gone, the next
//! SYN finds an endpoint. Nothing else may go: a connection that stands is not ours to end.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::TcpFlow;
use crate::owners::Owners;
use crate::{Frontend, FrontendKind, NoLocalEndpoints, Protocol, ServiceEntry, Snapshot, Unserved};

/// TCP frontends whose rules appeared.
#[derive(Clone, Debug)]
pub(crate) enum NewFrontends {
    /// All there are: nothing is known of what was on the node before.
    All,
    These(BTreeSet<Frontend>),
}

impl Default for NewFrontends {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl NewFrontends {
    /// An entry takes the place of another one in the snapshot.
    pub(crate) fn replace(&mut self, old: Option<&ServiceEntry>, new: &ServiceEntry) {
        let Self::These(these) = self else { return };
        if new.port.protocol != Protocol::Tcp {
            return;
        }
        let before = |frontend: Frontend| {
            old.and_then(|old| kind(old, frontend).map(|kind| Grip::of(old, kind)))
        };
        let all = new.port.frontends.iter();
        let tighter = |(frontend, kind): &&(Frontend, FrontendKind)| {
            Grip::of(new, *kind) > before(*frontend).unwrap_or(Grip::None)
        };
        these.extend(all.filter(tighter).map(|(frontend, _)| *frontend));
    }

    /// Takes what to check; `None` if nothing appeared.
    pub(crate) fn take_check(&mut self) -> Option<EarlyCheck> {
        match std::mem::take(self) {
            Self::These(these) if these.is_empty() => None,
            new => Some(EarlyCheck { new }),
        }
    }

    /// Puts a failed check back.
    pub(crate) fn take_back(&mut self, check: EarlyCheck) {
        match (&mut *self, check.new) {
            (Self::All, _) => {}
            (Self::These(_), Self::All) => *self = Self::All,
            (Self::These(these), Self::These(more)) => these.extend(more),
        }
    }
}

/// What rules do with the packets of a frontend, the least first.
///
/// Rules that refuse and rules that translate are not written in one step in every mode: a SYN that comes in between passes both.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grip {
    None,
    Refused,
    Translated,
}

impl Grip {
    fn of(entry: &ServiceEntry, kind: FrontendKind) -> Self {
        match entry.treatment(kind).unserved {
            None => Self::Translated,
            Some(_) if passes(entry, kind) => Self::None,
            Some(_) => Self::Refused,
        }
    }
}

/// What a frontend is to a service port that has it.
fn kind(entry: &ServiceEntry, frontend: Frontend) -> Option<FrontendKind> {
    let mut all = entry.port.frontends.iter();
    all.find(|(own, _)| *own == frontend).map(|(_, kind)| *kind)
}

/// Whether packets for a frontend of this kind pass the rules as they are: their connections are not this proxy's.
fn passes(entry: &ServiceEntry, kind: FrontendKind) -> bool {
    let unserved = entry.treatment(kind).unserved;
    unserved.map(Unserved::action) == Some(NoLocalEndpoints::Passthrough)
}

/// Says of TCP connections that wait for an answer whether they began before the rules of a frontend were there.
#[derive(Debug)]
pub struct EarlyCheck {
    new: NewFrontends,
}

impl EarlyCheck {
    /// The one destination that all connections in question share, if there is just one: lets the kernel do the filtering.
    pub fn only_destination(&self) -> Option<SocketAddr> {
        let NewFrontends::These(these) = &self.new else { return None };
        match (these.len(), these.first()) {
            (1, Some(Frontend::Address(_, address))) => Some(*address),
            _ => None,
        }
    }

    /// Whether the entry has to be deleted. `takes_node_ports` says which addresses do.
    pub(crate) fn is_early(
        &self,
        flow: &TcpFlow,
        takes_node_ports: impl Fn(&IpAddr) -> bool,
        snapshot: &Snapshot,
        owners: &Owners,
    ) -> bool {
        let appeared = |frontend: Frontend| {
            let named = match &self.new {
                NewFrontends::All => true,
                NewFrontends::These(these) => these.contains(&frontend),
            };
            let owner = || owners.owner(frontend).and_then(|name| snapshot.entry(name));
            let translates = |entry| kind(entry, frontend).is_some_and(|kind| !passes(entry, kind));
            named && owner().is_some_and(translates)
        };
        let to = flow.original_destination;
        flow.is_waiting()
            && !flow.is_translated()
            && (appeared(Frontend::Address(Protocol::Tcp, to))
                || takes_node_ports(&to.ip())
                    && appeared(Frontend::NodePort(Protocol::Tcp, to.port())))
    }
}

#[cfg(test)]
mod tests;
