//! What a flow is.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Family;

/// What the transport protocol adds to the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Ports: TCP, UDP, SCTP and the like.
    Ports {
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
    /// ICMP or `ICMPv6`.
    Icmp {
        /// The echo identifier.
        id: u16,
        /// The message type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// A protocol that is tracked by its addresses only.
    None,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The source address.
    pub source: IpAddr,
    /// The destination address; of the same family.
    pub destination: IpAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// Ports or ids.
    pub transport: Transport,
    /// The zone, if this direction has one of its own (`CTA_TUPLE_ZONE`).
    pub zone: Option<u16>,
}

impl Tuple {
    /// A tuple with ports and without a zone.
    pub fn with_ports(protocol: u8, source: SocketAddr, destination: SocketAddr) -> Self {
        let transport = Transport::Ports { source: source.port(), destination: destination.port() };
        let (source, destination) = (source.ip(), destination.ip());
        Self { source, destination, protocol, transport, zone: None }
    }

    /// Source address and port, where there are ports.
    pub fn source_socket(&self) -> Option<SocketAddr> {
        match self.transport {
            Transport::Ports { source, .. } => Some(SocketAddr::new(self.source, source)),
            Transport::Icmp { .. } | Transport::None => None,
        }
    }

    /// Destination address and port, where there are ports.
    pub fn destination_socket(&self) -> Option<SocketAddr> {
        match self.transport {
            Transport::Ports { destination, .. } => {
                Some(SocketAddr::new(self.destination, destination))
            }
            Transport::Icmp { .. } | Transport::None => None,
        }
    }
}

/// `10.0.0.1:53 -> 10.0.0.2:40000`, with ids of ICMP in place of ports.
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.source_socket(), self.destination_socket(), self.transport) {
            (Some(source), Some(destination), _) => write!(f, "{source} -> {destination}"),
            (_, _, Transport::Icmp { id, kind, code }) => {
                let Self { source, destination, .. } = self;
                write!(f, "{source} -> {destination} type {kind} code {code} id {id}")
            }
            _ => write!(f, "{} -> {}", self.source, self.destination),
        }
    }
}

/// State bits of a flow, `IPS_*` of `linux/netfilter/nf_conntrack_common.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status(pub u32);

impl Status {
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: Self = Self(1 << 1);
    /// Not to be expired early.
    pub const ASSURED: Self = Self(1 << 2);
    /// It is in a flowtable: the kernel reports neither its state nor its timeout.
    pub const OFFLOADED: Self = Self(1 << 14);
    /// The first packet has left.
    pub const CONFIRMED: Self = Self(1 << 3);
    /// The source is rewritten.
    pub const SOURCE_NAT: Self = Self(1 << 4);
    /// The destination is rewritten.
    pub const DESTINATION_NAT: Self = Self(1 << 5);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The state of a TCP connection as the kernel tracks it, `TCP_CONNTRACK_*` of `linux/netfilter/nf_conntrack_tcp.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpState(pub u8);

impl TcpState {
    /// The client has sent a SYN.
    pub const SYN_SENT: Self = Self(1);
    /// The server has sent its SYN, and the client has not confirmed it.
    pub const SYN_RECEIVED: Self = Self(2);
    /// The connection stands.
    pub const ESTABLISHED: Self = Self(3);
    /// One side has no more to send.
    pub const FIN_WAIT: Self = Self(4);
    /// The other side knows that.
    pub const CLOSE_WAIT: Self = Self(5);
}

impl std::ops::BitOr for Status {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet had it.
    pub original: Tuple,
    /// As answers have it: with DNAT its source is the endpoint.
    pub reply: Tuple,
    /// Distinguishes this flow from a later one with the same tuples. A delete that has it spares the later one.
    pub id: Option<u32>,
    /// The zone of both directions, 0 by default.
    pub zone: u16,
    /// The connection mark.
    pub mark: u32,
    /// State bits.
    pub status: Status,
    /// The state of the connection, for TCP.
    pub tcp_state: Option<TcpState>,
    /// Time left; none for flows that hardware or a flowtable keeps alive.
    pub timeout: Option<Duration>,
}

impl Flow {
    /// A flow without NAT, mark, zone, state and id that lives for a minute: the start for literals.
    pub fn new(original: Tuple) -> Self {
        let transport = match original.transport {
            Transport::Ports { source, destination } => {
                Transport::Ports { source: destination, destination: source }
            }
            Transport::Icmp { id, kind, code } => {
                Transport::Icmp { id, kind: icmp_answer(original.protocol, kind), code }
            }
            Transport::None => Transport::None,
        };
        let reply = Tuple {
            source: original.destination,
            destination: original.source,
            transport,
            ..original
        };
        Self {
            original,
            reply,
            id: None,
            zone: 0,
            mark: 0,
            status: Status::CONFIRMED,
            tcp_state: None,
            timeout: Some(Duration::from_mins(1)),
        }
    }

    /// Its address family.
    pub fn family(&self) -> Family {
        Family::of(self.original.source)
    }
}

/// The type that answers an ICMP request: echo, timestamp, information, address mask.
fn icmp_answer(protocol: u8, kind: u8) -> u8 {
    match (protocol, kind) {
        (1, 8) => 0,
        (1, 0) => 8,
        (1, 13 | 15 | 17) | (58, 128) => kind + 1,
        (1, 14 | 16 | 18) | (58, 129) => kind - 1,
        _ => kind,
    }
}

/// `udp 10.0.0.9:4000 -> 10.96.0.1:53, reply 10.1.0.5:5353 -> 10.0.0.9:4000`.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.original.protocol {
            1 => f.write_str("icmp")?,
            6 => f.write_str("tcp")?,
            17 => f.write_str("udp")?,
            58 => f.write_str("icmpv6")?,
            132 => f.write_str("sctp")?,
            other => write!(f, "protocol {other}")?,
        }
        write!(f, " {}, reply {}", self.original, self.reply)?;
        if self.zone != 0 {
            write!(f, ", zone {}", self.zone)?;
        }
        Ok(())
    }
}
