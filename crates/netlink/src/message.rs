//! Reading messages: the headers of a datagram, one after the other.

use crate::attr::{Attributes, Malformed, align};

/// Length of a message header in bytes (`struct nlmsghdr`).
pub const HEADER_LEN: usize = 16;

/// `NLMSG_ERROR`: an acknowledgement or an error.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: messages were lost.
pub const OVERRUN: u16 = 4;
/// Types below this one are about netlink itself (`NLMSG_MIN_TYPE`).
pub const MIN_TYPE: u16 = 0x10;

/// Header flags, `NLM_F_*` of linux/netlink.h.
pub mod flags {
    /// This is a request; the socket adds it.
    pub const REQUEST: u16 = 0x01;
    /// One of several; a `DONE` follows at the end.
    pub const MULTI: u16 = 0x02;
    /// Answer with an acknowledgement.
    pub const ACK: u16 = 0x04;
    /// Send the requester the notification too.
    pub const ECHO: u16 = 0x08;
    /// The dump was not of one moment: what it walks changed under it.
    pub const DUMP_INTERRUPTED: u16 = 0x10;
    /// Get all of them.
    pub const DUMP: u16 = 0x300;
    /// Replace what is there.
    pub const REPLACE: u16 = 0x100;
    /// Fail when it is there.
    pub const EXCLUSIVE: u16 = 0x200;
    /// Create when it is not there.
    pub const CREATE: u16 = 0x400;
    /// Put at the end of the list.
    pub const APPEND: u16 = 0x800;
    /// In a delete: not what is inside (`NLM_F_NONREC`).
    pub const NON_RECURSIVE: u16 = 0x100;
    /// In an error: only the header of the request is quoted.
    pub const CAPPED: u16 = 0x100;
    /// In an error: attributes follow, with text (extended acknowledgement).
    pub const ACK_ATTRIBUTES: u16 = 0x200;
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type; its meaning depends on the protocol of the socket.
    pub kind: u16,
    /// Header flags.
    pub flags: u16,
    /// The sequence number of the request that this answers; 0 in notifications.
    pub sequence: u32,
    /// The port of the socket that this is about: in notifications, that of the program that made the change; 0 is the kernel itself.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
    /// Header and payload.
    pub bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// The fixed part of `N` bytes that the payload starts with.
    pub fn fixed<const N: usize>(&self) -> Result<&'a [u8; N], Malformed> {
        self.payload
            .first_chunk()
            .ok_or(Malformed::ShortMessage { needed: N, available: self.payload.len() })
    }

    /// The attributes after a fixed part of `fixed` bytes.
    pub fn attributes(&self, fixed: usize) -> Result<Attributes<'a>, Malformed> {
        let start = align(fixed);
        match self.payload.get(start..) {
            Some(bytes) => Ok(Attributes::new(bytes)),
            None if self.payload.len() >= fixed => Ok(Attributes::new(&[])),
            None => Err(Malformed::ShortMessage { needed: fixed, available: self.payload.len() }),
        }
    }
}

/// The messages of a datagram, in order. After an error it ends.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Messages in `bytes`, which start with a message header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest;
        self.rest = &[];
        if bytes.is_empty() {
            return None;
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Some(Err(Malformed::ShortMessage {
                needed: HEADER_LEN,
                available: bytes.len(),
            }));
        };
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, p0, p1, p2, p3] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER_LEN..length) else {
            return Some(Err(Malformed::ShortMessage { needed: length, available: bytes.len() }));
        };
        self.rest = bytes.get(align(length)..).unwrap_or(&[]);
        Some(Ok(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            port: u32::from_ne_bytes([p0, p1, p2, p3]),
            payload,
            bytes: &bytes[..length],
        }))
    }
}

#[cfg(test)]
mod tests;
