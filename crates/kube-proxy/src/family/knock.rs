//! Makes clients speak: sends each a segment that its connection does not expect, which it answers with one that says where it is.
//!
//! The segment agrees to a connection that stands already. A client of today answers that at once, whatever the numbers in it (RFC 5961,
//! section 4.2), and conntrack neither takes it for a new connection nor lets it change one. As it may be lost, it is sent several times; a client
//! that has been reset answers the others with a reset of its own, which changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, sendto,
    socket,
};

/// When a client is sent another segment, after the first.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// Clients that are to be sent more segments.
#[derive(Debug, Default)]
pub(super) struct Knocks(Vec<Knock>);

#[derive(Debug)]
struct Knock {
    due: Instant,
    from: SocketAddr,
    clients: Arc<[SocketAddr]>,
}

impl Knocks {
    /// Sends each client a segment from there, and more later.
    pub(super) fn begin(
        &mut self,
        from: SocketAddr,
        clients: Vec<SocketAddr>,
        now: Instant,
    ) -> Result<(), Errno> {
        let clients: Arc<[SocketAddr]> = clients.into();
        knock(from, &clients)?;
        let later = |after| Knock { due: now + after, from, clients: clients.clone() };
        self.0.extend(AGAIN.map(later));
        Ok(())
    }

    /// When [`send`](Self::send) has to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|knock| knock.due).min()
    }

    /// Sends what is due.
    pub(super) fn send(&mut self, now: Instant) {
        for Knock { from, clients, .. } in self.0.extract_if(.., |knock| knock.due <= now) {
            // It worked before; the first ones are likely to have arrived.
            if let Err(errno) = knock(from, &clients) {
                tracing::debug!("cannot send from {from}: {errno}");
            }
        }
    }
}

/// The length of a TCP header without options.
const HEADER: usize = 20;
/// SYN and ACK.
const FLAGS: u8 = 0x12;
const TCP: u8 = 6;

/// Sends each client a segment from there. A client that cannot be sent to is left out.
fn knock(from: SocketAddr, clients: &[SocketAddr]) -> Result<(), Errno> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Raw, flags, SockProtocol::Tcp)?;
    // A raw socket of IPv6 takes a port for a protocol.
    let without_port = |ip| SockaddrStorage::from(SocketAddr::new(ip, 0));
    bind(fd.as_raw_fd(), &without_port(from.ip()))?;
    for client in clients {
        let segment = segment(from, *client);
        let to = without_port(client.ip());
        if let Err(errno) = sendto(fd.as_raw_fd(), &segment, &to, MsgFlags::empty()) {
            tracing::debug!("cannot send to {client}: {errno}");
        }
    }
    Ok(())
}

fn segment(from: SocketAddr, to: SocketAddr) -> [u8; HEADER] {
    let mut segment = [0; HEADER];
    segment[0..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    // It acknowledges something: conntrack takes an acknowledgement of nothing for the answer to a SYN that it did not see.
    segment[11] = 1;
    // Its length in words of four bytes.
    segment[12] = 5 << 4;
    segment[13] = FLAGS;
    let checksum = checksum(from.ip(), to.ip(), &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// The checksum of a segment whose checksum field is zero (RFC 9293, section 3.1).
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let length = u16::try_from(segment.len()).unwrap_or_default().to_be_bytes();
    let pseudo = [octets(from), octets(to), vec![0, TCP], length.to_vec()].concat();
    let words = pseudo.chunks(2).chain(segment.chunks(2));
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With its checksum a segment sums up to all ones, in both families.
    #[test]
    fn checksums_are_right() {
        for (from, to) in [("10.0.0.1:1", "10.0.0.2:40000"), ("[fd00::1]:1", "[fd00:1::2]:65535")] {
            let (from, to): (SocketAddr, SocketAddr) =
                (from.parse().expect("an address"), to.parse().expect("an address"));
            let segment = segment(from, to);
            assert_eq!(checksum(from.ip(), to.ip(), &segment), 0);
            assert_eq!((segment[11], segment[13]), (1, FLAGS));
            assert_eq!(u16::from_be_bytes([segment[2], segment[3]]), to.port());
        }
    }

    #[test]
    fn a_checksum_by_hand() {
        let (from, to) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        // c000 + 0201 + c000 + 0202 + 0006 + 0002 + 1234 = 1963f, and the carry comes back.
        assert_eq!(checksum(from, to, &[0x12, 0x34]), !0x9640);
    }
}
