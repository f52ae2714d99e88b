//! Frontends: the destinations that service ports offer.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::Protocol;

/// A destination that a service port offers. At most one service port of a snapshot has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    /// A cluster IP, external IP or load-balancer VIP with its port.
    Address(Protocol, SocketAddr),
    /// A node port, on whichever addresses this node has.
    NodePort(Protocol, u16),
}

impl Frontend {
    /// The frontend at an address.
    pub fn address(protocol: Protocol, ip: IpAddr, port: u16) -> Self {
        Self::Address(protocol, SocketAddr::new(ip, port))
    }

    /// Its protocol.
    pub fn protocol(&self) -> Protocol {
        match *self {
            Self::Address(protocol, _) | Self::NodePort(protocol, _) => protocol,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(_, address) => address.port(),
            Self::NodePort(_, port) => *port,
        }
    }

    /// Its address; a node port has none of its own.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(_, address) => Some(address.ip()),
            Self::NodePort(..) => None,
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(protocol, address) => write!(f, "{protocol} {address}"),
            Self::NodePort(protocol, port) => write!(f, "{protocol} node port {port}"),
        }
    }
}

/// What a frontend is to the service port that asks for it.
///
/// Of several service ports the first in this order owns it, among equals the first by name. So no external IP takes the traffic of a
/// cluster IP (CVE-2020-8554), and none opens a VIP whose source ranges are closed: users write external IPs, controllers assign the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrontendKind {
    /// The cluster IP.
    ClusterIp,
    /// A load-balancer VIP.
    LoadBalancerVip,
    /// An external IP.
    ExternalIp,
    /// A node port.
    NodePort,
}

impl FrontendKind {
    /// All of them, in order.
    pub const ALL: [Self; 4] =
        [Self::ClusterIp, Self::LoadBalancerVip, Self::ExternalIp, Self::NodePort];

    /// Whether it is for traffic from outside the cluster: everything but a cluster IP.
    pub fn is_external(self) -> bool {
        self != Self::ClusterIp
    }
}
