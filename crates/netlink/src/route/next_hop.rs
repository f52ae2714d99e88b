//! The routers that routes lead through.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::Family;
use crate::attr::{Attribute, Attributes, Malformed, align};
use crate::message::Message;

/// Length of `struct rtmsg` in bytes.
pub(super) const HEADER_LEN: usize = 12;
/// Length of `struct rtnexthop` in bytes.
const HOP_HEADER_LEN: usize = 8;

/// `RTA_*` of linux/rtnetlink.h.
mod attribute {
    pub(super) const GATEWAY: u16 = 5;
    pub(super) const MULTIPATH: u16 = 9;
    pub(super) const VIA: u16 = 18;
}

/// Adds the next hops that a message of type `RTM_NEWROUTE` names; none for other families than IPv4 and IPv6.
pub(super) fn read(message: &Message<'_>, hops: &mut BTreeSet<IpAddr>) -> Result<(), Malformed> {
    let [family, ..] = *message.fixed::<HEADER_LEN>()?;
    let Some(family) = Family::from_number(family) else { return Ok(()) };
    read_attributes(message.attributes(HEADER_LEN)?, family, hops)
}

fn read_attributes(
    attributes: Attributes<'_>,
    family: Family,
    hops: &mut BTreeSet<IpAddr>,
) -> Result<(), Malformed> {
    for found in attributes {
        let found = found?;
        match found.kind {
            attribute::GATEWAY => drop(hops.insert(super::address::read_ip(found, family)?)),
            attribute::VIA => hops.extend(read_via(found)?),
            attribute::MULTIPATH => read_multipath(found.value, family, hops)?,
            _ => {}
        }
    }
    Ok(())
}

/// The list of `struct rtnexthop`, each with attributes of its own.
fn read_multipath(
    mut rest: &[u8],
    family: Family,
    hops: &mut BTreeSet<IpAddr>,
) -> Result<(), Malformed> {
    while let Some([l0, l1, ..]) = rest.first_chunk::<HOP_HEADER_LEN>() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let attributes = rest
            .get(HOP_HEADER_LEN..length)
            .ok_or(Malformed::AttributeFrame { length, available: rest.len() })?;
        read_attributes(Attributes::new(attributes), family, hops)?;
        rest = rest.get(align(length)..).unwrap_or(&[]);
    }
    Ok(())
}

/// A next hop of a family that need not be the route's: `struct rtvia`.
fn read_via(found: Attribute<'_>) -> Result<Option<IpAddr>, Malformed> {
    let [f0, f1, address @ ..] = found.value else {
        return Err(Malformed::AttributeLength {
            kind: found.kind,
            length: found.value.len(),
            expected: 2,
        });
    };
    let family = u8::try_from(u16::from_ne_bytes([*f0, *f1])).ok().and_then(Family::from_number);
    let attribute = Attribute { kind: found.kind, value: address };
    family.map(|family| super::address::read_ip(attribute, family)).transpose()
}

#[cfg(test)]
mod tests;
