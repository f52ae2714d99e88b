//! Connections that IPVS has, which only a file reports: `/proc/net/ip_vs_conn` (`net/netfilter/ipvs/ip_vs_conn.c`).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use kube_proxy_core::{Protocol, Session};
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

/// The memory of session affinity: where the next connection of a client goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The virtual server.
    pub(crate) server: ServerKey,
    /// The client.
    pub(crate) client: IpAddr,
    /// What the kernel remembers.
    pub(crate) session: Session,
}

/// What a line holds of either.
struct Line<'a> {
    client: (IpAddr, u16),
    server: ServerKey,
    endpoint: SocketAddr,
    state: &'a str,
    /// In seconds.
    expires: &'a str,
}

/// Reads one line; `None` for the heading, for the memory of session affinity, and for what is none of ours.
///
/// ```text
/// Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
/// TCP 0AF40105 D431 0A600001 0050 0AF40102 1F90 ESTABLISHED     899
/// ```
pub(crate) fn parse(line: &str) -> Option<Connection> {
    let line = read(line).filter(|line| line.client.1 != 0)?;
    let ended = matches!(line.state, "TIME_WAIT" | "CLOSE" | "CLOSED");
    Some(Connection { server: line.server, ended })
}

/// Reads one line as memory of session affinity, which has no port of the client.
pub(crate) fn parse_template(line: &str) -> Option<Template> {
    let Line { client, server, endpoint, expires, .. } = read(line)?;
    let remaining = Duration::from_secs(expires.parse().ok()?);
    let session = Session { endpoint, remaining };
    (client.1 == 0).then_some(Template { server, client: client.0, session })
}

fn read(line: &str) -> Option<Line<'_>> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let mut address = || Some((ip(words.next()?)?, port(words.next()?)?));
    let (client, server, endpoint) = (address()?, address()?, address()?);
    let server = ServerKey::Frontend { protocol: protocol.number(), address: server.into() };
    let (state, expires) = (words.next()?, words.next().unwrap_or_default());
    Some(Line { client, server, endpoint: endpoint.into(), state, expires })
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
