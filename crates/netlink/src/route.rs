//! rtnetlink: interfaces and their addresses, word when they change, and the next hops of routes.

mod address;
mod dummy;
mod link;
mod local;
mod monitor;
mod next_hop;

pub use address::{Address, AddressFlags, Scope};
pub use dummy::Interface;
pub use link::{Link, LinkMonitor};
pub use monitor::{AddressChange, AddressMonitor, Wake};

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::error::Error;
use crate::message::Message;
use crate::socket::{DumpEnd, Protocol, Request, Socket};

/// Message types, `RTM_*` of linux/rtnetlink.h.
mod kind {
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const DELETE_LINK: u16 = 17;
    pub(super) const GET_LINK: u16 = 18;
    pub(super) const NEW_ADDRESS: u16 = 20;
    pub(super) const DELETE_ADDRESS: u16 = 21;
    pub(super) const GET_ADDRESS: u16 = 22;
    pub(super) const NEW_ROUTE: u16 = 24;
    pub(super) const GET_ROUTE: u16 = 26;
}

/// Requests about links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    /// Opens rtnetlink in the calling thread's network namespace. Needs no privilege.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// The addresses of all interfaces, of both families, in the order of the kernel.
    ///
    /// [`DumpEnd::Partial`] says that they changed all the while, so that some may be missing.
    pub fn addresses(&mut self) -> Result<(Vec<Address>, DumpEnd), Error> {
        let request =
            Request { kind: kind::GET_ADDRESS, flags: 0, object: &"list interface addresses" };
        self.socket.dump_all(
            request,
            // struct ifaddrmsg, all zero: every family and interface.
            |writer| writer.fixed(&[0; address::HEADER_LEN]),
            |message: &Message<'_>| match message.kind {
                kind::NEW_ADDRESS => Address::read(message),
                _ => Ok(None),
            },
        )
    }

    /// The interfaces, in the order of the kernel. [`DumpEnd::Partial`] says that they changed all the while.
    pub fn links(&mut self) -> Result<(Vec<Link>, DumpEnd), Error> {
        let request = Request { kind: kind::GET_LINK, flags: 0, object: &"list interfaces" };
        self.socket.dump_all(
            request,
            |writer| writer.fixed(&[0; link::HEADER_LEN]),
            |message: &Message<'_>| match message.kind {
                kind::NEW_LINK => Link::read(message).map(Some),
                _ => Ok(None),
            },
        )
    }

    /// The next hops of the routes of both families, in all tables. [`DumpEnd::Partial`] says that routes changed all the while.
    pub fn next_hops(&mut self) -> Result<(BTreeSet<IpAddr>, DumpEnd), Error> {
        let mut hops = BTreeSet::new();
        let end = self.socket.dump(
            Request { kind: kind::GET_ROUTE, flags: 0, object: &"list routes" },
            // struct rtmsg, all zero: every family and table.
            |writer| writer.fixed(&[0; next_hop::HEADER_LEN]),
            |message: &Message<'_>| match message.kind {
                kind::NEW_ROUTE => next_hop::read(message, &mut hops),
                _ => Ok(()),
            },
        )?;
        Ok((hops, end))
    }
}

/// Reads a message in every way of this module.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(message: &Message<'_>) {
    std::hint::black_box(Address::read(message).is_ok());
    std::hint::black_box(Link::read(message).is_ok());
    std::hint::black_box(monitor::read_change(message).is_ok());
    std::hint::black_box(next_hop::read(message, &mut BTreeSet::new()).is_ok());
    std::hint::black_box(local::read(message).is_ok());
}
