//! The chains that verdicts lead to, and their names.
//!
//! A name says what the chain does, so that it can be read in `nft list ruleset`, and read back at the next start:
//!
//! ```text
//! cluster-3                            one of 3 cluster endpoints
//! nodeport-local-2                     one of 2 local endpoints of a node port
//! cluster-3-by-source                  the same as cluster-3, by the source address instead of at random
//! masq-cluster-3                       the same as cluster-3, with the masquerade mark
//! masq-outside-cluster-3               the mark only for traffic that is not from a pod of this node
//! masq-node-cluster-3                  the mark only for traffic from this node itself
//! cluster-3-affinity-10.96.0.1-tcp-80  where the client's session with this service port leads; else one of 3
//! remember-10.96.0.1-tcp-80-10800      the endpoint that was picked is the client's session for 10800 s
//! remember-local-10.96.0.1-tcp-80-90   the same, also among the endpoints on this node if it is there
//! fast-path-check                      whether an established connection goes into the flowtable
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_proxy_core::{IpFamily, Protocol, TrafficPolicy};

use crate::fnv;
use crate::key::{Key, KeyKind};

/// A chain that elements of maps lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Chain {
    /// Rejects the packet.
    Reject,
    /// Marks some packets for masquerading, then picks an endpoint.
    Entry(Masquerade, Balance),
    /// Remembers for the client the endpoint that was picked.
    Remember(Remember),
    /// Decides by its frontend whether an established connection goes into the flowtable.
    FastPath,
}

/// Which packets a chain marks for masquerading: [`kube_proxy_core::Masquerade`] as configured, and what is short-circuited.
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
    pub(crate) endpoints: TrafficPolicy,
    /// How many there are; not 0.
    pub(crate) count: u32,
    /// How it picks.
    pub(crate) pick: Pick,
    /// Clients with a session of this service port stay with its endpoint.
    pub(crate) affinity: Option<Sessions>,
}

/// How a chain picks an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Pick {
    /// By a random number.
    Random,
    /// By a hash of the source address.
    Source,
}

/// What the sessions of one service port are known by, whichever of its frontends a client used: one of the frontends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Sessions {
    /// Its cluster IP.
    pub(crate) ip: IpAddr,
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its port.
    pub(crate) port: u16,
}

/// How the sessions of a service port are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Remember {
    /// Of which service port.
    pub(crate) sessions: Sessions,
    /// For how many seconds a client stays with its endpoint.
    pub(crate) timeout: u32,
    /// Some frontends use the endpoints on this node only.
    pub(crate) local: bool,
}

/// Behind the number of endpoints, of which one is picked by the source address.
const BY_SOURCE: &str = "-by-source";

/// The name of the chain that decides about the flowtable.
pub(crate) const FAST_PATH: &str = "fast-path-check";

/// The name of the chain that rejects.
pub const REJECT: &str = "reject-chain";

