//! The places of addresses and ports in dispatch trees, and the way back from a prefix to words and chain names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_proxy_core::{Frontend, IpFamily, Protocol};

use crate::names::{ChainName, ipv4_dispatch_chain, ipv6_dispatch_chain};
use crate::tree::{Key, Prefix};

/// The place of a frontend in the trees.
pub(crate) fn key(frontend: Frontend) -> Key {
    match frontend {
        Frontend::Address(protocol, to) => {
            Key { bits: address_bits(to.ip()), protocol, port: to.port() }
        }
        Frontend::NodePort(protocol, port) => port_key(protocol, port),
    }
}

/// The place of a port in the trees of ports.
pub(crate) fn port_key(protocol: Protocol, port: u16) -> Key {
    Key { bits: port_bits(protocol, port), protocol, port }
}

/// The place of an address alone.
pub(crate) fn address_key(ip: IpAddr) -> Key {
    Key { bits: address_bits(ip), protocol: Protocol::Tcp, port: 0 }
}

fn address_bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The inverse of [`address_bits`].
pub(crate) fn address(family: IpFamily, bits: u128) -> IpAddr {
    match family {
        IpFamily::V4 => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap_or_default()))
        }
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// Bits before the port in a port key: they hold the protocol.
pub(crate) const PROTOCOL_BITS: u8 = 4;

pub(crate) fn port_bits(protocol: Protocol, port: u16) -> u128 {
    (protocol as u128) << (128 - PROTOCOL_BITS) | u128::from(port) << (112 - PROTOCOL_BITS)
}

/// The inverse of [`port_bits`].
pub(crate) fn protocol_and_port(bits: u128) -> (Protocol, u16) {
    let protocol = match bits >> (128 - PROTOCOL_BITS) {
        0 => Protocol::Tcp,
        1 => Protocol::Udp,
        _ => Protocol::Sctp,
    };
    let port = u16::try_from((bits >> (112 - PROTOCOL_BITS)) & u128::from(u16::MAX));
    (protocol, port.unwrap_or_default())
}

/// Branching by an address: shared by the lists and the hairpin rules.
pub(crate) fn address_width(family: IpFamily) -> u8 {
    family.bits()
}

/// The halves of all addresses.
pub(crate) fn address_top() -> Vec<Prefix> {
    [0, 1 << 127].map(|bits| Prefix { bits, length: 1 }).to_vec()
}

/// The name of the chain for the addresses of a prefix.
pub(crate) fn address_chain(family: IpFamily, branches: &str, prefix: Prefix) -> ChainName {
    match address(family, prefix.bits) {
        IpAddr::V4(ip) => ipv4_dispatch_chain(branches, ip, prefix.length),
        IpAddr::V6(ip) => ipv6_dispatch_chain(branches, ip, prefix.length),
    }
}

/// The words that match destinations of a prefix.
pub(crate) fn destination(family: IpFamily, prefix: Prefix) -> String {
    format!("-d {}/{}", address(family, prefix.bits), prefix.length)
}

#[cfg(test)]
mod tests;
