//! What becomes of a packet, and why: a pure function of the snapshot, the node and the packet.
//!
//! It asks what backends ask ([`ServiceEntry::treatment`], [`Selection`](crate::Selection), the owners of frontends), so that it says what they do.
//! What differs between modes is data too: [`ModeBehavior`].

mod found;
mod nearest;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::{
    Endpoint, Frontend, FrontendKind, FrontendQuery, LocalTrafficDetector, NoLocalEndpoints,
    NodePortAddresses, Protocol, ServiceEntry, ServicePortName, SessionKey, Snapshot, Spill,
    TrafficPolicy, Unserved, Unused,
};

use found::{Found, Place, find, owner_in};
pub use nearest::{Nearest, Relation};

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sends it.
    pub source: Source,
    /// The protocol.
    pub protocol: Protocol,
    /// Where it is sent to.
    pub destination: SocketAddr,
}

/// Who sends a packet, and its address where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pod of this node.
    Pod(Option<IpAddr>),
    /// This node itself, or a pod in its network.
    Node,
    /// Anybody else.
    Outside(Option<IpAddr>),
}

/// What is known of the node, in one family.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// How traffic of pods of this node is recognised.
    pub local_traffic: LocalTrafficDetector,
    /// `spec.podCIDRs` of the node.
    pub pod_cidrs: Vec<IpNet>,
    /// The addresses of the node, without those that are there for Services.
    pub addresses: Vec<IpAddr>,
    /// Which of them take node ports.
    pub node_ports: NodePortAddresses,
    /// All traffic to cluster IPs is masqueraded.
    pub masquerade_all: bool,
    /// What the mode does in its own way.
    pub mode: ModeBehavior,
    /// Service ports at which it turned out not to do what it should: see
    /// [`ProxyBackend::without_short_circuit`](crate::ProxyBackend::without_short_circuit).
    pub without_short_circuit: BTreeSet<ServicePortName>,
}

/// What modes do in different ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModeBehavior {
    /// Node ports on loopback addresses.
    pub loopback: LoopbackNodePorts,
    /// Protocols that are refused at node ports on loopback addresses.
    pub refused_on_loopback: Vec<Protocol>,
    /// Other ports of addresses of Services.
    pub other_ports: OtherPorts,
    /// Where all clients of a frontend share its endpoints: under the external policy `Local` those of this node, for as long as there are any.
    pub shared_endpoints: SharedEndpoints,
    /// What passes for want of local endpoints passes for clients of this node as well.
    pub passes_for_all: bool,
    /// The policy `Local` uses endpoints of other nodes where this one has none.
    pub local_fallback: bool,
    /// This process copies the connections: endpoints see the node's address.
    pub copies: bool,
}

/// Where clients of this node get no other endpoints of external frontends than others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedEndpoints {
    /// Nowhere.
    #[default]
    Never,
    /// At service ports with session affinity.
    UnderAffinity,
    /// Everywhere.
    Always,
}

impl SharedEndpoints {
    /// Whether those of a service port are shared.
    fn is_so(self, entry: &ServiceEntry) -> bool {
        match self {
            Self::Never => false,
            Self::UnderAffinity => entry.port.policy.session_affinity.is_some(),
            Self::Always => true,
        }
    }
}

/// What a mode does with node ports on loopback addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopbackNodePorts {
    /// Nothing.
    #[default]
    NotServed,
    /// The same as on other addresses.
    Served,
    /// This process listens there, and copies connections to the endpoints that the policy allows to anybody.
    Copied,
}

/// What becomes of packets to other ports of addresses of Services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OtherPorts {
    /// The mode has no rule for them.
    #[default]
    Passed,
    /// Refused at cluster IPs; dropped at addresses of the ranges of cluster IPs that no Service has.
    RefusedAtClusterIps,
    /// Refused at every address of a Service, which is on an interface of the node.
    RefusedAtAll,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes to one of the endpoints.
    Endpoints,
    /// The client is refused at once.
    Refused,
    /// It is dropped: the client waits in vain.
    Dropped,
    /// No rule of the proxy takes it: it goes where the routes of the node lead it.
    Passed,
}

