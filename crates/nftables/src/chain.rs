//! The chains that verdicts lead to, and their names.
//!
//! A name says what the chain does, so that it can be read in `nft list ruleset`, and read back at the next start:
//!
//! ```text
//! cluster-3                            one of 3 cluster endpoints
//! nodeport-local-2                     one of 2 local endpoints of a node port
//! masq-cluster-3                       the same as cluster-3, with the masquerade mark
//! masq-outside-cluster-3               the mark only for traffic that is not from a pod of this node
//! masq-node-cluster-3                  the mark only for traffic from this node itself
//! cluster-3-affinity-10800             one of 3, the same for a client within 10800 s
//! endpoint-10.244.1.5-8080-10800       this endpoint, remembered for a client for 10800 s
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_proxy_core::{IpFamily, TrafficPolicy};

/// A chain that elements of maps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// Rejects the packet.
    Reject,
    /// Marks some packets for masquerading, then picks an endpoint.
    Entry(Masquerade, Balance),
    /// Sends to one endpoint, and remembers that for the client.
    Endpoint(AffinityEndpoint),
}

/// Which packets a chain marks for masquerading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Masquerade {
    /// None.
    Never,
    /// All.
    Always,
    /// Those that do not come from a pod of this node.
    Outside,
    /// Those that come from this node itself and from none of its pods.
    Node,
}

/// Picks one of a number of endpoints: all services that have as many share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Balance {
    /// Keys are address, protocol and port, or protocol and port.
    pub(crate) key: KeyKind,
    /// From the cluster endpoints or from the local ones.
    pub(crate) endpoints: Endpoints,
    /// How many there are; not 0.
    pub(crate) count: u32,
    /// For how many seconds a client stays with its endpoint.
    pub(crate) affinity: Option<u32>,
}

/// What frontends of a kind are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyKind {
    /// Address, protocol and port.
    Address,
    /// Protocol and node port.
    NodePort,
}

impl KeyKind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::NodePort];
}

/// The two lists of endpoints of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Endpoints {
    /// For the `Cluster` traffic policy.
    Cluster,
    /// For the `Local` traffic policy.
    Local,
}

impl Endpoints {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Cluster, Self::Local];

    /// The list that a traffic policy uses.
    pub(crate) fn of(policy: TrafficPolicy) -> Self {
        match policy {
            TrafficPolicy::Cluster => Self::Cluster,
            TrafficPolicy::Local => Self::Local,
        }
    }
}

/// An endpoint of service ports with session affinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AffinityEndpoint {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its port.
    pub(crate) port: u16,
    /// For how many seconds a client stays with it.
    pub(crate) timeout: u32,
}

/// The name of the chain that rejects.
pub(crate) const REJECT: &str = "reject-chain";

impl Chain {
    /// The chain of this name, if it is one of ours that elements lead to.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if name == REJECT {
            return Some(Self::Reject);
        }
        let chain = match name.strip_prefix("endpoint-") {
            Some(rest) => Self::Endpoint(AffinityEndpoint::parse(rest)?),
            None => Self::parse_entry(name)?,
        };
        // Numbers can be written in several ways, of which one is ours.
        (chain.to_string() == name).then_some(chain)
    }

    /// Whether it only picks an endpoint from a map.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self, Self::Entry(Masquerade::Never, Balance { affinity: None, .. }))
    }

    fn parse_entry(name: &str) -> Option<Self> {
        let masquerades =
            [Masquerade::Outside, Masquerade::Node, Masquerade::Always, Masquerade::Never];
        masquerades.into_iter().find_map(|masquerade| {
            let rest = name.strip_prefix(masquerade.prefix())?;
            Some(Self::Entry(masquerade, Balance::parse(rest)?))
        })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject => f.write_str(REJECT),
            Self::Entry(masquerade, balance) => write!(f, "{}{balance}", masquerade.prefix()),
            Self::Endpoint(endpoint) => write!(f, "endpoint-{endpoint}"),
        }
    }
}

impl Masquerade {
    fn prefix(self) -> &'static str {
        match self {
            Self::Never => "",
            Self::Always => "masq-",
            Self::Outside => "masq-outside-",
            Self::Node => "masq-node-",
        }
    }
}

impl Balance {
    /// The start of the names of chains and maps for these endpoints.
    pub(crate) fn stem(key: KeyKind, endpoints: Endpoints) -> &'static str {
        match (key, endpoints) {
            (KeyKind::Address, Endpoints::Cluster) => "cluster",
            (KeyKind::Address, Endpoints::Local) => "local",
            (KeyKind::NodePort, Endpoints::Cluster) => "nodeport-cluster",
            (KeyKind::NodePort, Endpoints::Local) => "nodeport-local",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        for key in KeyKind::ALL {
            for endpoints in Endpoints::ALL {
                let rest = text.strip_prefix(Self::stem(key, endpoints));
                let Some(rest) = rest.and_then(|rest| rest.strip_prefix('-')) else { continue };
                let (count, affinity) = match rest.split_once("-affinity-") {
                    Some((count, seconds)) => (count, Some(seconds.parse().ok()?)),
                    None => (rest, None),
                };
                let count = count.parse().ok().filter(|count| *count > 0)?;
                return Some(Self { key, endpoints, count, affinity });
            }
        }
        None
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Self::stem(self.key, self.endpoints), self.count)?;
        match self.affinity {
            Some(seconds) => write!(f, "-affinity-{seconds}"),
            None => Ok(()),
        }
    }
}

impl AffinityEndpoint {
    fn parse(text: &str) -> Option<Self> {
        let (rest, timeout) = text.rsplit_once('-')?;
        let (ip, port) = rest.rsplit_once('-')?;
        let ip = if let Ok(ip) = ip.parse::<Ipv4Addr>() {
            IpAddr::V4(ip)
        } else {
            let mut segments = [0; 8];
            let mut parts = ip.split('.');
            for segment in &mut segments {
                *segment = u16::from_str_radix(parts.next()?, 16).ok()?;
            }
            IpAddr::V6(Ipv6Addr::from(segments))
        };
        Some(Self { ip, port: port.parse().ok()?, timeout: timeout.parse().ok()? })
    }
}

/// Names in nftables may hold no colon: the eight parts of an IPv6 address stand between dots, none left out.
impl fmt::Display for AffinityEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}")?,
            IpAddr::V6(ip) => {
                for (index, segment) in ip.segments().into_iter().enumerate() {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{segment:x}")?;
                }
            }
        }
        write!(f, "-{}-{}", self.port, self.timeout)
    }
}

/// One chain of each kind of rules; each leads only to what comes before it.
pub(crate) fn examples(family: IpFamily) -> Vec<Chain> {
    let ip = match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let mut chains = vec![Chain::Endpoint(AffinityEndpoint { ip, port: 1, timeout: 1 })];
    for key in KeyKind::ALL {
        for endpoints in Endpoints::ALL {
            for affinity in [None, Some(1)] {
                let balance = Balance { key, endpoints, count: 1, affinity };
                let masquerades =
                    [Masquerade::Never, Masquerade::Always, Masquerade::Outside, Masquerade::Node];
                chains.extend(masquerades.map(|masquerade| Chain::Entry(masquerade, balance)));
            }
        }
    }
    chains
}

#[cfg(test)]
mod tests;
