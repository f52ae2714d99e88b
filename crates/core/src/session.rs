//! Session affinity as a node remembers it: which endpoint the next connection of a client goes to.
//!
//! The memory is the kernel's, or that of the data path; here are only the question and the answer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::{ServicePortName, TrafficPolicy};

/// What the session of one client is found by, in every mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// The service port, which has session affinity.
    pub service: ServicePortName,
    /// The frontend, with the address that the client uses: of a node port that of the node.
    pub frontend: SocketAddr,
    /// The policy that selects the endpoints for this client.
    pub policy: TrafficPolicy,
    /// The client.
    pub client: IpAddr,
}

/// A client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where it leads.
    pub endpoint: SocketAddr,
    /// In how long it ends, if the client does not come again.
    pub remaining: Duration,
}