impl Chain {
    /// The chain of this name, if it is one of ours that elements lead to.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            REJECT => return Some(Self::Reject),
            FAST_PATH => return Some(Self::FastPath),
            _ => {}
        }
        let chain = match name.strip_prefix("remember-") {
            Some(rest) => Self::Remember(Remember::parse(rest)?),
            None => Self::parse_entry(name)?,
        };
        // Numbers can be written in several ways, of which one is ours.
        (chain.to_string() == name).then_some(chain)
    }

    /// The chain that its rules lead to.
    pub(crate) fn leads_to(&self) -> Option<Self> {
        match *self {
            Self::Entry(Masquerade::Never, Balance { affinity: None, .. })
            | Self::Reject
            | Self::Remember(_)
            | Self::FastPath => None,
            Self::Entry(Masquerade::Never, balance) => {
                Some(Self::Entry(Masquerade::Never, Balance { affinity: None, ..balance }))
            }
            Self::Entry(_, balance) => Some(Self::Entry(Masquerade::Never, balance)),
        }
    }

    /// Whether it is of one service port alone.
    pub(crate) fn is_of_one_service(&self) -> bool {
        matches!(self, Self::Remember(_) | Self::Entry(_, Balance { affinity: Some(_), .. }))
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
            Self::FastPath => f.write_str(FAST_PATH),
            Self::Entry(masquerade, balance) => write!(f, "{}{balance}", masquerade.prefix()),
            Self::Remember(Remember { sessions, timeout, local }) => {
                let local = if *local { "local-" } else { "" };
                write!(f, "remember-{local}{sessions}-{timeout}")
            }
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
    pub(crate) fn stem(key: KeyKind, endpoints: TrafficPolicy) -> &'static str {
        match (key, endpoints) {
            (KeyKind::Address, TrafficPolicy::Cluster) => "cluster",
            (KeyKind::Address, TrafficPolicy::Local) => "local",
            (KeyKind::NodePort, TrafficPolicy::Cluster) => "nodeport-cluster",
            (KeyKind::NodePort, TrafficPolicy::Local) => "nodeport-local",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        for key in KeyKind::ALL {
            for endpoints in TrafficPolicy::ALL {
                let rest = text.strip_prefix(Self::stem(key, endpoints));
                let Some(rest) = rest.and_then(|rest| rest.strip_prefix('-')) else { continue };
                let (count, affinity) = match rest.split_once("-affinity-") {
                    Some((count, sessions)) => (count, Some(Sessions::parse(sessions)?)),
                    None => (rest, None),
                };
                let (count, pick) = match count.strip_suffix(BY_SOURCE) {
                    Some(count) => (count, Pick::Source),
                    None => (count, Pick::Random),
                };
                let count = count.parse().ok().filter(|count| *count > 0)?;
                return Some(Self { key, endpoints, count, pick, affinity });
            }
        }
        None
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", Self::stem(self.key, self.endpoints), self.count)?;
        if self.pick == Pick::Source {
            f.write_str(BY_SOURCE)?;
        }
        match self.affinity {
            Some(sessions) => write!(f, "-affinity-{sessions}"),
            None => Ok(()),
        }
    }
}

impl Remember {
    fn parse(text: &str) -> Option<Self> {
        let (text, local) = match text.strip_prefix("local-") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (sessions, timeout) = text.rsplit_once('-')?;
        Some(Self { sessions: Sessions::parse(sessions)?, timeout: timeout.parse().ok()?, local })
    }
}

impl Sessions {
    /// What stands for the service port in the keys of its sessions: the address as a number, of IPv6 its last 32 bits and a hash of
    /// the others; then protocol and port, as 600080 for TCP port 80.
    ///
    /// They are numbers since a rule that loads them as such can be loaded again as `nft` prints it; and with another field it prints nothing.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let mut numbers = match self.ip {
            IpAddr::V4(ip) => vec![u32::from(ip)],
            IpAddr::V6(ip) => {
                let number = u128::from(ip);
                let hash = fnv::hash(&(number >> 32).to_be_bytes());
                vec![last_bits(number), last_bits(hash.into())]
            }
        };
        numbers.push(u32::from(self.protocol.number()) * 100_000 + u32::from(self.port));
        numbers
    }

    /// The keys of its sessions, without the client.
    pub(crate) fn key(&self) -> Key {
        self.numbers().into_iter().fold(Key::new(), Key::number)
    }

    fn parse(text: &str) -> Option<Self> {
        let (rest, port) = text.rsplit_once('-')?;
        let (ip, protocol) = rest.rsplit_once('-')?;
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
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = all.into_iter().find(|known| known.lower() == protocol)?;
        Some(Self { ip, protocol, port: port.parse().ok()? })
    }
}

/// The last 32 bits of a number.
fn last_bits(number: u128) -> u32 {
    u32::try_from(number & u128::from(u32::MAX)).unwrap_or_default()
}

/// Names in nftables may hold no colon: the eight parts of an IPv6 address stand between dots, none left out.
impl fmt::Display for Sessions {
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
        write!(f, "-{}-{}", self.protocol.lower(), self.port)
    }
}

/// One chain of each kind of rules that picks like this; each leads only to what comes before it.
pub(crate) fn examples(family: IpFamily, pick: Pick) -> Vec<Chain> {
    let ip = match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let sessions = Sessions { ip, protocol: Protocol::Tcp, port: 1 };
    let remember = |local| Chain::Remember(Remember { sessions, timeout: 1, local });
    let mut chains = [false, true].map(remember).to_vec();
    for key in KeyKind::ALL {
        for endpoints in TrafficPolicy::ALL {
            for affinity in [None, Some(sessions)] {
                let balance = Balance { key, endpoints, count: 1, pick, affinity };
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
