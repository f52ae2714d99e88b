//! Listening sockets, and which families an unspecified address stands for.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address. `0.0.0.0` and `[::]` both stand for every address of both families, as in Go;
/// on a host without IPv6 for every IPv4 address.
///
/// # Errors
/// The address is in use, or is not one of this host.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return listen_in_one_family(address);
    }
    let port = address.port();
    match listen_with(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), false) {
        Err(error) if lacks_ipv6(&error) => {
            listen_in_one_family(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        result => result,
    }
}

/// Listens on an address; `[::]` leaves IPv4 alone.
///
/// # Errors
/// The address is in use, or is not one of this host.
pub fn listen_in_one_family(address: SocketAddr) -> io::Result<TcpListener> {
    listen_with(address, true)
}

fn listen_with(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, sockopt::Ipv6V6Only, &v6_only)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A kernel that was started with `ipv6.disable=1`, or was built without IPv6, has no sockets of that family.
fn lacks_ipv6(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(number, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL | Errno::EPROTONOSUPPORT))
}

#[cfg(test)]
mod tests;
