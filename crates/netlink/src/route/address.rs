//! An address of an interface.

use std::net::IpAddr;

use crate::Family;
use crate::attr::{Attribute, Malformed};
use crate::message::Message;

/// Length of `struct ifaddrmsg` in bytes.
pub(super) const HEADER_LEN: usize = 8;

/// `IFA_*` of `linux/if_addr.h`.
mod attribute {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const LABEL: u16 = 3;
    pub(super) const FLAGS: u16 = 8;
}

/// The attribute of the address itself.
pub(super) const LOCAL: u16 = attribute::LOCAL;
/// The attribute of the address, or of the peer's.
pub(super) const ADDRESS: u16 = attribute::ADDRESS;

/// How far an address reaches, `RT_SCOPE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// The site (deprecated for IPv6).
    Site,
    /// The link: IPv6 `fe80::/10`, IPv4 `169.254.0.0/16` as configured.
    Link,
    /// This host: loopback.
    Host,
    /// Nowhere.
    Nowhere,
    /// Another number, which administrators may define.
    Other(u8),
}

impl Scope {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Global,
            200 => Self::Site,
            253 => Self::Link,
            254 => Self::Host,
            255 => Self::Nowhere,
            other => Self::Other(other),
        }
    }
}

/// State bits of an address, `IFA_F_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// IPv4: not the first of its subnet on the interface. IPv6: a temporary (privacy) address.
    pub const SECONDARY: Self = Self(0x01);
    /// Usable although duplicate address detection has not ended.
    pub const OPTIMISTIC: Self = Self(0x04);
    /// Duplicate address detection found another owner.
    pub const DUPLICATE: Self = Self(0x08);
    /// Not for new connections.
    pub const DEPRECATED: Self = Self(0x20);
    /// Duplicate address detection has not ended.
    pub const TENTATIVE: Self = Self(0x40);
    /// Without lifetime: configured by hand.
    pub const PERMANENT: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address of this host (not the peer's).
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix_len: u8,
    /// The index of the interface.
    pub interface: u32,
    /// How far it reaches.
    pub scope: Scope,
    /// Its state.
    pub flags: AddressFlags,
    /// The label of an IPv4 address: the interface's name, perhaps with a suffix.
    pub label: Option<String>,
}

impl Address {
    /// Whether packets to it are accepted now: neither waiting for duplicate address detection nor refused by it.
    pub fn is_usable(&self) -> bool {
        let waiting = self.flags.contains(AddressFlags::TENTATIVE)
            && !self.flags.contains(AddressFlags::OPTIMISTIC);
        !waiting && !self.flags.contains(AddressFlags::DUPLICATE)
    }

    /// Reads a message of type `RTM_NEWADDR` or `RTM_DELADDR`; `None` for another family than IPv4 and IPv6.
    pub(super) fn read(message: &Message<'_>) -> Result<Option<Self>, Malformed> {
        let [family, prefix_len, low_flags, scope, index @ ..] = *message.fixed::<HEADER_LEN>()?;
        let Some(family) = Family::from_number(family) else {
            return Ok(None);
        };
        let (mut peer, mut local, mut label) = (None, None, None);
        let mut flags = u32::from(low_flags);
        for found in message.attributes(HEADER_LEN)? {
            let found = found?;
            match found.kind {
                attribute::ADDRESS => peer = Some(read_ip(found, family)?),
                attribute::LOCAL => local = Some(read_ip(found, family)?),
                attribute::LABEL => label = Some(found.text().into_owned()),
                attribute::FLAGS => flags = found.u32()?,
                _ => {}
            }
        }
        // With a peer, IFA_ADDRESS is the peer's and IFA_LOCAL ours; otherwise one or both of them are ours.
        let address = local.or(peer).ok_or(Malformed::Missing { what: "an address" })?;
        Ok(Some(Self {
            address,
            prefix_len,
            interface: u32::from_ne_bytes(index),
            scope: Scope::from_number(scope),
            flags: AddressFlags(flags),
            label,
        }))
    }
}

pub(super) fn read_ip(attribute: Attribute<'_>, family: Family) -> Result<IpAddr, Malformed> {
    Ok(match family {
        Family::V4 => attribute.ipv4()?.into(),
        Family::V6 => attribute.ipv6()?.into(),
    })
}

#[cfg(test)]
mod tests;
