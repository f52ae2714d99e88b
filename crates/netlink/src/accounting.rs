//! Accounting objects (nfacct): counters with names that rules of iptables add to by their match `nfacct`.
//!
//! The messages are those of `linux/netfilter/nfnetlink_acct.h`.
//! Objects belong to a network namespace, not to an address family, and outlive the rules that count in them.

use std::fmt;

use nix::errno::Errno;

use crate::attr::Malformed;
use crate::error::Error;
use crate::message::{Message, flags};
use crate::netfilter::{self, HEADER_LEN, subsystem};
use crate::socket::{Protocol, Request, Socket};
use crate::writer::Writer;

/// `enum nfnl_acct_msg_types`. `NFNL_MSG_ACCT_GET_CTRZERO`, 2, would take the numbers away from everybody else.
mod operation {
    pub(super) const NEW: u8 = 0;
    pub(super) const GET: u8 = 1;
    pub(super) const DELETE: u8 = 3;
}

/// `enum nfnl_acct_type`.
mod attribute {
    pub(super) const NAME: u16 = 1;
    pub(super) const PACKETS: u16 = 2;
    pub(super) const BYTES: u16 = 3;
}

/// Longest name of an object in bytes: `NFACCT_NAME_MAX` less the final zero.
pub const MAX_NAME: usize = 31;

/// An object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Packets counted.
    pub packets: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// The objects of one network namespace.
#[derive(Debug)]
pub struct Accounting {
    socket: Socket,
}

impl Accounting {
    /// Opens the objects of the calling thread's network namespace. Needs `CAP_NET_ADMIN` there.
    ///
    /// A kernel without them says so only to a request, see [`is_unknown`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Makes an object that starts at zero. One of that name stays as it is, and is an error that [`Error::is_exists`].
    pub fn create(&mut self, name: &str) -> Result<(), Error> {
        self.command(operation::NEW, flags::CREATE | flags::EXCLUSIVE, "create", name)
    }

    /// Removes an object. Fails while a rule counts in it, which [`Error::is_busy`].
    pub fn delete(&mut self, name: &str) -> Result<(), Error> {
        self.command(operation::DELETE, 0, "delete", name)
    }

    /// What was counted in an object; nothing of it is reset. `None` if there is no such object.
    pub fn get(&mut self, name: &str) -> Result<Option<Counter>, Error> {
        let object = format!("get accounting object {name}");
        let mut counter = None;
        let result = self.socket.request(
            request(operation::GET, 0, &object),
            |writer| write_name(writer, name),
            |message| {
                counter = Some(decode(message)?);
                Ok(())
            },
        );
        match result {
            Err(error) if error.is_not_found() => Ok(None),
            result => result.map(|()| counter),
        }
    }

    fn command(&mut self, operation: u8, flags: u16, what: &str, name: &str) -> Result<(), Error> {
        let object = format!("{what} accounting object {name}");
        let request = request(operation, flags, &object);
        self.socket.acknowledged(request, |writer| write_name(writer, name))
    }
}

/// Whether the kernel has no such objects at all: `nfnetlink` says `EINVAL` for a subsystem that it could not load either.
pub fn is_unknown(error: &Error) -> bool {
    error.errno() == Some(Errno::EINVAL)
}

fn request(operation: u8, flags: u16, object: &dyn fmt::Display) -> Request<'_> {
    Request { kind: netfilter::kind(subsystem::ACCOUNTING, operation), flags, object }
}

fn write_name(writer: &mut Writer, name: &str) {
    netfilter::header(writer, 0, 0);
    writer.text(attribute::NAME, name);
}

/// Reads an object.
pub fn decode(message: &Message<'_>) -> Result<Counter, Malformed> {
    let (mut name, mut packets, mut bytes) = (None, None, None);
    for attribute in message.attributes(HEADER_LEN)? {
        let attribute = attribute?;
        match attribute.kind {
            attribute::NAME => name = Some(attribute.text().into_owned()),
            attribute::PACKETS => packets = Some(attribute.u64_be()?),
            attribute::BYTES => bytes = Some(attribute.u64_be()?),
            _ => {}
        }
    }
    let missing = |what| Malformed::Missing { what };
    Ok(Counter {
        name: name.ok_or(missing("the name of an accounting object"))?,
        packets: packets.ok_or(missing("packets of an accounting object"))?,
        bytes: bytes.ok_or(missing("bytes of an accounting object"))?,
    })
}

#[cfg(test)]
mod tests;
