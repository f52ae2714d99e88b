//! Opening ports: listening ports for service ports, and node ports that are only held.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use kube_proxy_core::{IpFamily, Protocol};
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};

use crate::balance::Random;
use crate::packet_info;

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An idle client is asked after this time whether it is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// The ports that this mode listens on.
#[derive(Debug)]
pub(crate) struct Ports {
    address: IpAddr,
    /// `None` lets the kernel choose.
    range: Option<RangeInclusive<u16>>,
    random: Random,
}

impl Ports {
    pub(crate) fn new(address: IpAddr, range: Option<RangeInclusive<u16>>, seed: u64) -> Self {
        Self { address, range, random: Random::new(seed) }
    }

    /// How many there are at most, for each protocol.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.range.as_ref().map(ExactSizeIterator::len)
    }

    /// Opens a listening port, `wanted` if it is free and allowed.
    pub(crate) fn open(
        &mut self,
        protocol: Protocol,
        wanted: Option<u16>,
    ) -> io::Result<(Socket, u16)> {
        let address = self.address;
        let allowed = |port: &u16| self.range.as_ref().is_none_or(|range| range.contains(port));
        if let Some(wanted) = wanted.filter(allowed)
            && let Ok(socket) = listening(address, protocol, wanted)
        {
            return Ok((socket, wanted));
        }
        let Some(range) = &self.range else {
            let socket = listening(address, protocol, 0)?;
            let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
            return Ok((socket, port));
        };
        // A random place to begin with: ports of services that are gone are not reused at once.
        let begin = self.random.below(range.len());
        let mut last = io::Error::other("the range is empty");
        for port in range.clone().skip(begin).chain(range.clone().take(begin)) {
            match listening(address, protocol, port) {
                Ok(socket) => return Ok((socket, port)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
                Err(error) => return Err(error),
            }
        }
        let (first, end) = (range.start(), range.end());
        Err(io::Error::new(last.kind(), format!("no port from {first} to {end} is free")))
    }
}

/// The unspecified address of a family.
pub(crate) fn unspecified(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
        IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A socket that takes TCP connections or UDP datagrams, ready for tokio.
pub(crate) fn listening(address: IpAddr, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let socket = bound(address, protocol, port)?;
    if protocol == Protocol::Tcp {
        // Connections inherit these.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        socket.listen(BACKLOG)?;
    } else {
        packet_info::ask_for(&socket, address.is_ipv6())?;
    }
    Ok(socket)
}

/// A socket that holds a port of all addresses and takes nothing: another program that wants the port learns that it is in use,
/// and what the rules do not send elsewhere finds no listener.
pub(crate) fn held(family: IpFamily, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let socket = bound(unspecified(family), protocol, port)?;
    if protocol == Protocol::Udp {
        // Nothing reads what arrives: as little as the kernel allows is kept.
        socket.set_recv_buffer_size(0)?;
    }
    Ok(socket)
}

fn bound(address: IpAddr, protocol: Protocol, port: u16) -> io::Result<Socket> {
    let kind = if protocol == Protocol::Tcp { Type::STREAM } else { Type::DGRAM };
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking().cloexec(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of before that are still being ended do not count.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(SocketAddr::new(address, port)))?;
    Ok(socket)
}
