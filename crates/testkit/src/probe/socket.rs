//! Sockets with a chosen source and a time limit for connecting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, setsockopt,
    socket, sockopt,
};

use super::Options;

/// Connects over TCP; reading and writing have the same time limit as connecting had.
pub(super) fn tcp(options: Options, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::from(connected(options, address, SockType::Stream)?);
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(options.timeout))?;
    stream.set_write_timeout(Some(options.timeout))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A UDP socket that receives from one address only, and ICMP errors about it.
pub(super) fn udp(options: Options, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(connected(options, address, SockType::Datagram)?);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(options.timeout))?;
    Ok(socket)
}

fn connected(options: Options, address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, kind, flags, None)?;
    if options.source.is_some() || options.source_port != 0 {
        let any = if address.is_ipv4() {
            IpAddr::from(Ipv4Addr::UNSPECIFIED)
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let source = SocketAddr::new(options.source.unwrap_or(any), options.source_port);
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    }
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => finish_connect(&fd, Instant::now() + options.timeout)?,
        Err(errno) => return Err(errno.into()),
    }
    Ok(fd)
}

/// Waits until a TCP connection is made or an error is known.
///
/// Between namespaces of one machine an ICMP error may come back while `connect` still holds the
/// socket. TCP then keeps it as a soft error, which a reading of `SO_ERROR` reports, and would report
/// it only after the next SYN, a second later. So the option is read now and then.
fn finish_connect(fd: &OwnedFd, deadline: Instant) -> io::Result<()> {
    const SLICE: Duration = Duration::from_millis(10);
    loop {
        let error = getsockopt(fd, sockopt::SocketError)?;
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::ETIMEDOUT.into());
        }
        let millis = left.min(SLICE).as_millis();
        // At least one millisecond, so that the end of the time is not waited for in a busy loop.
        let wait = PollTimeout::try_from(millis.max(1)).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, wait)? > 0 {
            let error = getsockopt(fd, sockopt::SocketError)?;
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            return Ok(());
        }
    }
}
