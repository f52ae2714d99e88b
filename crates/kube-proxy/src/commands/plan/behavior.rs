//! What would become of the same packets in both modes: where the explanations differ, clients notice.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kube_proxy_core::explain::{Explanation, NodeFacts, Packet, Served, Source, Verdict};
use kube_proxy_core::{Frontend, IpFamily, Protocol, ServicePortName, Snapshot, Tracker};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{Conntrack, Filter};

use crate::debug::{Finding, Severity};

/// Most packets that are compared: a large cluster has more of the same.
const MOST: usize = 2000;
/// Destinations that a finding names.
const SHOWN: usize = 5;

/// What a kind of traffic has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Traffic {
    /// This node to node ports on its loopback address.
    Loopback,
    /// Node ports on addresses of the node.
    NodePorts,
    /// Addresses of Services.
    Addresses,
    /// Ports of cluster IPs that no Service has.
    OtherPorts,
}

/// What is different for it in the new mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Outcome {
        old: Outcome,
        new: Outcome,
    },
    /// Endpoints see the address of this node instead of the client's.
    SeesNode,
    /// Endpoints see the address of the client instead of this node's.
    SeesClient,
    FewerEndpoints,
    MoreEndpoints,
}

/// What becomes of a packet, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Endpoint,
    Refused,
    Dropped,
    Passed,
}

/// The packets of one kind of traffic for which the same is different, each with its service port.
type Changes<'a> = BTreeMap<(Traffic, Change), Vec<(Packet, Option<&'a ServicePortName>)>>;

impl Outcome {
    fn now(self) -> &'static str {
        match self {
            Self::Endpoint => "they reach an endpoint",
            Self::Refused => "they are refused",
            Self::Dropped => "they are dropped",
            Self::Passed => "no rule of kube-proxy is for them",
        }
    }

    fn then(self) -> &'static str {
        match self {
            Self::Endpoint => "will reach an endpoint",
            Self::Refused => "will be refused",
            Self::Dropped => "will be dropped",
            Self::Passed => "will find no rule of kube-proxy",
        }
    }
}

impl Change {
    fn text(self) -> String {
        match self {
            Self::Outcome { old, new } => format!("{}; now {}", new.then(), old.now()),
            Self::SeesNode => {
                "will come from the address of this node, not the client's".to_owned()
            }
            Self::SeesClient => "will come from the client's address, not this node's".to_owned(),
            Self::FewerEndpoints => "will reach fewer endpoints".to_owned(),
            Self::MoreEndpoints => "will reach more endpoints".to_owned(),
        }
    }

    fn loses(self) -> bool {
        matches!(self, Self::Outcome { old: Outcome::Endpoint, .. })
    }
}

/// What differs in one family.
pub(super) fn findings(tracker: &Tracker, old: &NodeFacts, new: &NodeFacts) -> Vec<Finding> {
    let snapshot = tracker.snapshot();
    let mut changes = Changes::new();
    for (traffic, packet, name) in packets(snapshot, old) {
        let [before, after] = [old, new].map(|facts| tracker.explain(facts, &packet));
        for change in differences(&before, &after) {
            changes.entry((traffic, change)).or_default().push((packet, name));
        }
    }
    if changes.is_empty() {
        return Vec::new();
    }
    let open = open_connections(snapshot.family);
    let finding =
        |((traffic, change), packets)| finding(snapshot.family, traffic, change, packets, &open);
    changes.into_iter().map(finding).collect()
}

fn differences(before: &Explanation<'_>, after: &Explanation<'_>) -> Vec<Change> {
    let outcome = |found: &Explanation<'_>| match found.verdict {
        Verdict::Endpoints => Outcome::Endpoint,
        Verdict::Refused => Outcome::Refused,
        Verdict::Dropped => Outcome::Dropped,
        Verdict::Passed => Outcome::Passed,
    };
    let (old, new) = (outcome(before), outcome(after));
    if old != new {
        return vec![Change::Outcome { old, new }];
    }
    let (Outcome::Endpoint, Some(before), Some(after)) = (old, &before.served, &after.served)
    else {
        return Vec::new();
    };
    let endpoints = |served: &Served<'_>| {
        served.endpoints.iter().filter(|endpoint| endpoint.unused.is_none()).count()
    };
    let seen = match [before, after].map(|served| served.masquerade.is_masqueraded()) {
        [false, true] => Some(Change::SeesNode),
        [true, false] => Some(Change::SeesClient),
        _ => None,
    };
    let choice = match endpoints(after).cmp(&endpoints(before)) {
        Ordering::Less => Some(Change::FewerEndpoints),
        Ordering::Greater => Some(Change::MoreEndpoints),
        Ordering::Equal => None,
    };
    seen.into_iter().chain(choice).collect()
}

