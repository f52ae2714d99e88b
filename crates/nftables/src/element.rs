//! Elements of our sets and maps, as values: what is planned, compared, and written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube_proxy_core::{IpFamily, Protocol};

use crate::chain::{Chain, Endpoints, KeyKind};

/// One of the table's sets and maps; `layout` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetId {
    ServiceIps,
    ServiceNodeports,
    ShortCircuitIps,
    ShortCircuitNodeports,
    NoEndpointServices,
    NoEndpointNodeports,
    ClusterEndpoints,
    LocalEndpoints,
    NodeportClusterEndpoints,
    NodeportLocalEndpoints,
    AffinityIps,
    AffinityNodeports,
    FirewallIps,
    FirewallSources,
    ClusterIps,
    ServiceCidrs,
    NodeportIps,
    HairpinConnections,
    Affinity,
    AffinityLocal,
}

impl SetId {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 20] = [
        Self::ServiceIps,
        Self::ServiceNodeports,
        Self::ShortCircuitIps,
        Self::ShortCircuitNodeports,
        Self::NoEndpointServices,
        Self::NoEndpointNodeports,
        Self::ClusterEndpoints,
        Self::LocalEndpoints,
        Self::NodeportClusterEndpoints,
        Self::NodeportLocalEndpoints,
        Self::AffinityIps,
        Self::AffinityNodeports,
        Self::FirewallIps,
        Self::FirewallSources,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::NodeportIps,
        Self::HairpinConnections,
        Self::Affinity,
        Self::AffinityLocal,
    ];

    /// From a frontend to the chain for its traffic.
    pub(crate) fn dispatch(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::ServiceIps,
            KeyKind::NodePort => Self::ServiceNodeports,
        }
    }

    /// From an external frontend under the `Local` policy to the chain for traffic from this node and its pods.
    pub(crate) fn short_circuit(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::ShortCircuitIps,
            KeyKind::NodePort => Self::ShortCircuitNodeports,
        }
    }

    /// From a frontend without endpoints to what becomes of its traffic.
    pub(crate) fn no_endpoint(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::NoEndpointServices,
            KeyKind::NodePort => Self::NoEndpointNodeports,
        }
    }

    /// From a frontend and a slot to an endpoint.
    pub(crate) fn endpoints(key: KeyKind, endpoints: Endpoints) -> Self {
        match (key, endpoints) {
            (KeyKind::Address, Endpoints::Cluster) => Self::ClusterEndpoints,
            (KeyKind::Address, Endpoints::Local) => Self::LocalEndpoints,
            (KeyKind::NodePort, Endpoints::Cluster) => Self::NodeportClusterEndpoints,
            (KeyKind::NodePort, Endpoints::Local) => Self::NodeportLocalEndpoints,
        }
    }

    /// From a frontend with session affinity to the chain that remembers.
    pub(crate) fn remember(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::AffinityIps,
            KeyKind::NodePort => Self::AffinityNodeports,
        }
    }

    /// From a client and a service port to the endpoint of the session, among the endpoints of a list.
    pub(crate) fn sessions(endpoints: Endpoints) -> Self {
        match endpoints {
            Endpoints::Cluster => Self::Affinity,
            Endpoints::Local => Self::AffinityLocal,
        }
    }

    /// Whether rules put elements into it, which we only read.
    pub(crate) fn holds_sessions(self) -> bool {
        matches!(self, Self::Affinity | Self::AffinityLocal)
    }
}

/// Longest key in bytes: two IPv6 addresses, protocol and port.
const MAX_KEY: usize = 40;

/// The key of an element; each field begins at a multiple of four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    bytes: [u8; MAX_KEY],
    length: u8,
    interval_end: bool,
}

