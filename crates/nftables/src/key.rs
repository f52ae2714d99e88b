//! Keys of elements: the fields that the rules of the table look up.

use std::fmt;
use std::net::IpAddr;

use kube_proxy_core::{Frontend, IpFamily, Protocol};

/// The fields by which a kind of frontend is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum KeyKind {
    /// Address, protocol and port.
    Address,
    /// Protocol and node port.
    NodePort,
}

impl KeyKind {
    pub(crate) const ALL: [Self; 2] = [Self::Address, Self::NodePort];
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

    /// Adds a number, such as that of a slot.
    #[must_use]
    pub(crate) fn number(self, number: u32) -> Self {
        self.field(&number.to_ne_bytes())
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

/// Reads an address from the start of a key; returns the remaining bytes too.
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

/// Frontends as the keys of sets and maps.
pub(crate) trait Keyed: Sized {
    fn key_kind(&self) -> KeyKind;
    /// The frontend with this key.
    fn read(kind: KeyKind, key: &[u8], family: IpFamily) -> Option<Self>;
    fn key(&self) -> Key;
}

impl Keyed for Frontend {
    fn key_kind(&self) -> KeyKind {
        match self {
            Self::Address(..) => KeyKind::Address,
            Self::NodePort(..) => KeyKind::NodePort,
        }
    }

    fn read(kind: KeyKind, key: &[u8], family: IpFamily) -> Option<Self> {
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
            Some(ip) => Self::address(protocol, ip, port),
            None => Self::NodePort(protocol, port),
        })
    }

    fn key(&self) -> Key {
        match *self {
            Self::Address(protocol, to) => {
                Key::new().ip(to.ip()).protocol(protocol).port(to.port())
            }
            Self::NodePort(protocol, port) => Key::new().protocol(protocol).port(port),
        }
    }
}

#[cfg(test)]
mod tests;
