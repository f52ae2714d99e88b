//! IPVS: virtual servers, their destinations, timeouts and counters.
//!
//! The messages are those of `linux/ip_vs.h`, over generic netlink. The kernel answers for the network namespace of the socket.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Errno;
use crate::error::{Error, Refusal, Target};
use crate::generic;
use crate::message::Message;
use crate::socket::{DumpEnd, Protocol, Request, Socket};

pub(crate) mod codec;

pub(crate) use codec::write_change;
pub use codec::{decode_destination, decode_server};

/// The name of the family.
const FAMILY: &str = "IPVS";

/// Commands, `IPVS_CMD_*`.
mod command {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DEST: u8 = 5;
    pub(super) const SET_DEST: u8 = 6;
    pub(super) const DEL_DEST: u8 = 7;
    pub(super) const GET_DEST: u8 = 8;
    pub(super) const SET_CONFIG: u8 = 12;
}

/// The key of a virtual server. Prints as `tcp 10.96.0.10:80`, or as `IPv4 mark 0x1001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerKey {
    /// Takes packets to an address and port.
    Frontend {
        /// IP protocol number: 6 TCP, 17 UDP, 132 SCTP.
        protocol: u8,
        /// Address and port.
        address: SocketAddr,
    },
    /// Takes packets of one family that have this mark and no other bit of it, whatever their protocol and destination.
    /// The kernel looks for it before it looks for one by address and port.
    Mark {
        /// IPv6, else IPv4.
        v6: bool,
        /// Not 0.
        mark: u32,
    },
}

impl ServerKey {
    /// Whether it takes packets of IPv6.
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Frontend { address, .. } => address.is_ipv6(),
            Self::Mark { v6, .. } => *v6,
        }
    }

    /// Protocol, address and port; `None` if it goes by mark.
    pub fn frontend(&self) -> Option<(u8, SocketAddr)> {
        match self {
            Self::Frontend { protocol, address } => Some((*protocol, *address)),
            Self::Mark { .. } => None,
        }
    }

    /// The mark; `None` if it goes by address and port.
    pub fn mark(&self) -> Option<u32> {
        match self {
            Self::Frontend { .. } => None,
            Self::Mark { mark, .. } => Some(*mark),
        }
    }
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, address) = match self {
            Self::Frontend { protocol, address } => (protocol, address),
            Self::Mark { v6, mark } => {
                return write!(f, "IPv{} mark {mark:#x}", if *v6 { 6 } else { 4 });
            }
        };
        match protocol {
            6 => f.write_str("tcp")?,
            17 => f.write_str("udp")?,
            132 => f.write_str("sctp")?,
            other => write!(f, "protocol {other}")?,
        }
        write!(f, " {address}")
    }
}

/// Flag of a virtual server: a client stays with its destination (`IP_VS_SVC_F_PERSISTENT`).
pub const PERSISTENT: u32 = 0x1;
/// Flag of a virtual server with scheduler `mh` or `sh`: the client's port counts too (`IP_VS_SVC_F_SCHED_MH_PORT`).
pub const HASH_PORT: u32 = 0x10;
/// Flag of a virtual server with scheduler `mh` or `sh`: what has weight 0 is passed over, where connections would be refused otherwise
/// (`IP_VS_SVC_F_SCHED_MH_FALLBACK`).
pub const HASH_FALLBACK: u32 = 0x8;
/// Flags that are the administrator's; the others are the kernel's own.
const OWN_FLAGS: u32 = 0x1d;

/// How a virtual server works.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// The name of the scheduler, such as `rr`.
    pub scheduler: String,
    /// [`PERSISTENT`], [`HASH_PORT`] and others.
    pub flags: u32,
    /// How long a client stays with its destination, in seconds; counts only with [`PERSISTENT`].
    pub timeout: u32,
}

/// Counters of a virtual server or a destination since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were scheduled.
    pub connections: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

/// One destination (real server) of a virtual server, reached by NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub address: SocketAddr,
    /// The share of connections; 0 takes no new ones.
    pub weight: u32,
    /// `IP_VS_CONN_F_FWD_MASK` part of its flags; 0 is NAT.
    pub forwarding: u32,
    /// Connections under way.
    pub active: u32,
    /// Connections that end or have ended just now.
    pub inactive: u32,
    /// Its counters.
    pub counters: Counters,
}

