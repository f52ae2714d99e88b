//! ipset: sets of addresses, ports and networks that rules look packets up in.
//!
//! The messages are those of `linux/netfilter/ipset/ip_set.h`.

use std::fmt;

use crate::Family;
use crate::error::Error;
use crate::message::{Message, flags};
use crate::netfilter::{self, subsystem};
use crate::socket::{DumpEnd, Protocol, Request, Socket};
use crate::writer::Writer;

pub(crate) mod codec;

pub use codec::{Entry, Header, decode_header, decode_members};

/// `IPSET_CMD_*`.
mod command {
    pub(super) const CREATE: u8 = 2;
    pub(super) const DESTROY: u8 = 3;
    pub(super) const FLUSH: u8 = 4;
    pub(super) const SWAP: u8 = 6;
    pub(super) const LIST: u8 = 7;
    pub(super) const ADD: u8 = 9;
    pub(super) const DELETE: u8 = 10;
    pub(super) const TEST: u8 = 11;
}

/// `IPSET_ERR_EXIST`: the entry is there already, or is not there.
const NOT_THERE: i32 = 4103;

/// Longest name of a set in bytes.
pub const MAX_NAME: usize = 31;

/// Bytes of entries in one message: well below what an attribute holds.
const MAX_ENTRIES: usize = 32 << 10;

/// The types of sets that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetType {
    /// `hash:ip`
    Ip,
    /// `hash:ip,port`
    IpPort,
    /// `hash:ip,port` whose entries have a mark, which a rule can give to packets (`skbinfo`; Linux 3.18).
    IpPortMark,
    /// `hash:ip,port,ip`
    IpPortIp,
    /// `hash:ip,port,net`
    IpPortNet,
    /// `bitmap:port`, of all ports.
    Port,
}

impl SetType {
    /// The name in messages and in the `ipset` program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "hash:ip",
            Self::IpPort | Self::IpPortMark => "hash:ip,port",
            Self::IpPortIp => "hash:ip,port,ip",
            Self::IpPortNet => "hash:ip,port,net",
            Self::Port => "bitmap:port",
        }
    }

    /// The oldest revision with what is used: kernels and programs of all ages know it.
    const fn revision(self) -> u8 {
        match self {
            Self::Ip | Self::Port => 0,
            // With SCTP.
            Self::IpPort | Self::IpPortIp => 1,
            Self::IpPortNet => 2,
            // With marks.
            Self::IpPortMark => 5,
        }
    }
}

/// The sets of one network namespace.
#[derive(Debug)]
pub struct Ipset {
    socket: Socket,
}

impl Ipset {
    /// Opens the sets of the calling thread's network namespace. Needs `CAP_NET_ADMIN` there.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Makes a set. `max` is the most entries a hash holds.
    pub fn create(
        &mut self,
        name: &str,
        kind: SetType,
        family: Family,
        max: u32,
    ) -> Result<(), Error> {
        self.command(command::CREATE, flags::CREATE | flags::EXCLUSIVE, "create", name, |writer| {
            codec::write_create(writer, kind, family, max);
        })
    }

    /// Removes a set. Fails while a rule refers to it.
    pub fn destroy(&mut self, name: &str) -> Result<(), Error> {
        self.command(command::DESTROY, 0, "destroy", name, |_| ())
    }

    /// Removes all entries.
    pub fn flush(&mut self, name: &str) -> Result<(), Error> {
        self.command(command::FLUSH, 0, "flush", name, |_| ())
    }

    /// Exchanges the contents of two sets of the same type; rules see the other's at once.
    pub fn swap(&mut self, name: &str, other: &str) -> Result<(), Error> {
        self.command(command::SWAP, 0, "swap", name, |writer| {
            writer.text(codec::SECOND_NAME, other);
        })
    }

    /// Adds entries, many with one message. Those that are there already do no harm.
    pub fn add(&mut self, name: &str, entries: &[Entry]) -> Result<(), Error> {
        self.entries(command::ADD, "add to", name, entries)
    }

