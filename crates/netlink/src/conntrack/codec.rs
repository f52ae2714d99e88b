//! Flows and filters as messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::filter::{Filter, TupleFilter};
use super::flow::{Flow, Status, TcpState, Transport, Tuple};
use crate::Family;
use crate::attr::{Attributes, Malformed};
use crate::message::Message;
use crate::netfilter;
use crate::writer::Writer;

/// `CTA_*`.
mod cta {
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_REPLY: u16 = 2;
    pub(super) const STATUS: u16 = 3;
    pub(super) const PROTOCOL_INFO: u16 = 4;
    pub(super) const TIMEOUT: u16 = 7;
    pub(super) const MARK: u16 = 8;
    pub(super) const ID: u16 = 12;
    pub(super) const DESTINATION_NAT: u16 = 13;
    pub(super) const ZONE: u16 = 18;
    pub(super) const FILTER: u16 = 25;
    pub(super) const STATUS_MASK: u16 = 26;
}

/// `CTA_PROTOINFO_*` and `CTA_PROTOINFO_TCP_*`.
mod protocol_info {
    pub(super) const TCP: u16 = 1;
    pub(super) const STATE: u16 = 1;
}

/// `CTA_NAT_*` and `CTA_PROTONAT_*`.
mod nat {
    pub(super) const V4_MIN: u16 = 1;
    pub(super) const V4_MAX: u16 = 2;
    pub(super) const PROTO: u16 = 3;
    pub(super) const V6_MIN: u16 = 4;
    pub(super) const V6_MAX: u16 = 5;

    pub(super) const PORT_MIN: u16 = 1;
    pub(super) const PORT_MAX: u16 = 2;
}

/// `CTA_TUPLE_*`, `CTA_IP_*`, `CTA_PROTO_*`.
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTO: u16 = 2;
    pub(super) const ZONE: u16 = 3;

    pub(super) const V4_SRC: u16 = 1;
    pub(super) const V4_DST: u16 = 2;
    pub(super) const V6_SRC: u16 = 3;
    pub(super) const V6_DST: u16 = 4;

    pub(super) const NUM: u16 = 1;
    pub(super) const SRC_PORT: u16 = 2;
    pub(super) const DST_PORT: u16 = 3;
    pub(super) const ICMP_ID: u16 = 4;
    pub(super) const ICMP_TYPE: u16 = 5;
    pub(super) const ICMP_CODE: u16 = 6;
    pub(super) const ICMPV6_ID: u16 = 7;
    pub(super) const ICMPV6_TYPE: u16 = 8;
    pub(super) const ICMPV6_CODE: u16 = 9;
}

/// `CTA_FILTER_*`, and the bits in it that name the parts of a tuple to compare.
mod filter {
    pub(super) const ORIG_FLAGS: u16 = 1;
    pub(super) const REPLY_FLAGS: u16 = 2;

    pub(super) const IP_SRC: u32 = 1 << 0;
    pub(super) const IP_DST: u32 = 1 << 1;
    pub(super) const PROTO_NUM: u32 = 1 << 3;
    pub(super) const SRC_PORT: u32 = 1 << 4;
    pub(super) const DST_PORT: u32 = 1 << 5;
}

const ICMPV6: u8 = 58;

/// Writes what identifies a flow: the original tuple, which must never be left out (a delete without it empties the table), zone and id.
pub(super) fn write_key(writer: &mut Writer, flow: &Flow) {
    netfilter::header(writer, flow.family().number(), 0);
    write_tuple(writer, cta::TUPLE_ORIG, &flow.original);
    write_zone(writer, flow.zone);
    if let Some(id) = flow.id {
        writer.u32_be(cta::ID, id);
    }
}

/// Writes a whole flow, for an insert.
pub(super) fn write_flow(writer: &mut Writer, flow: &Flow) {
    netfilter::header(writer, flow.family().number(), 0);
    write_tuple(writer, cta::TUPLE_ORIG, &flow.original);
    write_tuple(writer, cta::TUPLE_REPLY, &flow.reply);
    write_zone(writer, flow.zone);
    writer.u32_be(cta::STATUS, flow.status.0);
    if let Some(timeout) = flow.timeout {
        writer.u32_be(cta::TIMEOUT, u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX));
    }
    if flow.mark != 0 {
        writer.u32_be(cta::MARK, flow.mark);
    }
    if let Some(TcpState(state)) = flow.tcp_state {
        writer.nest(cta::PROTOCOL_INFO, |writer| {
            writer.nest(protocol_info::TCP, |writer| writer.u8(protocol_info::STATE, state));
        });
    }
}

/// Writes a flow whose packets go to another destination; the kernel makes the reply tuple, so the one of the flow has to be without NAT.
pub(super) fn write_redirected(writer: &mut Writer, flow: &Flow, to: SocketAddr) {
    write_flow(writer, flow);
    let [min, max] =
        if to.is_ipv4() { [nat::V4_MIN, nat::V4_MAX] } else { [nat::V6_MIN, nat::V6_MAX] };
    writer.nest(cta::DESTINATION_NAT, |writer| {
        writer.address(min, to.ip());
        writer.address(max, to.ip());
        writer.nest(nat::PROTO, |writer| {
            writer.u16_be(nat::PORT_MIN, to.port());
            writer.u16_be(nat::PORT_MAX, to.port());
        });
    });
}