/// A virtual server as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which one.
    pub key: ServerKey,
    /// How it works.
    pub server: Server,
    /// Its counters.
    pub counters: Counters,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new virtual server.
    Add(ServerKey, Server),
    /// Another scheduler, flags or timeout.
    Set(ServerKey, Server),
    /// A virtual server goes, with its destinations.
    Delete(ServerKey),
    /// A new destination with this weight.
    AddDestination(ServerKey, SocketAddr, u32),
    /// Another weight.
    SetDestination(ServerKey, SocketAddr, u32),
    /// A destination goes, and with it what is left of its connections.
    DeleteDestination(ServerKey, SocketAddr),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(key, server) => {
                write!(f, "add virtual server {key} with scheduler {}", server.scheduler)
            }
            Self::Set(key, server) => {
                write!(f, "change virtual server {key} to scheduler {}", server.scheduler)
            }
            Self::Delete(key) => write!(f, "delete virtual server {key}"),
            Self::AddDestination(key, to, _) => write!(f, "add destination {to} to {key}"),
            Self::SetDestination(key, to, weight) => {
                write!(f, "set weight {weight} of destination {to} of {key}")
            }
            Self::DeleteDestination(key, to) => write!(f, "delete destination {to} of {key}"),
        }
    }
}

impl Change {
    /// The virtual server that is changed.
    pub fn key(&self) -> ServerKey {
        match self {
            Self::Add(key, _)
            | Self::Set(key, _)
            | Self::Delete(key)
            | Self::AddDestination(key, ..)
            | Self::SetDestination(key, ..)
            | Self::DeleteDestination(key, _) => *key,
        }
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        let target = Target { kind: "virtual server", name: self.key().to_string() };
        Refusal { target: Some(Box::new(target)), ..refusal }
    }
}

/// IPVS of one network namespace.
#[derive(Debug)]
pub struct Ipvs {
    socket: Socket,
    family: u16,
}

impl Ipvs {
    /// Opens IPVS in the calling thread's network namespace; loads the module where that is possible. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when this kernel has no IPVS.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let family = generic::family(&mut socket, FAMILY)?;
        Ok(Self { socket, family })
    }

    /// Hands out all virtual servers, of both families.
    pub fn servers(&mut self) -> Result<Vec<Found>, Error> {
        let request = self.request(&"list virtual servers");
        let (found, _end) = self.socket.dump_all(
            request,
            |writer| generic::header(writer, command::GET_SERVICE, 1),
            |message: &Message<'_>| decode_server(message),
        )?;
        Ok(found)
    }

    /// One virtual server, if it is there.
    pub fn server(&mut self, key: ServerKey) -> Result<Option<Found>, Error> {
        let object = format!("read virtual server {key}");
        let request = self.request(&object);
        let mut found = None;
        let result = self.socket.request(
            request,
            |writer| {
                generic::header(writer, command::GET_SERVICE, 1);
                codec::write_key(writer, key);
            },
            |message| {
                found = decode_server(message)?;
                Ok(())
            },
        );
        match result {
            // The kernel has no such process, as it says.
            Err(error) if error.errno() == Some(Errno::ESRCH) || error.is_not_found() => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(found),
        }
    }

    /// The destinations of a virtual server.
    pub fn destinations(&mut self, key: ServerKey) -> Result<Vec<Destination>, Error> {
        let object = format!("list destinations of virtual server {key}");
        let request = self.request(&object);
        let (found, end) = self.socket.dump_all(
            request,
            |writer| {
                generic::header(writer, command::GET_DEST, 1);
                codec::write_key(writer, key);
            },
            |message: &Message<'_>| decode_destination(message, key.is_ipv6()),
        )?;
        match end {
            DumpEnd::Complete => Ok(found),
            DumpEnd::Partial => Err(Error::Lost { object }),
        }
    }

    /// Carries out changes in their order, many in one datagram. Each stands for itself; those that were refused are returned, with why.
    pub fn change(&mut self, changes: &[Change]) -> Result<Vec<(Change, Refusal)>, Error> {
        let request = Request { kind: self.family, flags: 0, object: &"IPVS" };
        let mut refused = Vec::new();
        self.socket.pipeline(
            request,
            changes,
            |change, writer| write_change(writer, change),
            |change, refusal| {
                refused.extend(refusal.map(|refusal| (change.clone(), change.refused(refusal))));
            },
        )?;
        Ok(refused)
    }

    /// Sets the timeouts of connections, in whole seconds; `None` keeps one.
    pub fn set_timeouts(
        &mut self,
        tcp: Option<Duration>,
        tcp_fin: Option<Duration>,
        udp: Option<Duration>,
    ) -> Result<(), Error> {
        let request = self.request(&"set IPVS timeouts");
        self.socket.acknowledged(request, |writer| {
            generic::header(writer, command::SET_CONFIG, 1);
            for (kind, timeout) in [(4, tcp), (5, tcp_fin), (6, udp)] {
                // 0 keeps what is there.
                let seconds = timeout.map_or(0, |timeout| timeout.as_secs());
                writer.u32(kind, u32::try_from(seconds).unwrap_or(u32::MAX));
            }
        })
    }

    fn request<'a>(&self, object: &'a dyn fmt::Display) -> Request<'a> {
        Request { kind: self.family, flags: 0, object }
    }
}