/// What decides the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The policy has endpoints for it.
    HasEndpoints,
    /// The service port has no endpoint that takes traffic, anywhere.
    NoEndpoints,
    /// The service port has some, but none on this node, and the policy is `Local`.
    NoLocalEndpoints,
    /// The source is in none of the source ranges.
    SourceRanges,
    /// Node ports of this protocol are refused on loopback addresses.
    Loopback,
    /// The address belongs to a Service, the port does not.
    OtherPort,
    /// The address is one of those that cluster IPs are taken from, and no Service has it.
    UnusedClusterIp,
    /// No service port has this destination.
    NoServicePort,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What becomes of it.
    pub verdict: Verdict,
    /// What decides that.
    pub reason: Reason,
    /// The destination is an address of this node.
    pub to_node: bool,
    /// The service port that has the destination.
    pub served: Option<Served<'a>>,
    /// What is near the destination, where no service port has it; the nearest first.
    pub nearest: Vec<Nearest<'a>>,
}

/// How a service port treats the packet.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    /// The service port.
    pub name: &'a ServicePortName,
    /// What the snapshot has of it.
    pub entry: &'a ServiceEntry,
    /// The frontend that the packet is for.
    pub frontend: Frontend,
    /// What that is.
    pub kind: FrontendKind,
    /// The policy that selects the endpoints for this packet.
    pub policy: TrafficPolicy,
    /// The frontend is under the policy `Local`, which does not count for traffic of this node and its pods.
    pub short_circuit: bool,
    /// Whether the source may use the frontend; `None` where everybody may.
    pub source_allowed: Option<bool>,
    /// What happens to the source address.
    pub masquerade: Masquerading,
    /// Every endpoint of the service port.
    pub endpoints: Vec<EndpointUse<'a>>,
    /// Why endpoints of other zones join those of the node's zone, where hints alone would not use them.
    pub spill: Option<Spill>,
    /// For how long a client keeps its endpoint.
    pub affinity: Option<Duration>,
}

/// An endpoint, as this packet finds it.
#[derive(Clone, Copy, Debug)]
pub struct EndpointUse<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// Why it is not used; `None` if it is one of those that the packet may go to.
    pub unused: Option<Unused>,
    /// It would see the address of this node instead of the client's.
    pub masqueraded: bool,
}

/// What happens to the source address, but for a pod that reaches itself, which is always masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Masquerading {
    /// Masqueraded: the frontend is external and its policy `Cluster`.
    External,
    /// Masqueraded: the source is no pod of this node.
    FromElsewhere,
    /// Masqueraded: all traffic to cluster IPs is.
    All,
    /// Masqueraded: this node sent it to a frontend whose endpoints may be on other nodes.
    Node,
    /// The proxy process opens the connection to the endpoint itself.
    Copied,
    /// Kept: a pod of this node sent it.
    LocalPod,
    /// Kept: the policy is `Local`.
    Local,
    /// Kept: pods of this node cannot be told from others, so nothing is masqueraded on the way to cluster IPs.
    Unknown,
}

impl Masquerading {
    /// Whether endpoints see the address of this node.
    pub fn is_masqueraded(self) -> bool {
        match self {
            Self::External | Self::FromElsewhere | Self::All | Self::Node | Self::Copied => true,
            Self::LocalPod | Self::Local | Self::Unknown => false,
        }
    }
}

impl Source {
    /// Its address.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Pod(ip) | Self::Outside(ip) => ip,
            Self::Node => None,
        }
    }
}