/// Writes a dump request: always by family, and by the rest if the kernel is to do that.
pub(super) fn write_filter(writer: &mut Writer, filter: &Filter, in_kernel: bool) {
    netfilter::header(writer, filter.family.number(), 0);
    if in_kernel && filter.unanswered {
        writer.u32_be(cta::STATUS, 0);
        writer.u32_be(cta::STATUS_MASK, Status::SEEN_REPLY.0);
    }
    // The protocol is the same in both directions: naming it once is enough, unless ports need it.
    let original = Wanted::new(filter, &filter.original, filter.protocol);
    let reply_protocol = filter.protocol.filter(|_| has_ports(&filter.reply));
    let reply = Wanted::new(filter, &filter.reply, reply_protocol);
    if !in_kernel || (original.flags == 0 && reply.flags == 0) {
        return;
    }
    original.write(writer, cta::TUPLE_ORIG);
    reply.write(writer, cta::TUPLE_REPLY);
    writer.nest(cta::FILTER, |writer| {
        writer.u32(filter::ORIG_FLAGS, original.flags);
        writer.u32(filter::REPLY_FLAGS, reply.flags);
    });
}

fn has_ports(tuple: &TupleFilter) -> bool {
    tuple.source_port.is_some() || tuple.destination_port.is_some()
}

/// The part of a filter on one direction that the kernel can check.
struct Wanted {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    flags: u32,
}

impl Wanted {
    fn new(filter: &Filter, tuple: &TupleFilter, protocol: Option<u8>) -> Self {
        // The kernel compares IPv6 addresses the wrong way round: it leaves out those that are equal (5.8 to 6.18 at least).
        // User space compares those, and finds that an address of the other family matches nothing.
        let comparable = |address: &IpAddr| filter.family == Family::V4 && address.is_ipv4();
        let source = tuple.source.filter(comparable);
        let destination = tuple.destination.filter(comparable);
        // Ports have a meaning to the kernel only together with a protocol that has them.
        let port_protocol =
            protocol.is_some_and(|number| matches!(number, 6 | 17 | 33 | 132 | 136));
        let source_port = tuple.source_port.filter(|_| port_protocol);
        let destination_port = tuple.destination_port.filter(|_| port_protocol);
        let flag = |present, flag| if present { flag } else { 0 };
        let flags = flag(source.is_some(), filter::IP_SRC)
            | flag(destination.is_some(), filter::IP_DST)
            | flag(protocol.is_some(), filter::PROTO_NUM)
            | flag(source_port.is_some(), filter::SRC_PORT)
            | flag(destination_port.is_some(), filter::DST_PORT);
        Self { source, destination, protocol, source_port, destination_port, flags }
    }

    fn write(&self, writer: &mut Writer, kind: u16) {
        if self.flags == 0 {
            return;
        }
        writer.nest(kind, |writer| {
            if self.source.is_some() || self.destination.is_some() {
                writer.nest(tuple::IP, |writer| {
                    if let Some(address) = self.source {
                        write_source(writer, address);
                    }
                    if let Some(address) = self.destination {
                        write_destination(writer, address);
                    }
                });
            }
            let Some(protocol) = self.protocol else {
                return;
            };
            writer.nest(tuple::PROTO, |writer| {
                writer.u8(tuple::NUM, protocol);
                if let Some(port) = self.source_port {
                    writer.u16_be(tuple::SRC_PORT, port);
                }
                if let Some(port) = self.destination_port {
                    writer.u16_be(tuple::DST_PORT, port);
                }
            });
        });
    }
}

fn write_zone(writer: &mut Writer, zone: u16) {
    if zone != 0 {
        writer.u16_be(cta::ZONE, zone);
    }
}

fn write_source(writer: &mut Writer, address: IpAddr) {
    let kind = if address.is_ipv4() { tuple::V4_SRC } else { tuple::V6_SRC };
    writer.address(kind, address);
}

fn write_destination(writer: &mut Writer, address: IpAddr) {
    let kind = if address.is_ipv4() { tuple::V4_DST } else { tuple::V6_DST };
    writer.address(kind, address);
}

fn write_tuple(writer: &mut Writer, kind: u16, value: &Tuple) {
    writer.nest(kind, |writer| {
        writer.nest(tuple::IP, |writer| {
            write_source(writer, value.source);
            write_destination(writer, value.destination);
        });
        writer.nest(tuple::PROTO, |writer| {
            writer.u8(tuple::NUM, value.protocol);
            match value.transport {
                Transport::Ports { source, destination } => {
                    writer.u16_be(tuple::SRC_PORT, source);
                    writer.u16_be(tuple::DST_PORT, destination);
                }
                Transport::Icmp { id, kind, code } => {
                    let [id_kind, type_kind, code_kind] = icmp_kinds(value.protocol);
                    writer.u16_be(id_kind, id);
                    writer.u8(type_kind, kind);
                    writer.u8(code_kind, code);
                }
                Transport::None => {}
            }
        });
        if let Some(zone) = value.zone {
            writer.u16_be(tuple::ZONE, zone);
        }
    });
}

