//! Reading attributes: type, length, value; nested by the caller, who knows what is nested.
//!
//! Nothing here panics, whatever the bytes are. What does not fit its frame is a [`Malformed`].

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Set in an attribute's type when its value is a list of attributes (`NLA_F_NESTED`).
pub const NESTED: u16 = 1 << 15;
/// Set in an attribute's type when its value is in network byte order (`NLA_F_NET_BYTEORDER`).
pub const NET_BYTE_ORDER: u16 = 1 << 14;
/// Length of an attribute's header in bytes.
pub const HEADER_LEN: usize = 4;

/// Rounds up to the alignment of netlink messages and attributes, 4 bytes.
pub(crate) const fn align(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// Bytes that are not what their frame says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A message header or its fixed part reaches over the end.
    #[error("netlink message of {available} bytes is shorter than the {needed} it needs")]
    ShortMessage {
        /// Bytes that the header announces, or that the fixed part has.
        needed: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// An attribute reaches over the end of its container, or is shorter than its own header.
    #[error("netlink attribute of length {length} in {available} bytes")]
    AttributeFrame {
        /// The length it announces, header included.
        length: usize,
        /// Bytes that are there.
        available: usize,
    },
    /// An attribute's value has another length than its kind has.
    #[error("netlink attribute {kind} has {length} bytes, expected {expected}")]
    AttributeLength {
        /// The attribute's type.
        kind: u16,
        /// The length of its value.
        length: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A message lacks something that it always has.
    #[error("netlink message without {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
}

/// One attribute; its value is a slice of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type, without the two flag bits.
    pub kind: u16,
    /// The value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn array<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value.try_into().map_err(|_| Malformed::AttributeLength {
            kind: self.kind,
            length: self.value.len(),
            expected: N,
        })
    }

    /// One byte.
    pub fn u8(&self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes in network order.
    pub fn u16_be(&self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Four bytes in network order.
    pub fn u32_be(&self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Four bytes in host order.
    pub fn u32(&self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    /// Eight bytes in network order.
    pub fn u64_be(&self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// An IPv4 address.
    pub fn ipv4(&self) -> Result<Ipv4Addr, Malformed> {
        Ok(Ipv4Addr::from(self.array::<4>()?))
    }

    /// An IPv6 address.
    pub fn ipv6(&self) -> Result<Ipv6Addr, Malformed> {
        Ok(Ipv6Addr::from(self.array::<16>()?))
    }

    /// Text up to the first NUL, or all of it.
    ///
    /// The kernel takes names of any bytes, and lists those of others beside ours: what is no UTF-8 is replaced and no error.
    pub fn text(&self) -> Cow<'a, str> {
        let end = self.value.iter().position(|byte| *byte == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(&self.value[..end])
    }

    /// The attributes inside.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }
}

/// The attributes in a slice, in order. After an error it ends.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Attributes in `bytes`, which start with an attribute header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of a type.
    pub fn find(self, kind: u16) -> Result<Option<Attribute<'a>>, Malformed> {
        for attribute in self {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest;
        self.rest = &[];
        if bytes.is_empty() {
            return None;
        }
        let [l0, l1, k0, k1, ..] = *bytes else {
            return Some(Err(Malformed::AttributeFrame {
                length: HEADER_LEN,
                available: bytes.len(),
            }));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]) & !(NESTED | NET_BYTE_ORDER);
        let Some(value) = bytes.get(HEADER_LEN..length) else {
            return Some(Err(Malformed::AttributeFrame { length, available: bytes.len() }));
        };
        // The last attribute may come without its padding.
        self.rest = bytes.get(align(length)..).unwrap_or(&[]);
        Some(Ok(Attribute { kind, value }))
    }
}

#[cfg(test)]
mod tests;
