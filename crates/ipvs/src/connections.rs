//! Connections that IPVS has, which only a file reports: `/proc/net/ip_vs_conn` (`net/netfilter/ipvs/ip_vs_conn.c`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kube_proxy_core::Protocol;
use kube_proxy_netlink::ipvs::ServerKey;

/// The file, of the network namespace of the thread.
pub(crate) const FILE: &str = "/proc/thread-self/net/ip_vs_conn";

/// A connection, or a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The virtual server that it came to.
    pub(crate) server: ServerKey,
    /// Nothing is to be expected of it any more; the kernel only remembers it.
    pub(crate) ended: bool,
}

/// Reads one line; `None` for the heading, for the memory of session affinity, and for what is none of ours.
///
/// ```text
/// Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
/// TCP 0AF40105 D431 0A600001 0050 0AF40102 1F90 ESTABLISHED     899
/// ```
pub(crate) fn parse(line: &str) -> Option<Connection> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let (_client, client_port) = (words.next()?, port(words.next()?)?);
    let address = SocketAddr::new(ip(words.next()?)?, port(words.next()?)?);
    let state = words.nth(2)?;
    let server = ServerKey { protocol: protocol.number(), address };
    let ended = matches!(state, "TIME_WAIT" | "CLOSE" | "CLOSED");
    (client_port != 0).then_some(Connection { server, ended })
}

fn port(word: &str) -> Option<u16> {
    u16::from_str_radix(word, 16).ok()
}

/// Eight hexadecimal digits, or IPv6 in the usual notation.
fn ip(word: &str) -> Option<IpAddr> {
    if word.contains(':') {
        return word.parse().ok();
    }
    u32::from_str_radix(word, 16).ok().map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests;
