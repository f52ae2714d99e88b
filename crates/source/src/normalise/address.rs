//! Addresses and networks as people and old API objects write them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Parses an address; leading zeros in IPv4 octets are read as decimal, as Kubernetes always did.
///
/// An IPv4-mapped IPv6 address is the IPv4 address, as it is for the API server.
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some((head, tail)) = text.rsplit_once(':') {
        // An IPv6 address whose last 32 bits are written as an IPv4 address with leading zeros.
        let canonical = format!("{head}:{}", ipv4(tail)?);
        let address: Ipv6Addr = canonical.parse().ok()?;
        return Some(IpAddr::V6(address).to_canonical());
    }
    ipv4(text).map(IpAddr::V4)
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn decimal(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Parses a network, with the same leniency about the address; host bits stay.
pub(crate) fn net(text: &str) -> Option<IpNet> {
    let (address, length) = text.trim().split_once('/')?;
    let mapped = address.contains(':');
    let address = ip(address)?;
    let length = decimal(length)?;
    if mapped && address.is_ipv4() {
        // The prefix of a mapped address counts from the start of the IPv6 address.
        return IpNet::new(address, length.checked_sub(96)?).ok();
    }
    IpNet::new(address, length).ok()
}