    /// Deletes entries, many with one message. Those that are not there do no harm.
    pub fn delete(&mut self, name: &str, entries: &[Entry]) -> Result<(), Error> {
        self.entries(command::DELETE, "delete from", name, entries)
    }

    /// Whether a set has this entry; `None` if there is no such set. Of networks, one that holds it counts where it is a single address.
    pub fn contains(&mut self, name: &str, entry: Entry) -> Result<Option<bool>, Error> {
        let tested = self
            .command(command::TEST, 0, "test", name, |writer| codec::write_single(writer, entry));
        match tested {
            Ok(()) => Ok(Some(true)),
            Err(Error::Refused(refusal)) if refusal.code == NOT_THERE => Ok(Some(false)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Name, type and size of all sets, without their entries.
    pub fn headers(&mut self) -> Result<Vec<Header>, Error> {
        let request = request(command::LIST, 0, &"list ipsets");
        let dump = self.socket.dump_all(
            request,
            |writer| {
                begin(writer);
                codec::write_header_only(writer);
            },
            |message: &Message<'_>| decode_header(message),
        );
        let (headers, _) = dump.map_err(explained)?;
        Ok(headers)
    }

    /// The entries of one set.
    pub fn members(&mut self, name: &str) -> Result<Vec<Entry>, Error> {
        let object = format!("list ipset {name}");
        let dump = self.socket.dump_all(
            request(command::LIST, 0, &object),
            |writer| {
                begin(writer);
                writer.text(codec::NAME, name);
            },
            |message: &Message<'_>| decode_members(message).map(Some),
        );
        let (members, end) = dump.map_err(explained)?;
        match end {
            DumpEnd::Complete => Ok(members.into_iter().flatten().collect()),
            DumpEnd::Partial => Err(Error::Lost { object }),
        }
    }

    fn entries(
        &mut self,
        command: u8,
        what: &str,
        name: &str,
        entries: &[Entry],
    ) -> Result<(), Error> {
        let mut rest = entries;
        while !rest.is_empty() {
            let mut taken = 0;
            let from = rest;
            self.command(command, 0, what, name, |writer| {
                taken = codec::write_entries(writer, from, MAX_ENTRIES);
            })?;
            rest = rest.get(taken.max(1)..).unwrap_or(&[]);
        }
        Ok(())
    }

    fn command(
        &mut self,
        command: u8,
        flags: u16,
        what: &str,
        name: &str,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let object = format!("{what} ipset {name}");
        self.socket
            .acknowledged(request(command, flags, &object), |writer| {
                begin(writer);
                writer.text(codec::NAME, name);
                body(writer);
            })
            .map_err(|error| explained(error).about("set", name))
    }
}

fn request(command: u8, flags: u16, object: &dyn fmt::Display) -> Request<'_> {
    Request { kind: netfilter::kind(subsystem::IPSET, command), flags, object }
}

fn begin(writer: &mut Writer) {
    netfilter::header(writer, Family::V4.number(), 0);
    writer.u8(codec::PROTOCOL, codec::VERSION);
}

/// The same error in words, where the number is one of ipset's own.
fn explained(mut error: Error) -> Error {
    if let Error::Refused(refusal) = &mut error
        && let Some(text) = explain(refusal.code)
    {
        refusal.message = Some(text.to_owned());
    }
    error
}

/// What the kernel means by an error number that only ipset has.
fn explain(code: i32) -> Option<&'static str> {
    Some(match code {
        4097 => "ipset: the message is not what this kernel expects",
        4098 => "ipset: this kernel does not have this type of set",
        4099 => "ipset: there are as many sets as the kernel allows",
        4100 => "ipset: the set is in use: a rule or another set refers to it",
        4101 => "ipset: the second set does not exist, or the new name is taken",
        4102 => "ipset: the two sets are not of the same type",
        4103 => "ipset: the entry is there already, or is not there",
        4104 => "ipset: no such prefix length is allowed",
        4106 => "ipset: another address family than that of the set",
        4352 => "ipset: the set is full, or the port is out of its range",
        4354 | 4355 => "ipset: a protocol that sets do not know",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
