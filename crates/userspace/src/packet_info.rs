//! Datagrams together with the address of this node that they came to: a client drops an answer from another address
//! (`IP_PKTINFO` of ip(7), `IPV6_RECVPKTINFO` of RFC 3542).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc::{self, IP_RECVTTL, IPPROTO_IP, c_int, in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};

sockopt_impl!(
    /// Has the kernel report the time to live of datagrams.
    Ipv4RecvTtl, SetOnly, IPPROTO_IP, IP_RECVTTL, bool
);

/// Has the kernel report the address and the hop limit of each datagram.
pub(crate) fn ask_for(socket: &socket2::Socket, v6: bool) -> io::Result<()> {
    if v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        socket.set_recv_hoplimit_v6(true)
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        Ok(setsockopt(socket, Ipv4RecvTtl, &true)?)
    }
}

/// A datagram, which is in the buffer.
pub(crate) struct Received {
    pub(crate) length: usize,
    pub(crate) peer: SocketAddr,
    /// Which address of this node it came to.
    pub(crate) local: Option<IpAddr>,
    /// Its time to live, or hop limit.
    pub(crate) hops: Option<u32>,
}

/// The next datagram.
pub(crate) fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(in_pktinfo, in6_pktinfo, c_int);
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_DONTWAIT,
    )?;
    let (mut local, mut hops) = (None, None);
    if let Ok(controls) = message.cmsgs() {
        for control in controls {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    local = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                ControlMessageOwned::Ipv4Ttl(left) | ControlMessageOwned::Ipv6HopLimit(left) => {
                    hops = u32::try_from(left).ok();
                }
                _ => {}
            }
        }
    }
    let peer = message.address.as_ref().and_then(socket_address);
    let peer = peer.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
    Ok(Received { length: message.bytes, peer, local, hops })
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => Some(SocketAddr::from((v4.ip(), v4.port()))),
        // With its scope, which an answer to a link-local address needs.
        (_, Some(v6)) => Some(std::net::SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}

/// Sends a datagram from this address of the node.
pub(crate) fn send(
    socket: &impl AsRawFd,
    datagram: &[u8],
    to: SocketAddr,
    from: IpAddr,
) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let parts = [IoSlice::new(datagram)];
    let (v4, v6);
    let controls = match from {
        ip if ip.is_unspecified() => &[][..],
        IpAddr::V4(ip) => {
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr { s_addr: u32::from(ip).to_be() },
                ipi_addr: in_addr { s_addr: 0 },
            };
            &[ControlMessage::Ipv4PacketInfo(&v4)]
        }
        IpAddr::V6(ip) => {
            let address = in6_addr { s6_addr: ip.octets() };
            v6 = in6_pktinfo { ipi6_addr: address, ipi6_ifindex: 0 };
            &[ControlMessage::Ipv6PacketInfo(&v6)]
        }
    };
    sendmsg(socket.as_raw_fd(), &parts, controls, MsgFlags::MSG_DONTWAIT, Some(&to))?;
    Ok(())
}
