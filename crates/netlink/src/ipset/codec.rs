//! Bytes of ipset messages.

use std::fmt;
use std::net::IpAddr;

use super::SetType;
use crate::Family;
use crate::attr::{Attribute, Malformed, NET_BYTE_ORDER};
use crate::message::Message;
use crate::netfilter;
use crate::writer::Writer;

/// `IPSET_PROTOCOL` that all kernels since 2.6.39 accept.
pub(super) const VERSION: u8 = 6;
/// `IPSET_ATTR_PROTOCOL`.
pub(super) const PROTOCOL: u16 = 1;
/// `IPSET_ATTR_SETNAME`.
pub(super) const NAME: u16 = 2;
/// `IPSET_ATTR_TYPENAME`.
const TYPE: u16 = 3;
/// `IPSET_ATTR_SETNAME2`, the same number.
pub(super) const SECOND_NAME: u16 = TYPE;
/// `IPSET_ATTR_REVISION`.
const REVISION: u16 = 4;
/// `IPSET_ATTR_FAMILY`.
const FAMILY: u16 = 5;
/// `IPSET_ATTR_FLAGS`.
const FLAGS: u16 = 6;
/// `IPSET_ATTR_DATA`.
const DATA: u16 = 7;
/// `IPSET_ATTR_ADT`, a list of [`DATA`].
const LIST: u16 = 8;
/// `IPSET_ATTR_LINENO`, which lists of entries must have.
const LINE: u16 = 9;
/// `IPSET_FLAG_LIST_HEADER`.
const HEADER_ONLY: u32 = 4;

/// Attributes inside of [`DATA`].
mod data {
    pub(super) const IP: u16 = 1;
    pub(super) const PORT: u16 = 4;
    pub(super) const PORT_TO: u16 = 5;
    pub(super) const PROTOCOL: u16 = 7;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const HASH_SIZE: u16 = 18;
    pub(super) const MAX_ELEMENTS: u16 = 19;
    pub(super) const ELEMENTS: u16 = 24;
    pub(super) const IP2: u16 = 20;
    pub(super) const CIDR2: u16 = 21;
    pub(super) const MARK: u16 = 27;
}

/// `IPSET_FLAG_WITH_SKBINFO`.
const WITH_MARKS: u32 = 1 << 6;

/// What a hash starts with; it grows by itself.
const HASH_SIZE: u32 = 1024;

/// An entry of a set. Prints as the `ipset` program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// Of `hash:ip`.
    Ip(IpAddr),
    /// Of `hash:ip,port`, with the IP protocol.
    IpPort(IpAddr, u8, u16),
    /// Of `hash:ip,port` with marks: the bits of a packet's mark that are replaced, and what they become.
    /// The first three are what the kernel finds it by; adding it again changes its mark.
    IpPortMark {
        /// The address.
        ip: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// The port.
        port: u16,
        /// The bits that are set.
        mark: u32,
        /// The bits that are replaced.
        mask: u32,
    },
    /// Of `hash:ip,port,ip`.
    IpPortIp(IpAddr, u8, u16, IpAddr),
    /// Of `hash:ip,port,net`, with the length of the prefix.
    IpPortNet(IpAddr, u8, u16, IpAddr, u8),
    /// Of `bitmap:port`.
    Port(u16),
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |protocol: &u8| match protocol {
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            132 => "sctp".to_owned(),
            other => other.to_string(),
        };
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::IpPort(ip, protocol, port) => write!(f, "{ip},{}:{port}", name(protocol)),
            Self::IpPortMark { ip, protocol, port, mark, mask } => {
                write!(f, "{ip},{}:{port} skbmark {mark:#x}/{mask:#x}", name(protocol))
            }
            Self::IpPortIp(ip, protocol, port, second) => {
                write!(f, "{ip},{}:{port},{second}", name(protocol))
            }
            Self::IpPortNet(ip, protocol, port, net, length) => {
                write!(f, "{ip},{}:{port},{net}/{length}", name(protocol))
            }
            Self::Port(port) => write!(f, "{port}"),
        }
    }
}

/// A set without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its type, such as `hash:ip`.
    pub kind: String,
    /// `AF_` number; 0 where the type has no family.
    pub family: u8,
    /// How many entries it has; kernels before 4.9 do not say.
    pub elements: Option<u32>,
    /// How many a hash may have.
    pub max: Option<u32>,
    /// Its entries can have marks.
    pub has_marks: bool,
}

pub(super) fn write_header_only(writer: &mut Writer) {
    writer.u32_be(FLAGS | NET_BYTE_ORDER, HEADER_ONLY);
}

pub(super) fn write_create(writer: &mut Writer, kind: SetType, family: Family, max: u32) {
    writer.text(TYPE, kind.name());
    writer.u8(REVISION, kind.revision());
    writer.u8(FAMILY, if kind == SetType::Port { 0 } else { family.number() });
    writer.nest(DATA, |writer| {
        if kind == SetType::Port {
            writer.u16_be(data::PORT | NET_BYTE_ORDER, 0);
            writer.u16_be(data::PORT_TO | NET_BYTE_ORDER, u16::MAX);
        } else {
            writer.u32_be(data::HASH_SIZE | NET_BYTE_ORDER, HASH_SIZE);
            writer.u32_be(data::MAX_ELEMENTS | NET_BYTE_ORDER, max);
        }
        if kind == SetType::IpPortMark {
            writer.u32_be(data::FLAGS | NET_BYTE_ORDER, WITH_MARKS);
        }
    });
}