impl Explanation<'_> {
    /// What the session of the client is found by that sends this packet, if the endpoint depends on one.
    ///
    /// `None` without session affinity, where the packet gets to no endpoint, and where this process copies connections in a mode that otherwise
    /// does not: it has sessions of its own there, which the rules do not know.
    pub fn session_key(
        &self,
        node: &NodeFacts,
        packet: &Packet,
        client: IpAddr,
    ) -> Option<SessionKey> {
        let served = self.served.as_ref().filter(|served| served.affinity.is_some())?;
        let copied_beside = served.masquerade == Masquerading::Copied && !node.mode.copies;
        if self.verdict != Verdict::Endpoints || copied_beside {
            return None;
        }
        Some(SessionKey {
            service: served.name.clone(),
            frontend: packet.destination,
            policy: served.policy,
            client,
        })
    }

    /// What to ask a backend to learn what the node holds for this packet; `None` if no service port has the destination.
    pub fn frontend_query(&self, packet: &Packet) -> Option<FrontendQuery> {
        let Served { name, frontend, .. } = self.served.as_ref()?;
        Some(FrontendQuery::new((*name).clone(), *frontend, packet.destination))
    }
}

impl NodeFacts {
    /// Who has an address, as far as this node can tell.
    pub fn source(&self, snapshot: &Snapshot, ip: IpAddr) -> Source {
        let local = |endpoint: &Endpoint| endpoint.is_local() && endpoint.ip == ip;
        let is_local_endpoint =
            || snapshot.services.values().any(|entry| entry.endpoints.iter().any(local));
        if ip.is_loopback() || self.addresses.contains(&ip) {
            Source::Node
        } else if self.pod_cidrs.iter().any(|net| net.contains(&ip)) || is_local_endpoint() {
            Source::Pod(Some(ip))
        } else {
            Source::Outside(Some(ip))
        }
    }

    /// Whether the rules take a source for a pod of this node.
    pub fn is_local_pod(&self, source: Source) -> bool {
        match (&self.local_traffic, source) {
            (LocalTrafficDetector::None, _) | (_, Source::Node) => false,
            (LocalTrafficDetector::Cidr(net), Source::Outside(ip)) => {
                ip.is_some_and(|ip| net.contains(&ip))
            }
            (LocalTrafficDetector::Cidr(net), Source::Pod(ip)) => {
                ip.is_none_or(|ip| net.contains(&ip))
            }
            (_, Source::Pod(_)) => true,
            (_, Source::Outside(_)) => false,
        }
    }
}

/// What becomes of a packet, and why. It looks at every frontend; [`Tracker::explain`](crate::Tracker::explain) does not have to.
pub fn explain<'a>(snapshot: &'a Snapshot, node: &NodeFacts, packet: &Packet) -> Explanation<'a> {
    with_owners(snapshot, &|frontend| owner_in(snapshot, frontend), node, packet)
}

/// The same, where `owner` knows which service port has a frontend.
pub(crate) fn with_owners<'a>(
    snapshot: &'a Snapshot,
    owner: &dyn Fn(Frontend) -> Option<&'a ServicePortName>,
    node: &NodeFacts,
    packet: &Packet,
) -> Explanation<'a> {
    let ip = packet.destination.ip();
    let to_node = ip.is_loopback() || node.addresses.contains(&ip);
    let found = match find(snapshot, owner, node, packet) {
        Place::Served(found) => found,
        Place::Nowhere(verdict, reason) => {
            let nearest = nearest::nearest(snapshot, packet);
            return Explanation { verdict, reason, to_node, served: None, nearest };
        }
    };
    let served = served(snapshot, node, packet, &found);
    let (verdict, reason) = verdict(node, packet, &found, &served);
    Explanation { verdict, reason, to_node, served: Some(served), nearest: Vec::new() }
}

