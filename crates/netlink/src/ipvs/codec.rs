//! Bytes of IPVS messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Change, Counters, Destination, Found, OWN_FLAGS, Server, ServerKey, command};
use crate::attr::{Attribute, Malformed};
use crate::generic;
use crate::message::Message;
use crate::writer::Writer;

/// `IPVS_CMD_ATTR_SERVICE`.
const SERVICE: u16 = 1;
/// `IPVS_CMD_ATTR_DEST`.
const DESTINATION: u16 = 2;

/// `IPVS_SVC_ATTR_*`.
mod service {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDRESS: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const FWMARK: u16 = 5;
    pub(super) const SCHEDULER: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const STATS64: u16 = 12;
}

/// `IPVS_DEST_ATTR_*`.
mod destination {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FORWARDING: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const UPPER: u16 = 5;
    pub(super) const LOWER: u16 = 6;
    pub(super) const ACTIVE: u16 = 7;
    pub(super) const INACTIVE: u16 = 8;
    pub(super) const STATS: u16 = 10;
    pub(super) const FAMILY: u16 = 11;
    pub(super) const STATS64: u16 = 12;
}

/// `IPVS_STATS_ATTR_*`.
mod stats {
    pub(super) const CONNECTIONS: u16 = 1;
    pub(super) const BYTES_IN: u16 = 4;
    pub(super) const BYTES_OUT: u16 = 5;
}

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

fn family(v6: bool) -> u16 {
    if v6 { AF_INET6 } else { AF_INET }
}

/// `union nf_inet_addr`: 16 bytes, of which IPv4 uses the first four.
fn inet_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn read_address(attribute: Attribute<'_>, v6: bool) -> Result<IpAddr, Malformed> {
    let bytes = attribute.ipv6()?.octets();
    let [a, b, c, d, ..] = bytes;
    Ok(if v6 { Ipv6Addr::from(bytes).into() } else { Ipv4Addr::new(a, b, c, d).into() })
}

/// Two bytes in host order.
fn u16_host(attribute: Attribute<'_>) -> Result<u16, Malformed> {
    Ok(u16::from_ne_bytes(attribute.u16_be()?.to_be_bytes()))
}

/// Writes the attribute that names a virtual server.
pub(super) fn write_key(writer: &mut Writer, key: ServerKey) {
    writer.nest(SERVICE, |writer| key_attributes(writer, key));
}

fn key_attributes(writer: &mut Writer, key: ServerKey) {
    writer.bytes(service::FAMILY, &family(key.is_ipv6()).to_ne_bytes());
    match key {
        ServerKey::Frontend { protocol, address } => {
            writer.bytes(service::PROTOCOL, &u16::from(protocol).to_ne_bytes());
            writer.bytes(service::ADDRESS, &inet_address(address.ip()));
            writer.u16_be(service::PORT, address.port());
        }
        ServerKey::Mark { mark, .. } => writer.u32(service::FWMARK, mark),
    }
}

fn write_server(writer: &mut Writer, key: ServerKey, server: &Server) {
    writer.nest(SERVICE, |writer| {
        key_attributes(writer, key);
        writer.text(service::SCHEDULER, &server.scheduler);
        // Flags and the mask of those that are meant.
        let [f0, f1, f2, f3] = server.flags.to_ne_bytes();
        writer.bytes(service::FLAGS, &[f0, f1, f2, f3, 0xff, 0xff, 0xff, 0xff]);
        writer.u32(service::TIMEOUT, server.timeout);
        // A mask for IPv4, the length of a prefix for IPv6: each client for itself.
        let netmask = if key.is_ipv6() { 128 } else { u32::MAX };
        writer.u32(service::NETMASK, netmask);
    });
}

fn write_destination(writer: &mut Writer, to: SocketAddr, weight: Option<u32>) {
    writer.nest(DESTINATION, |writer| {
        writer.bytes(destination::ADDRESS, &inet_address(to.ip()));
        writer.u16_be(destination::PORT, to.port());
        writer.bytes(destination::FAMILY, &family(to.is_ipv6()).to_ne_bytes());
        if let Some(weight) = weight {
            // NAT, and no thresholds.
            writer.u32(destination::FORWARDING, 0);
            writer.u32(destination::WEIGHT, weight);
            writer.u32(destination::UPPER, 0);
            writer.u32(destination::LOWER, 0);
        }
    });
}

/// Writes what follows the message header of a change.
pub(crate) fn write_change(writer: &mut Writer, change: &Change) {
    let mut begin = |command, key, server: Option<&Server>| {
        generic::header(writer, command, 1);
        match server {
            Some(server) => write_server(writer, key, server),
            None => write_key(writer, key),
        }
    };
    match change {
        Change::Add(key, server) => begin(command::NEW_SERVICE, *key, Some(server)),
        Change::Set(key, server) => begin(command::SET_SERVICE, *key, Some(server)),
        Change::Delete(key) => begin(command::DEL_SERVICE, *key, None),
        Change::AddDestination(key, to, weight) => {
            begin(command::NEW_DEST, *key, None);
            write_destination(writer, *to, Some(*weight));
        }
        Change::SetDestination(key, to, weight) => {
            begin(command::SET_DEST, *key, None);
            write_destination(writer, *to, Some(*weight));
        }
        Change::DeleteDestination(key, to) => {
            begin(command::DEL_DEST, *key, None);
            write_destination(writer, *to, None);
        }
    }
}