impl Key {
    /// A key without fields.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; MAX_KEY], length: 0, interval_end: false }
    }

    /// The key with these bytes; `None` if it is longer than any of ours.
    pub(crate) fn read(bytes: &[u8], interval_end: bool) -> Option<Self> {
        let mut key = Self { interval_end, length: bytes.len().try_into().ok()?, ..Self::new() };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Whether this only says where the interval before it ends.
    pub(crate) fn is_interval_end(&self) -> bool {
        self.interval_end
    }

    /// Marks the key as the end of an interval.
    #[must_use]
    pub(crate) fn interval_end(mut self) -> Self {
        self.interval_end = true;
        self
    }

    fn field(mut self, value: &[u8]) -> Self {
        let start = usize::from(self.length);
        self.bytes[start..start + value.len()].copy_from_slice(value);
        self.length += u8::try_from(value.len().next_multiple_of(4)).unwrap_or(u8::MAX);
        self
    }

    /// Adds an address.
    #[must_use]
    pub(crate) fn ip(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.field(&ip.octets()),
            IpAddr::V6(ip) => self.field(&ip.octets()),
        }
    }

    /// Adds a protocol.
    #[must_use]
    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.field(&[protocol.number()])
    }

    /// Adds a port.
    #[must_use]
    pub(crate) fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Adds the fields of another key.
    #[must_use]
    pub(crate) fn then(self, other: Self) -> Self {
        self.field(other.as_bytes())
    }

    /// Adds a slot number.
    #[must_use]
    pub(crate) fn slot(self, slot: u32) -> Self {
        self.field(&slot.to_ne_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(if self.interval_end { " end" } else { "" })
    }
}

/// What an element holds besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing.
    None,
    /// The end of the interval that the key begins.
    Until(Box<Key>),
    /// An endpoint.
    Endpoint(SocketAddr),
    /// The packet is dropped.
    Drop,
    /// The packet goes on in a chain.
    Goto(Chain),
    /// Something that we never write.
    Foreign,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its key.
    pub(crate) key: Key,
    /// What else it holds.
    pub(crate) value: Value,
    /// Its comment.
    pub(crate) comment: Option<Arc<str>>,
}

impl Item {
    /// An element of a set, or one with a value and no comment.
    pub(crate) fn new(key: Key, value: Value) -> Self {
        Self { key, value, comment: None }
    }

    /// The chain that it leads to.
    pub(crate) fn chain(&self) -> Option<Chain> {
        match self.value {
            Value::Goto(chain) => Some(chain),
            _ => None,
        }
    }
}

/// The address that some bytes begin with, and the rest of them.
pub(crate) fn read_ip(bytes: &[u8], family: IpFamily) -> Option<(IpAddr, &[u8])> {
    Some(match family {
        IpFamily::V4 => {
            let (ip, rest) = bytes.split_first_chunk::<4>()?;
            (IpAddr::from(*ip), rest)
        }
        IpFamily::V6 => {
            let (ip, rest) = bytes.split_first_chunk::<16>()?;
            (IpAddr::from(*ip), rest)
        }
    })
}

/// Where clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Frontend {
    /// A cluster IP, external IP or load-balancer VIP.
    Address(IpAddr, Protocol, u16),
    /// A node port.
    NodePort(Protocol, u16),
}

impl Frontend {
    /// What it is looked up by.
    pub(crate) fn kind(&self) -> KeyKind {
        match self {
            Self::Address(..) => KeyKind::Address,
            Self::NodePort(..) => KeyKind::NodePort,
        }
    }

    /// The frontend with this key.
    pub(crate) fn read(kind: KeyKind, key: &[u8], family: IpFamily) -> Option<Self> {
        let (ip, rest) = match kind {
            KeyKind::NodePort => (None, key),
            KeyKind::Address => {
                let (ip, rest) = read_ip(key, family)?;
                (Some(ip), rest)
            }
        };
        let &[number, _, _, _, high, low, _, _] = rest else { return None };
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = all.into_iter().find(|protocol| protocol.number() == number)?;
        let port = u16::from_be_bytes([high, low]);
        Some(match ip {
            Some(ip) => Self::Address(ip, protocol, port),
            None => Self::NodePort(protocol, port),
        })
    }

    /// Its key.
    pub(crate) fn key(&self) -> Key {
        match *self {
            Self::Address(ip, protocol, port) => Key::new().ip(ip).protocol(protocol).port(port),
            Self::NodePort(protocol, port) => Key::new().protocol(protocol).port(port),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod text;