fn served<'a>(
    snapshot: &'a Snapshot,
    node: &NodeFacts,
    packet: &Packet,
    found: &Found<'a>,
) -> Served<'a> {
    let &Found { name, entry, frontend, kind, copied, .. } = found;
    let treatment = entry.treatment(kind);
    let near = packet.source == Source::Node || node.is_local_pod(packet.source);
    // Clients of this node may share the local endpoints with others, as long as there are any.
    let may_share =
        node.mode.shared_endpoints.is_so(entry) || node.without_short_circuit.contains(name);
    let shared = may_share && !entry.choice.local.is_empty();
    let short_circuit = treatment.short_circuit && near && !copied && !shared;
    let falls_back = node.mode.local_fallback && entry.choice.local.is_empty();
    let policy = match treatment.policy {
        TrafficPolicy::Local if !short_circuit && !falls_back => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    let masquerade = masquerade(node, packet.source, kind, policy, short_circuit, copied);
    let selection = snapshot.selection(entry, policy);
    let uses = |endpoint: &'a Endpoint| EndpointUse {
        endpoint,
        unused: selection.reason_against(endpoint),
        masqueraded: masquerade.is_masqueraded() || packet.source.ip() == Some(endpoint.ip),
    };
    Served {
        name,
        entry,
        frontend,
        kind,
        policy,
        short_circuit,
        source_allowed: treatment.sources.map(|ranges| {
            let ip = match packet.source {
                Source::Node => snapshot.node_ip,
                other => other.ip(),
            };
            ip.is_some_and(|ip| ranges.iter().any(|net| net.contains(&ip)))
        }),
        masquerade,
        endpoints: entry.endpoints.iter().map(uses).collect(),
        spill: selection.spill(),
        affinity: entry.port.policy.session_affinity,
    }
}

fn masquerade(
    node: &NodeFacts,
    source: Source,
    kind: FrontendKind,
    policy: TrafficPolicy,
    short_circuit: bool,
    copied: bool,
) -> Masquerading {
    let pod = node.is_local_pod(source);
    if copied || node.mode.copies {
        Masquerading::Copied
    } else if kind == FrontendKind::ClusterIp {
        match (node.masquerade_all, pod, node.local_traffic.is_known()) {
            (true, ..) => Masquerading::All,
            (_, true, _) => Masquerading::LocalPod,
            (.., true) => Masquerading::FromElsewhere,
            (.., false) => Masquerading::Unknown,
        }
    } else if short_circuit && pod {
        Masquerading::LocalPod
    } else if short_circuit {
        Masquerading::Node
    } else if policy == TrafficPolicy::Cluster {
        Masquerading::External
    } else {
        Masquerading::Local
    }
}

fn verdict(
    node: &NodeFacts,
    packet: &Packet,
    found: &Found<'_>,
    served: &Served<'_>,
) -> (Verdict, Reason) {
    if packet.destination.ip().is_loopback()
        && node.mode.refused_on_loopback.contains(&packet.protocol)
    {
        return (Verdict::Refused, Reason::Loopback);
    }
    if node.mode.passes_for_all && found::passes(found.entry, found.kind) {
        let verdict = if found.held { Verdict::Refused } else { Verdict::Passed };
        return (verdict, Reason::NoLocalEndpoints);
    }
    if served.source_allowed == Some(false) {
        return (Verdict::Dropped, Reason::SourceRanges);
    }
    if served.endpoints.iter().any(|endpoint| endpoint.unused.is_none()) {
        return (Verdict::Endpoints, Reason::HasEndpoints);
    }
    match found.entry.treatment(found.kind).unserved {
        Some(Unserved::NoLocalEndpoints(action)) => {
            let verdict = match action {
                NoLocalEndpoints::Drop => Verdict::Dropped,
                NoLocalEndpoints::Reject => Verdict::Refused,
                NoLocalEndpoints::Passthrough => Verdict::Passed,
            };
            (verdict, Reason::NoLocalEndpoints)
        }
        Some(Unserved::NoEndpoints) | None => (Verdict::Refused, Reason::NoEndpoints),
    }
}

#[cfg(test)]
mod tests;