/// Reads the answer about one virtual server; `None` if it is of another family than IPv4 and IPv6.
pub fn decode_server(message: &Message<'_>) -> Result<Option<Found>, Malformed> {
    let missing = |what| Malformed::Missing { what };
    let service = message.attributes(generic::HEADER_LEN)?.find(SERVICE)?;
    let service = service.ok_or(missing("a virtual server"))?;
    let (mut family, mut protocol, mut port, mut address) = (0, None, None, None);
    let mut mark = None;
    let mut server = Server { scheduler: String::new(), flags: 0, timeout: 0 };
    let (mut old, mut new) = (Counters::default(), None);
    for found in service.nested() {
        let found = found?;
        match found.kind {
            service::FAMILY => family = u16_host(found)?,
            service::PROTOCOL => protocol = u8::try_from(u16_host(found)?).ok(),
            service::ADDRESS => address = Some(found),
            service::PORT => port = Some(found.u16_be()?),
            service::FWMARK => mark = Some(found.u32()?),
            service::SCHEDULER => server.scheduler = found.text().into_owned(),
            service::FLAGS => {
                let flags = found.u64_be()?.to_be_bytes();
                let [f0, f1, f2, f3, ..] = flags;
                server.flags = u32::from_ne_bytes([f0, f1, f2, f3]) & OWN_FLAGS;
            }
            service::TIMEOUT => server.timeout = found.u32()?,
            service::STATS => old = read_counters(found)?,
            service::STATS64 => new = Some(read_counters(found)?),
            _ => {}
        }
    }
    let v6 = match family {
        AF_INET => false,
        AF_INET6 => true,
        _ => return Ok(None),
    };
    let key = if let Some(mark) = mark {
        ServerKey::Mark { v6, mark }
    } else {
        let ip = read_address(address.ok_or(missing("an address"))?, v6)?;
        ServerKey::Frontend {
            protocol: protocol.ok_or(missing("a protocol"))?,
            address: SocketAddr::new(ip, port.ok_or(missing("a port"))?),
        }
    };
    Ok(Some(Found { key, server, counters: new.unwrap_or(old) }))
}

/// Reads the answer about one destination; `v6` says what family it has if it does not say so itself (before Linux 3.18).
pub fn decode_destination(
    message: &Message<'_>,
    v6: bool,
) -> Result<Option<Destination>, Malformed> {
    let missing = |what| Malformed::Missing { what };
    let destination = message.attributes(generic::HEADER_LEN)?.find(DESTINATION)?;
    let destination = destination.ok_or(missing("a destination"))?;
    let (mut v6, mut ip, mut port) = (v6, None, None);
    let mut read = Destination {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        weight: 0,
        forwarding: 0,
        active: 0,
        inactive: 0,
        counters: Counters::default(),
    };
    let mut new = None;
    for found in destination.nested() {
        let found = found?;
        match found.kind {
            destination::ADDRESS => ip = Some(found),
            destination::PORT => port = Some(found.u16_be()?),
            destination::FAMILY => v6 = u16_host(found)? == AF_INET6,
            destination::WEIGHT => read.weight = found.u32()?,
            destination::FORWARDING => read.forwarding = found.u32()? & 7,
            destination::ACTIVE => read.active = found.u32()?,
            destination::INACTIVE => read.inactive = found.u32()?,
            destination::STATS => read.counters = read_counters(found)?,
            destination::STATS64 => new = Some(read_counters(found)?),
            _ => {}
        }
    }
    let ip = read_address(ip.ok_or(missing("an address"))?, v6)?;
    read.address = SocketAddr::new(ip, port.ok_or(missing("a port"))?);
    read.counters = new.unwrap_or(read.counters);
    Ok(Some(read))
}

fn read_counters(attribute: Attribute<'_>) -> Result<Counters, Malformed> {
    // Four bytes in the old form, eight in the new one.
    let number = |found: Attribute<'_>| match found.value.len() {
        4 => found.u32().map(u64::from),
        _ => Ok(u64::from_ne_bytes(found.u64_be()?.to_be_bytes())),
    };
    let mut counters = Counters::default();
    for found in attribute.nested() {
        let found = found?;
        match found.kind {
            stats::CONNECTIONS => counters.connections = number(found)?,
            stats::BYTES_IN => counters.bytes_in = number(found)?,
            stats::BYTES_OUT => counters.bytes_out = number(found)?,
            _ => {}
        }
    }
    Ok(counters)
}

#[cfg(test)]
mod tests;
