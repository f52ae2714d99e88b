//! Which Service an address and port belong to, from the answer of `/debug/services`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::bail;

use crate::debug::{FrontendKind, ServicePort, ServicePortId, Services};

/// Frontends by what packets are sent to.
#[derive(Debug, Default)]
pub(super) struct Names {
    addresses: HashMap<(u8, SocketAddr), ServicePortId>,
    node_ports: HashMap<(bool, u8, u16), ServicePortId>,
}

/// Where packets go to: an address, or every address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Destination {
    /// `None` is a node port: any address of this node.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    /// The number of the protocol.
    pub(super) protocol: u8,
}

impl Names {
    pub(super) fn of(services: &Services) -> Self {
        let mut names = Self::default();
        for service in &services.service_ports {
            let Some(protocol) = protocol_number(&service.id.protocol) else { continue };
            for frontend in service.frontends.iter().filter(|frontend| frontend.owner.is_none()) {
                let name = service.id.clone();
                if let Some(ip) = frontend.address {
                    let to = SocketAddr::new(ip, frontend.port);
                    names.addresses.insert((protocol, to), name);
                } else {
                    let key = (service.cluster_ip.is_ipv6(), protocol, frontend.port);
                    names.node_ports.insert(key, name);
                }
            }
        }
        names
    }

    /// The service port that packets to this address belong to.
    ///
    /// Whether the address is one of the node the caller knows: for node ports, `is_translated` says that something rewrote it.
    pub(super) fn service(
        &self,
        protocol: u8,
        to: SocketAddr,
        is_translated: bool,
    ) -> Option<&ServicePortId> {
        let node_port = || self.node_ports.get(&(to.is_ipv6(), protocol, to.port()));
        self.addresses.get(&(protocol, to)).or_else(|| node_port().filter(|_| is_translated))
    }
}

pub(super) fn protocol_number(name: &str) -> Option<u8> {
    match name.to_ascii_lowercase().as_str() {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        _ => None,
    }
}

pub(super) fn protocol_name(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// Whether a service port is meant by `namespace/name`, `namespace/name:port` or `name`.
pub(super) fn is_meant(text: &str, id: &ServicePortId) -> bool {
    let (namespace, rest) = match text.split_once('/') {
        Some((namespace, rest)) => (Some(namespace), rest),
        None => (None, text),
    };
    let (name, port) = match rest.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (rest, None),
    };
    namespace.is_none_or(|namespace| namespace == id.namespace)
        && name == id.name
        && port.is_none_or(|port| port == id.port_name)
}

/// The destinations that a person means: `IP:port[/protocol]`, `:nodePort[/protocol]`, or the name of a Service.
///
/// # Errors
/// What is wrong with the text.
pub(super) fn destinations(
    text: &str,
    services: Option<&Services>,
) -> anyhow::Result<Vec<Destination>> {
    let (place, protocol) = match text.rsplit_once('/') {
        Some((place, name)) if protocol_number(name).is_some() => (place, protocol_number(name)),
        _ => (text, None),
    };
    if let Some(port) = place.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(vec![Destination { ip: None, port, protocol: protocol.unwrap_or(6) }]);
    }
    if let Ok(to) = place.parse::<SocketAddr>() {
        let protocol = protocol.unwrap_or(6);
        return Ok(vec![Destination { ip: Some(to.ip()), port: to.port(), protocol }]);
    }
    let Some(services) = services else {
        bail!(
            "{text:?} is no IP:port[/protocol] or :nodePort[/protocol], and without the running kube-proxy names of Services are not known"
        );
    };
    let meant = services.service_ports.iter().filter(|port| is_meant(text, &port.id));
    let mut all: Vec<_> = meant.flat_map(frontends).collect();
    all.sort_unstable();
    all.dedup();
    if all.is_empty() {
        bail!(
            "{text:?} is neither IP:port[/protocol] nor :nodePort[/protocol] nor a Service that this node serves (namespace/name[:port])"
        );
    }
    Ok(all)
}

fn frontends(port: &ServicePort) -> impl Iterator<Item = Destination> {
    let protocol = protocol_number(&port.id.protocol);
    port.frontends.iter().filter_map(move |frontend| {
        let ip = frontend.address;
        // A node port has no address, and of what else has none nothing is known.
        (ip.is_some() || frontend.kind == FrontendKind::NodePort).then_some(())?;
        Some(Destination { ip, port: frontend.port, protocol: protocol? })
    })
}

#[cfg(test)]
pub(super) mod tests;
