//! Addresses and networks as flags and files write them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

/// Parses an IP address; leading zeros in IPv4 octets are decimal, as Kubernetes has always read them.
pub(crate) fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// Parses a network in CIDR notation; bits of the host part are cleared.
pub(crate) fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = length.parse().ok().filter(|_| plain)?;
    IpNet::new(parse_ip(address)?, length).ok().map(|net| net.trunc())
}

/// Parses `IP:port` with a port from 1 to 65535, IPv6 in brackets.
///
/// # Errors
/// The reason, as a phrase.
pub(crate) fn parse_ip_port(text: &str) -> Result<SocketAddr, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("must be IP:port")?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) if inner.contains(':') => inner,
        None if !host.contains(':') => host,
        _ => return Err("must be IP:port, an IPv6 address in brackets"),
    };
    let ip = parse_ip(host).ok_or("must be a valid IP")?;
    let port =
        port.parse().ok().filter(|port| *port != 0).ok_or("must be a port from 1 to 65535")?;
    Ok(SocketAddr::new(ip, port))
}

/// Adds `:port` to a bare IP address and leaves everything else alone.
pub(crate) fn with_port(text: &str, port: u16) -> String {
    match parse_ip(text) {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