/// Writes as many entries as fit into about `limit` bytes; how many.
pub(super) fn write_entries(writer: &mut Writer, entries: &[Entry], limit: usize) -> usize {
    writer.u32(LINE, 0);
    let list = writer.open(LIST);
    let mut taken = 0;
    for entry in entries {
        if writer.nested_len(&list) >= limit {
            break;
        }
        writer.nest(DATA, |writer| write_entry(writer, *entry));
        taken += 1;
    }
    writer.close(list);
    taken
}

/// Writes the one entry that a request is about.
pub(super) fn write_single(writer: &mut Writer, entry: Entry) {
    writer.nest(DATA, |writer| write_entry(writer, entry));
}

fn write_entry(writer: &mut Writer, entry: Entry) {
    let address = |writer: &mut Writer, kind, ip: IpAddr| {
        writer.nest(kind, |writer| {
            let inner = if ip.is_ipv4() { 1 } else { 2 };
            writer.address(inner | NET_BYTE_ORDER, ip);
        });
    };
    let port = |writer: &mut Writer, port| writer.u16_be(data::PORT | NET_BYTE_ORDER, port);
    match entry {
        Entry::Ip(ip) => address(writer, data::IP, ip),
        Entry::Port(number) => port(writer, number),
        Entry::IpPort(ip, protocol, number)
        | Entry::IpPortMark { ip, protocol, port: number, .. }
        | Entry::IpPortIp(ip, protocol, number, _)
        | Entry::IpPortNet(ip, protocol, number, ..) => {
            address(writer, data::IP, ip);
            port(writer, number);
            writer.u8(data::PROTOCOL, protocol);
            if let Entry::IpPortIp(.., second) | Entry::IpPortNet(.., second, _) = entry {
                address(writer, data::IP2, second);
            }
            if let Entry::IpPortNet(.., length) = entry {
                writer.u8(data::CIDR2, length);
            }
            if let Entry::IpPortMark { mark, mask, .. } = entry {
                let both = u64::from(mark) << 32 | u64::from(mask);
                writer.u64_be(data::MARK | NET_BYTE_ORDER, both);
            }
        }
    }
}

/// Reads a message of a list; `None` if it only continues one before.
pub fn decode_header(message: &Message<'_>) -> Result<Option<Header>, Malformed> {
    let (mut name, mut kind, mut family, mut elements, mut max) = (None, None, 0, None, None);
    let mut has_marks = false;
    for found in message.attributes(netfilter::HEADER_LEN)? {
        let found = found?;
        match found.kind {
            NAME => name = Some(found.text().into_owned()),
            TYPE => kind = Some(found.text().into_owned()),
            FAMILY => family = found.u8()?,
            DATA => {
                for inside in found.nested() {
                    let inside = inside?;
                    match inside.kind {
                        data::ELEMENTS => elements = Some(inside.u32_be()?),
                        data::MAX_ELEMENTS => max = Some(inside.u32_be()?),
                        data::FLAGS => has_marks = inside.u32_be()? & WITH_MARKS != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let (Some(name), Some(kind)) = (name, kind) else { return Ok(None) };
    Ok(Some(Header { name, kind, family, elements, max, has_marks }))
}

/// Reads the entries in a message of a list; those of types that are not spoken here are left out.
pub fn decode_members(message: &Message<'_>) -> Result<Vec<Entry>, Malformed> {
    let Some(list) = message.attributes(netfilter::HEADER_LEN)?.find(LIST)? else {
        return Ok(Vec::new());
    };
    let mut members = Vec::new();
    for data in list.nested() {
        members.extend(read_entry(data?)?);
    }
    Ok(members)
}

fn read_entry(data: Attribute<'_>) -> Result<Option<Entry>, Malformed> {
    let (mut ip, mut second, mut port, mut protocol, mut length) = (None, None, None, None, None);
    let mut both = None;
    for found in data.nested() {
        let found = found?;
        match found.kind {
            data::IP => ip = read_ip(found)?,
            data::IP2 => second = read_ip(found)?,
            data::PORT => port = Some(found.u16_be()?),
            data::PROTOCOL => protocol = Some(found.u8()?),
            data::CIDR2 => length = Some(found.u8()?),
            data::MARK => both = Some(found.u64_be()?),
            _ => {}
        }
    }
    if let (Some(ip), Some(port), Some(protocol), None, Some(both)) =
        (ip, port, protocol, second, both)
    {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        let entry =
            Entry::IpPortMark { ip, protocol, port, mark: half(both >> 32), mask: half(both) };
        return Ok(Some(entry));
    }
    Ok(match (ip, port, protocol, second, length) {
        (Some(ip), None, ..) => Some(Entry::Ip(ip)),
        (None, Some(port), ..) => Some(Entry::Port(port)),
        (Some(ip), Some(port), Some(protocol), None, _) => Some(Entry::IpPort(ip, protocol, port)),
        (Some(ip), Some(port), Some(protocol), Some(second), None) => {
            Some(Entry::IpPortIp(ip, protocol, port, second))
        }
        (Some(ip), Some(port), Some(protocol), Some(net), Some(length)) => {
            Some(Entry::IpPortNet(ip, protocol, port, net, length))
        }
        _ => None,
    })
}

fn read_ip(attribute: Attribute<'_>) -> Result<Option<IpAddr>, Malformed> {
    let Some(inside) = attribute.nested().next() else { return Ok(None) };
    let inside = inside?;
    Ok(match inside.kind {
        1 => Some(inside.ipv4()?.into()),
        2 => Some(inside.ipv6()?.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
