//! The answer of `/debug/explain`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::endpoints::{SlowStart, UnusedReason};
use super::names::{Policy, ServicePortId};
use super::services::{Family, Frontend, ServicePort};
use crate::family::on_node::OnNode;

/// What becomes of new connections to a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Explanation {
    /// The name of the node.
    pub node: String,
    /// The proxy mode.
    pub mode: String,
    /// The state of each IP family that the proxy serves.
    pub families: Vec<Family>,
    /// One for each destination that is meant: a Service has one for each port and family.
    pub paths: Vec<Path>,
    /// What may have been meant, where nothing was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub similar: Vec<ServicePortId>,
    /// What is wrong with the proxy itself, or with what it was asked; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What becomes of a new connection from a source to a destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Path {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Who sends it.
    pub source: SourceKind,
    /// The address of the source, where one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Where it is sent to.
    pub destination: SocketAddr,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What decides that.
    pub reason: Reason,
    /// The destination is an address of this node.
    pub to_node: bool,
    /// The service port that has the destination, without its endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_port: Option<ServicePort>,
    /// The frontend that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<Frontend>,
    /// The policy that selects the endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// The frontend is under the policy `Local`, which does not count for traffic of this node and its pods.
    #[serde(default)]
    pub short_circuit: bool,
    /// Why endpoints of other zones join those of the node's zone, where hints alone would not use them; in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<String>,
    /// Whether the source is in the source ranges; absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_allowed: Option<bool>,
    /// What happens to the source address; absent without a service port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
    /// Every endpoint of the service port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<EndpointUse>,
    /// The session of the source under session affinity; absent without affinity, without an address of the source, and where no proxy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What is near the destination, where no service port has it; the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<Nearest>,
    /// Where tracked connections to the destination lead now; absent where they could not be read, or were not asked for (`connections=none`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Vec<Connections>>,
    /// What the node holds for the frontend; absent without a service port, and where no proxy was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node: Option<OnNode>,
    /// All of it in one sentence.
    pub summary: String,
    /// What to do next, where something is wrong; a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SourceKind {
    /// A pod of this node.
    Pod,
    /// This node itself.
    Node,
    /// Anybody else.
    Outside,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Verdict {
    /// It goes to one of the endpoints that are used.
    Endpoints,
    /// The client is refused at once.
    Refused,
    /// It is dropped: the client waits in vain.
    Dropped,
    /// The proxy leaves it alone.
    Passed,
}

/// What decides a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Reason {
    /// There are endpoints for it.
    HasEndpoints,
    /// No endpoint takes traffic, anywhere.
    NoEndpoints,
    /// None on this node, and the policy is `Local`.
    NoLocalEndpoints,
    /// The source is in none of the source ranges.
    SourceRanges,
    /// Node ports of this protocol are refused on loopback addresses.
    Loopback,
    /// The address belongs to a Service, the port does not.
    OtherPort,
    /// A cluster IP that no Service has.
    UnusedClusterIp,
    /// No service port has this destination.
    NoServicePort,
}

/// What happens to the source address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Masquerade {
    /// Endpoints see the address of this node instead of the client's.
    pub masqueraded: bool,
    /// Why.
    pub reason: String,
}

/// An endpoint, as this packet finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EndpointUse {
    /// Its address and port.
    pub address: SocketAddr,
    /// It runs on this node.
    pub local: bool,
    /// How many new connections it gets, compared with others; 0 drains it; absent where nothing gives it a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// How far its share has grown; absent unless it starts slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Why the packet does not go there; absent for those that it may go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<UnusedReason>,
    /// It would see the address of this node.
    pub masqueraded: bool,
}

/// The session of a source with a service port under session affinity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum Session {
    /// The node remembers one.
    Found {
        /// Where it leads.
        endpoint: SocketAddr,
        /// In how many seconds it ends, if the source does not connect again.
        seconds_left: u64,
        /// The connection follows it; not if the endpoint is one that the packet may not go to.
        followed: bool,
    },
    /// The source has none: its next connection chooses an endpoint, and begins one.
    None,
    /// It could not be looked up.
    Unknown {
        /// Why.
        why: String,
    },
}

/// A service port near the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Nearest {
    /// How it is near, in a few words.
    pub relation: String,
    /// The service port.
    pub service_port: ServicePortId,
    /// Its frontend: address and port, or the node port.
    pub frontend: String,
}

/// Tracked connections that lead to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Connections {
    /// Where answers come from: the endpoint, or the destination itself if it was not translated.
    pub endpoint: SocketAddr,
    /// How many there are.
    pub count: usize,
    /// It is no endpoint of the service port any more, or one that is not used.
    pub unused: bool,
}
