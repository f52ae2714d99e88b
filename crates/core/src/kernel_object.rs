//! What a node holds for one frontend: the question, and the objects of which a backend answers, in the words of its mode.

use std::fmt;
use std::net::SocketAddr;

use crate::{Frontend, ServicePortName};

/// Asks what the node holds for one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrontendQuery {
    /// The service port that has the frontend.
    pub service: ServicePortName,
    /// The frontend.
    pub frontend: Frontend,
    /// The address and port that a client uses: of a node port those of the node.
    pub address: SocketAddr,
}

impl FrontendQuery {
    /// What serves clients of this address.
    pub fn new(service: ServicePortName, frontend: Frontend, address: SocketAddr) -> Self {
        Self { service, frontend, address }
    }
}

/// One object of a node that takes part in serving a frontend, or that keeps another from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelObject {
    /// What it is: `element`, `rule`, `virtual server` and the like.
    pub kind: &'static str,
    /// Its name as it should be, with the place it is in: `frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-2`.
    /// Of an object that is in the way, what it is.
    pub name: String,
    /// What the node has of it.
    pub state: ObjectState,
}

/// What a node has of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectState {
    /// What the last sync wrote.
    AsWanted,
    /// Nothing.
    Missing,
    /// Something else under the same name.
    Different {
        /// What there is instead.
        actual: String,
    },
    /// An object that nothing asked for, and that changes what becomes of packets for the frontend.
    InTheWay,
    /// It cannot be told.
    Unknown {
        /// Why.
        why: String,
    },
}

impl KernelObject {
    /// An object and what the node has of it.
    pub fn new(kind: &'static str, name: impl Into<String>, state: ObjectState) -> Self {
        Self { kind, name: name.into(), state }
    }

    /// One that is there, or is not.
    pub fn there_or_missing(kind: &'static str, name: impl Into<String>, is_there: bool) -> Self {
        let state = if is_there { ObjectState::AsWanted } else { ObjectState::Missing };
        Self::new(kind, name, state)
    }
}

/// `missing element frontend-ips: …`
impl fmt::Display for KernelObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, state } = self;
        match state {
            ObjectState::AsWanted => write!(f, "{kind} {name}"),
            ObjectState::Missing => write!(f, "missing {kind} {name}"),
            ObjectState::Different { actual } => {
                write!(f, "different {kind} {name}, there is {actual}")
            }
            ObjectState::InTheWay => write!(f, "in the way: {kind} {name}"),
            ObjectState::Unknown { why } => write!(f, "not known: {kind} {name}: {why}"),
        }
    }
}
