//! What a question is about: the source and the destination as people write them.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use kube_proxy_core::explain::{NodeFacts, Packet, Source};
use kube_proxy_core::{Frontend, FrontendKind, IpFamily, Protocol, ServicePortName, Tracker};

/// Most packets that one question is about.
const MOST: usize = 32;

/// Where a packet is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    target: Target,
    /// `None` means whatever the Service has.
    protocol: Option<Protocol>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Address(SocketAddr),
    NodePort(u16),
    Service { namespace: Option<String>, name: String, port: Option<String> },
}

/// Who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A pod of this node.
    Pod,
    /// This node itself.
    Node,
    /// Anybody outside.
    Outside,
    /// The owner of this address.
    Address(IpAddr),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, protocol) = match text.rsplit_once('/') {
            Some((place, last)) => match last.to_uppercase().parse() {
                Ok(protocol) => (place, Some(protocol)),
                Err(_) => (text, None),
            },
            None => (text, None),
        };
        Ok(Self { target: target(place)?, protocol })
    }
}

fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::Address(address));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!(
            "{text} has no port: an address is written like 10.96.0.10:80 or [fd00::10]:80"
        ));
    }
    if let Some(port) = text.strip_prefix(':') {
        let port = port.parse().ok().filter(|port| *port != 0);
        return port
            .map(Target::NodePort)
            .ok_or(format!("{text:?} is no node port, such as :30080"));
    }
    let (service, port) = match text.split_once(':') {
        Some((service, port)) => (service, Some(port.to_owned())),
        None => (text, None),
    };
    let (namespace, name) = match service.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        // The way of DNS: name.namespace.svc.cluster.local.
        None => match service.split_once('.') {
            Some((name, rest)) => (rest.split('.').next(), name),
            None => (None, service),
        },
    };
    if name.is_empty() || name.contains('/') || namespace == Some("") {
        return Err(format!(
            "{text:?} is no destination: write IP:port, namespace/service, namespace/service:port or :nodePort, \
             with /udp behind it for another protocol"
        ));
    }
    Ok(Target::Service { namespace: namespace.map(str::to_owned), name: name.to_owned(), port })
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pod" => Ok(Self::Pod),
            "node" => Ok(Self::Node),
            "outside" => Ok(Self::Outside),
            text => text.parse().map(Self::Address).map_err(|_| {
                format!("{text:?} is no source: write pod, node, outside or an IP address")
            }),
        }
    }
}

impl Destination {
    /// The packets of a family that are meant. Without a source, traffic to cluster IPs comes from a pod, and any other from outside.
    pub(super) fn packets(
        &self,
        from: Option<Origin>,
        tracker: &Tracker,
        facts: &NodeFacts,
    ) -> Vec<Packet> {
        let snapshot = tracker.snapshot();
        let mut packets = Vec::new();
        for (protocol, destination, kind) in self.destinations(tracker) {
            let source = match from {
                Some(Origin::Node) => Source::Node,
                Some(Origin::Outside) => Source::Outside(None),
                Some(Origin::Address(ip)) if IpFamily::of(&ip) == snapshot.family => {
                    facts.source(snapshot, ip)
                }
                Some(Origin::Address(_)) => continue,
                None if kind.is_some_and(FrontendKind::is_external) => Source::Outside(None),
                None | Some(Origin::Pod) => Source::Pod(None),
            };
            packets.push(Packet { source, protocol, destination });
        }
        packets.truncate(MOST);
        packets
    }

    fn destinations(&self, tracker: &Tracker) -> Vec<(Protocol, SocketAddr, Option<FrontendKind>)> {
        let snapshot = tracker.snapshot();
        let is_meant = |protocol| self.protocol.is_none_or(|wanted| wanted == protocol);
        let frontends = || {
            let all = snapshot.services.values().flat_map(|entry| entry.port.frontends.iter());
            all.filter(|(frontend, _)| is_meant(frontend.protocol()))
        };
        match &self.target {
            Target::Address(address) if IpFamily::of(&address.ip()) != snapshot.family => {
                Vec::new()
            }
            Target::Address(address) => {
                let at = frontends().filter(|(frontend, _)| match frontend {
                    Frontend::Address(_, other) => other == address,
                    Frontend::NodePort(_, port) => *port == address.port(),
                });
                let mut found: Vec<_> = at
                    .map(|(frontend, kind)| (frontend.protocol(), *address, Some(*kind)))
                    .collect();
                found.sort_by_key(|(protocol, _, kind)| (*protocol, *kind));
                found.dedup_by_key(|(protocol, ..)| *protocol);
                if found.is_empty() {
                    found.push((self.protocol.unwrap_or(Protocol::Tcp), *address, None));
                }
                found
            }
            Target::NodePort(number) => {
                let Some(node) = snapshot.node_ip else { return Vec::new() };
                let to = SocketAddr::new(node, *number);
                let ports = frontends()
                    .filter(|(f, _)| matches!(f, Frontend::NodePort(_, n) if n == number));
                ports.map(|(f, kind)| (f.protocol(), to, Some(*kind))).collect()
            }
            Target::Service { namespace, name, port } => {
                let is_service = |of: &ServicePortName| {
                    *of.service.name == **name
                        && namespace
                            .as_deref()
                            .is_none_or(|wanted| wanted == &*of.service.namespace)
                };
                let ports = snapshot
                    .services
                    .iter()
                    .filter(|(of, _)| is_service(of) && is_meant(of.protocol));
                ports
                    .filter(|(of, entry)| {
                        port.as_deref().is_none_or(|wanted| {
                            *wanted == *of.port || wanted.parse() == Ok(entry.port.port.get())
                        })
                    })
                    .map(|(of, entry)| {
                        let to = SocketAddr::new(entry.port.cluster_ip, entry.port.port.get());
                        (of.protocol, to, Some(FrontendKind::ClusterIp))
                    })
                    .collect()
            }
        }
    }

    /// Service ports that may have been meant where nothing was found: of the same name elsewhere, and in the same namespace.
    pub(super) fn similar(&self, tracker: &Tracker) -> Vec<ServicePortName> {
        let Target::Service { namespace, name, .. } = &self.target else { return Vec::new() };
        let names = || tracker.snapshot().services.keys();
        let same_name = names().filter(|of| *of.service.name == **name);
        let neighbours = names().filter(|of| {
            namespace.as_deref() == Some(&*of.service.namespace) && *of.service.name != **name
        });
        same_name.chain(neighbours).take(8).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