fn icmp_kinds(protocol: u8) -> [u16; 3] {
    if protocol == ICMPV6 {
        [tuple::ICMPV6_ID, tuple::ICMPV6_TYPE, tuple::ICMPV6_CODE]
    } else {
        [tuple::ICMP_ID, tuple::ICMP_TYPE, tuple::ICMP_CODE]
    }
}

/// Reads a flow from a message of type `IPCTNL_MSG_CT_NEW`.
pub(super) fn read_flow(message: &Message<'_>) -> Result<Flow, Malformed> {
    let (mut original, mut reply) = (None, None);
    let (mut id, mut zone, mut mark, mut status, mut timeout) = (None, 0, 0, Status(0), None);
    let mut tcp_state = None;
    for attribute in message.attributes(netfilter::HEADER_LEN)? {
        let attribute = attribute?;
        match attribute.kind {
            cta::TUPLE_ORIG => original = Some(read_tuple(attribute.nested())?),
            cta::TUPLE_REPLY => reply = Some(read_tuple(attribute.nested())?),
            cta::STATUS => status = Status(attribute.u32_be()?),
            cta::PROTOCOL_INFO => tcp_state = read_tcp_state(attribute.nested())?,
            cta::TIMEOUT => timeout = Some(Duration::from_secs(attribute.u32_be()?.into())),
            cta::MARK => mark = attribute.u32_be()?,
            cta::ID => id = Some(attribute.u32_be()?),
            cta::ZONE => zone = attribute.u16_be()?,
            _ => {}
        }
    }
    Ok(Flow {
        original: original.ok_or(Malformed::Missing { what: "the original tuple" })?,
        reply: reply.ok_or(Malformed::Missing { what: "the reply tuple" })?,
        id,
        zone,
        mark,
        status,
        tcp_state,
        timeout,
    })
}

/// The state in `CTA_PROTOINFO`; none for other protocols than TCP.
fn read_tcp_state(attributes: Attributes<'_>) -> Result<Option<TcpState>, Malformed> {
    let Some(tcp) = attributes.find(protocol_info::TCP)? else {
        return Ok(None);
    };
    let state = tcp.nested().find(protocol_info::STATE)?;
    Ok(state.map(|state| state.u8()).transpose()?.map(TcpState))
}

fn read_tuple(attributes: Attributes<'_>) -> Result<Tuple, Malformed> {
    let (mut source, mut destination, mut zone) = (None, None, None);
    let mut proto = (None, Transport::None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            tuple::IP => {
                for address in attribute.nested() {
                    let address = address?;
                    match address.kind {
                        tuple::V4_SRC => source = Some(address.ipv4()?.into()),
                        tuple::V4_DST => destination = Some(address.ipv4()?.into()),
                        tuple::V6_SRC => source = Some(address.ipv6()?.into()),
                        tuple::V6_DST => destination = Some(address.ipv6()?.into()),
                        _ => {}
                    }
                }
            }
            tuple::PROTO => proto = read_transport(attribute.nested())?,
            tuple::ZONE => zone = Some(attribute.u16_be()?),
            _ => {}
        }
    }
    let (protocol, transport) = proto;
    Ok(Tuple {
        source: source.ok_or(Malformed::Missing { what: "a source address" })?,
        destination: destination.ok_or(Malformed::Missing { what: "a destination address" })?,
        protocol: protocol.ok_or(Malformed::Missing { what: "a protocol number" })?,
        transport,
        zone,
    })
}

fn read_transport(attributes: Attributes<'_>) -> Result<(Option<u8>, Transport), Malformed> {
    let (mut protocol, mut source, mut destination) = (None, None, None);
    let (mut id, mut kind, mut code) = (None, 0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            tuple::NUM => protocol = Some(attribute.u8()?),
            tuple::SRC_PORT => source = Some(attribute.u16_be()?),
            tuple::DST_PORT => destination = Some(attribute.u16_be()?),
            tuple::ICMP_ID | tuple::ICMPV6_ID => id = Some(attribute.u16_be()?),
            tuple::ICMP_TYPE | tuple::ICMPV6_TYPE => kind = attribute.u8()?,
            tuple::ICMP_CODE | tuple::ICMPV6_CODE => code = attribute.u8()?,
            _ => {}
        }
    }
    let transport = match (source, destination, id) {
        (Some(source), Some(destination), _) => Transport::Ports { source, destination },
        (_, _, Some(id)) => Transport::Icmp { id, kind, code },
        _ => Transport::None,
    };
    Ok((protocol, transport))
}

#[cfg(test)]
mod tests;