/// Packets to every frontend, from everywhere.
fn packets<'a>(
    snapshot: &'a Snapshot,
    facts: &NodeFacts,
) -> Vec<(Traffic, Packet, Option<&'a ServicePortName>)> {
    let everywhere = [Source::Pod(None), Source::Node, Source::Outside(None)];
    let mut packets = Vec::new();
    let mut add = |traffic, source, protocol, to, name| {
        packets.push((traffic, Packet { source, protocol, destination: to }, name));
    };
    for (name, entry) in &snapshot.services {
        for (frontend, _) in &entry.port.frontends {
            let protocol = frontend.protocol();
            match *frontend {
                Frontend::Address(_, to) => {
                    for from in everywhere {
                        add(Traffic::Addresses, from, protocol, to, Some(name));
                    }
                }
                Frontend::NodePort(_, port) => {
                    let at = SocketAddr::new(loopback(snapshot.family), port);
                    add(Traffic::Loopback, Source::Node, protocol, at, Some(name));
                    for ip in facts.addresses.iter().filter(|ip| !ip.is_loopback()) {
                        for from in everywhere {
                            let to = SocketAddr::new(*ip, port);
                            add(Traffic::NodePorts, from, protocol, to, Some(name));
                        }
                    }
                }
            }
        }
    }
    // Of node ports more depends on the mode than of the rest.
    packets.sort_by_key(|(traffic, ..)| *traffic);
    packets.truncate(MOST);
    if let Some(to) = other_port(snapshot) {
        let packet = Packet { source: Source::Pod(None), protocol: Protocol::Tcp, destination: to };
        packets.push((Traffic::OtherPorts, packet, None));
    }
    packets
}

fn loopback(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
        IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// A port of a cluster IP that the Service does not have.
fn other_port(snapshot: &Snapshot) -> Option<SocketAddr> {
    let first = snapshot.services.values().next()?;
    let ip = first.port.cluster_ip;
    let is_free = |port: &u16| {
        let at = Frontend::address(Protocol::Tcp, ip, *port);
        let mut all = snapshot.services.values().flat_map(|entry| entry.port.frontends.iter());
        all.all(|(frontend, _)| *frontend != at)
    };
    (1..=u16::MAX).find(is_free).map(|port| SocketAddr::new(ip, port))
}

/// How many tracked connections there are to each destination. What cannot be read is not counted.
fn open_connections(family: IpFamily) -> HashMap<SocketAddr, usize> {
    let family = match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    };
    let mut counts = HashMap::new();
    if let Ok(mut conntrack) = Conntrack::open() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let _ = conntrack.dump(&Filter::protocol(family, protocol.number()), |flow| {
                if let Some(to) = flow.original.destination_socket() {
                    *counts.entry(to).or_default() += 1;
                }
            });
        }
    }
    counts
}

fn finding(
    family: IpFamily,
    traffic: Traffic,
    change: Change,
    packets: Vec<(Packet, Option<&ServicePortName>)>,
    open: &HashMap<SocketAddr, usize>,
) -> Finding {
    let text = |(packet, name): (Packet, Option<&ServicePortName>)| {
        let of = name.map(|name| format!(" ({name})")).unwrap_or_default();
        let protocol = packet.protocol.lower();
        (packet.destination, format!("{}/{protocol}{of}", packet.destination))
    };
    let mut places: Vec<(SocketAddr, String)> = packets.into_iter().map(text).collect();
    places.sort();
    places.dedup();
    let count = places.len();
    let mut lines: Vec<_> =
        places.iter().take(SHOWN).map(|(_, text)| format!("\n    {text}")).collect();
    if count > SHOWN {
        lines.push(format!("\n    and {} more", count - SHOWN));
    }
    let tracked = places.iter().filter_map(|(destination, _)| open.get(destination)).sum();
    let severity = if change.loses() { Severity::Warning } else { Severity::Note };
    let what = format!("{family}: {} {}{}", traffic.text(), change.text(), lines.concat());
    let remedy = if change.loses() {
        traffic.remedy()
    } else {
        "Nothing, if clients and endpoints can live with it."
    };
    Finding::new(severity, traffic.id(), what, in_use(traffic, tracked), remedy)
}

fn in_use(traffic: Traffic, tracked: usize) -> String {
    match (traffic, tracked) {
        (Traffic::OtherPorts, _) => {
            "No Service is meant there: clients notice it sooner or later.".to_owned()
        }
        (_, 0) => "No connection to them is tracked now.".to_owned(),
        (_, 1) => "1 connection to them is tracked now.".to_owned(),
        (_, many) => format!("{many} connections to them are tracked now."),
    }
}

impl Traffic {
    fn id(self) -> &'static str {
        match self {
            Self::Loopback => "localhost-node-ports",
            Self::NodePorts => "node-ports",
            Self::Addresses => "service-addresses",
            Self::OtherPorts => "other-ports",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Loopback => "connections of this node to node ports on its loopback address",
            Self::NodePorts => "connections to node ports",
            Self::Addresses => "connections to addresses of Services",
            Self::OtherPorts => "connections to ports that a cluster IP does not have",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Loopback => {
                "Let them use the address of the node; in nftables mode, nodePortAddresses with \"localhost\" or --nftables-localhost-nodeports serves TCP and UDP there."
            }
            Self::NodePorts => {
                "Set nodePortAddresses to \"all\", or to networks with these addresses, or let clients use the address of the Node object."
            }
            Self::Addresses | Self::OtherPorts => {
                "Stay with the mode, or let clients use another address."
            }
        }
    }
}

#[cfg(test)]
mod tests;
