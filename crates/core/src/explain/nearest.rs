//! What is near a destination that no service port has.

use super::Packet;
use super::found::frontends;
use crate::{Frontend, FrontendKind, ServicePortName, Snapshot};

/// Most that are named.
const MOST: usize = 8;

/// A service port near the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nearest<'a> {
    /// How it is near.
    pub relation: Relation,
    /// The service port.
    pub name: &'a ServicePortName,
    /// Its frontend there.
    pub frontend: Frontend,
    /// What that is.
    pub kind: FrontendKind,
}

/// How a service port is near a destination; the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The same address and port, for another protocol.
    OtherProtocol,
    /// The same address, and its endpoints listen at the port of the destination.
    TargetPort,
    /// The same address, with another port.
    OtherPort,
    /// The port is its node port, which the address does not take.
    NodePort,
    /// The destination is one of its endpoints: no Service is asked on that way.
    Endpoint,
}

pub(super) fn nearest<'a>(snapshot: &'a Snapshot, packet: &Packet) -> Vec<Nearest<'a>> {
    let (to, port) = (packet.destination, packet.destination.port());
    let mut all: Vec<Nearest<'a>> = Vec::new();
    for (name, entry, frontend, kind) in frontends(snapshot) {
        let listens = || entry.endpoints.iter().any(|endpoint| endpoint.port.get() == port);
        let relation = if frontend.ip() == Some(to.ip()) {
            match (frontend.port() == port, listens()) {
                (true, _) => Relation::OtherProtocol,
                (false, true) => Relation::TargetPort,
                (false, false) => Relation::OtherPort,
            }
        } else if kind == FrontendKind::NodePort && frontend.port() == port {
            Relation::NodePort
        } else if kind == FrontendKind::ClusterIp
            && entry.endpoints.iter().any(|endpoint| endpoint.socket_address() == to)
        {
            Relation::Endpoint
        } else {
            continue;
        };
        all.push(Nearest { relation, name, frontend, kind });
    }
    all.sort_by_key(|near| near.relation);
    all.truncate(MOST);
    all
}
