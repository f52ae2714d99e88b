//! Word of what anybody changes in the rulesets of a network namespace.

use super::constants::{element_list, operation, table};
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::netfilter::{self, subsystem};
use crate::socket::{Protocol, Socket};
use crate::wait::{StopHandle, Waiter};
use std::borrow::Cow;

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
const OBJECT: &str = "watch nf_tables";

/// One object that another program made, changed or deleted, told after the transaction was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// The number of its family; [`Family::number`](crate::Family::number).
    pub family: u8,
    /// Its table.
    pub table: Cow<'a, str>,
    /// The socket from which the change came; [`NfTables::port`](super::NfTables::port).
    pub port: u32,
    /// Elements of this set are gone.
    pub elements_gone_from: Option<Cow<'a, str>>,
}

/// Receives all changes in the network namespace of the thread that opened it. Needs `CAP_NET_ADMIN` there.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Listens from now on. The waiter waits for changes, and does not need the monitor itself.
    pub fn open() -> Result<(Self, Waiter, StopHandle), Error> {
        let socket = Socket::open(Protocol::Netfilter)?;
        socket.join(GROUP)?;
        let (waiter, stop) = Waiter::new(&socket, OBJECT)?;
        Ok((Self { socket }, waiter, stop))
    }

    /// Does not listen for a while: without listeners, the kernel is spared telling each element of a large transaction.
    pub fn pause(&self) -> Result<(), Error> {
        self.socket.leave(GROUP)
    }

    /// Listens again.
    pub fn resume(&self) -> Result<(), Error> {
        self.socket.join(GROUP)
    }

    /// Takes the notices that are there, without blocking. [`Error::Lost`] says that some are missing.
    pub fn notices(&mut self, mut each: impl FnMut(Notice<'_>)) -> Result<(), Error> {
        self.socket.notifications(&OBJECT, |message| {
            if let Some(notice) = Notice::read(message)? {
                each(notice);
            }
            Ok(())
        })
    }
}

impl<'a> Notice<'a> {
    /// `None` for messages that are about no table: the number of a generation.
    pub(super) fn read(message: &Message<'a>) -> Result<Option<Self>, Malformed> {
        let [group, operation] = message.kind.to_be_bytes();
        if group != subsystem::NF_TABLES || operation == operation::NEW_GENERATION {
            return Ok(None);
        }
        let (family, _) = netfilter::read_header(message)?;
        let (mut name, mut set) = (None, None);
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                // Whatever the object, the name of its table is attribute 1.
                table::NAME => name = Some(attribute.text()),
                element_list::SET if operation == operation::DELETE_ELEMENT => {
                    set = Some(attribute.text());
                }
                _ => {}
            }
        }
        let table = name.ok_or(Malformed::Missing { what: "the name of a table" })?;
        Ok(Some(Self { family, table, port: message.port, elements_gone_from: set }))
    }
}
