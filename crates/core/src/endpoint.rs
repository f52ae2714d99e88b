//! Endpoint slices as a source hands them in, and the endpoint that backends see.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::SystemTime;

use crate::slow_start::{STEPS, Step};
use crate::{IpFamily, ObjectName, Protocol};

/// One EndpointSlice, reduced to what a proxy needs.
#[derive(Clone, Debug)]
pub struct EndpointSlice {
    /// Namespace and name of the slice itself.
    pub name: ObjectName,
    /// The name of the Service it belongs to (label `kubernetes.io/service-name`); the namespace is the slice's.
    pub service: Arc<str>,
    /// The family of all its addresses.
    pub family: IpFamily,
    /// The ports that every endpoint of the slice offers.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
    /// When the change that led to this version of the slice happened
    /// (annotation `endpoints.kubernetes.io/last-change-trigger-time`); no part of its identity.
    pub trigger_time: Option<SystemTime>,
}

/// Compares what traffic depends on: everything but the trigger time.
impl PartialEq for EndpointSlice {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.service == other.service
            && self.family == other.family
            && self.ports == other.ports
            && self.endpoints == other.endpoints
    }
}

/// One port of an endpoint slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the *service* port it serves; empty when that has none.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port the endpoint listens on (the target port).
    pub port: NonZeroU16,
}

/// The state of an endpoint, by the conditions of the API. The default is what unset conditions mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// It takes new connections. Unset in the API means true.
    pub ready: bool,
    /// It answers, even if it is about to go. Unset in the API means true.
    pub serving: bool,
    /// It is being shut down. Unset in the API means false.
    pub terminating: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { ready: true, serving: true, terminating: false }
    }
}

/// One endpoint of an endpoint slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The address; the first of the slice's list.
    pub address: IpAddr,
    /// The state it is in.
    pub conditions: Conditions,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// Zones that `hints.forZones` asks to use it from. Empty is no hint.
    pub zone_hints: Vec<Arc<str>>,
    /// Nodes that `hints.forNodes` asks to use it from. Empty is no hint.
    pub node_hints: Vec<Arc<str>>,
    /// How many new connections it gets, compared with others; 0 is none.
    pub weight: u16,
}

impl SliceEndpoint {
    /// A ready endpoint with no node, no hints and the usual weight: the start for literals in sources and tests.
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            conditions: Conditions::default(),
            node: None,
            zone_hints: Vec::new(),
            node_hints: Vec::new(),
            weight: Steering::USUAL_WEIGHT,
        }
    }
}

/// One endpoint of a service port: an address, and what decides whether it takes traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: NonZeroU16,
    /// The state it is in.
    pub conditions: Conditions,
    /// Where it runs, seen from this node.
    pub place: Place,
    /// What its node hints say, seen from this node.
    pub node_hint: NodeHint,
    /// What steers traffic to it or away from it; `None` if nothing does. Shared between the endpoints of one pattern.
    pub steering: Option<Arc<Steering>>,
}

/// What steers traffic to an endpoint or away from it, and most endpoints do not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Steering {
    /// How many new connections it gets, compared with others; 0 is none.
    pub weight: u16,
    /// Zones that ask for it. Empty is no hint.
    pub zone_hints: Vec<Arc<str>>,
    /// How far its share has grown, while it starts slowly.
    pub step: Option<Step>,
}

impl Steering {
    /// The weight of endpoints that are given none.
    pub const USUAL_WEIGHT: u16 = 1;
}

/// Where an endpoint runs, seen from this node. The later in this order, the more is known and the nearer it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Its slice names no node.
    #[default]
    Unknown,
    /// On another node.
    OtherNode,
    /// On this node.
    ThisNode,
}

/// The node hints of an endpoint, seen from this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeHint {
    /// It has none.
    #[default]
    Absent,
    /// This node is named.
    ThisNode,
    /// Only other nodes are named.
    OtherNode,
}

impl Endpoint {
    /// Address and port.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.get())
    }

    /// Whether it is known to run on this node.
    pub fn is_local(&self) -> bool {
        self.place == Place::ThisNode
    }

    /// Whether it may run on this node: hairpin traffic is possible then.
    pub fn may_be_local(&self) -> bool {
        self.place != Place::OtherNode
    }

    /// How many new connections it gets, compared with others of its service port; 0 is none.
    pub fn weight(&self) -> u16 {
        self.steering.as_ref().map_or(Steering::USUAL_WEIGHT, |steering| steering.weight)
    }

    /// How far its share has grown; `None` unless it starts slowly.
    pub fn step(&self) -> Option<Step> {
        self.steering.as_ref().and_then(|steering| steering.step)
    }

    /// How many new connections it gets, compared with others of its service port, in tenths of a weight.
    pub fn share(&self) -> u32 {
        let tenths = self.step().map_or(STEPS, Step::number);
        u32::from(self.weight()) * u32::from(tenths)
    }

    /// Whether its weight keeps new connections away, while those that it has continue.
    pub fn is_draining(&self) -> bool {
        self.weight() == 0
    }

    /// The zones that ask for it; `None` is no hint.
    pub fn zone_hints(&self) -> Option<&[Arc<str>]> {
        let zones = self.steering.as_ref().map(|steering| &*steering.zone_hints);
        zones.filter(|zones| !zones.is_empty())
    }

    /// Whether it takes new connections.
    pub fn is_ready(&self) -> bool {
        self.conditions.ready && !self.is_draining()
    }

    /// Whether it is about to go but still answers: the fall-back when nothing is ready.
    pub fn is_serving_terminating(&self) -> bool {
        self.conditions.serving && self.conditions.terminating && !self.is_draining()
    }

    /// Whether it drains and still answers, so that the connections that it has continue.
    pub fn keeps_connections(&self) -> bool {
        self.is_draining() && self.conditions.serving
    }
}

/// `ip:port`, with IPv6 addresses in brackets: the text in comments and chain hashes.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_address().fmt(f)
    }
}
