//! Interfaces.

use super::kind;
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::socket::{Protocol, Socket};
use crate::wait::{StopHandle, Waiter};

/// Length of `struct ifinfomsg` in bytes.
pub(super) const HEADER_LEN: usize = 16;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `IFF_UP` and `IFF_LOOPBACK`.
const UP: u32 = 0x1;
const LOOPBACK: u32 = 0x8;
/// `RTMGRP_LINK`.
const GROUPS: u32 = 0x1;
const OBJECT: &str = "watch interfaces";

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// It is switched on.
    pub up: bool,
    /// It is the loopback interface.
    pub loopback: bool,
}

impl Link {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let [_, _, _, _, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *message.fixed::<HEADER_LEN>()?;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let attributes = message.attributes(HEADER_LEN)?;
        let name = attributes.find(NAME)?.ok_or(Malformed::Missing { what: "IFLA_IFNAME" })?;
        Ok(Self {
            index: u32::from_ne_bytes([i0, i1, i2, i3]),
            name: name.text().into_owned(),
            up: flags & UP != 0,
            loopback: flags & LOOPBACK != 0,
        })
    }
}

/// Notices that interfaces come, go or change, in the network namespace of the thread that opened it. Needs no privilege.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: Socket,
}

impl LinkMonitor {
    /// Listens from now on. The waiter waits for changes, and does not need the monitor itself.
    pub fn open() -> Result<(Self, Waiter, StopHandle), Error> {
        let socket = Socket::subscribe(Protocol::Route, GROUPS)?;
        let (waiter, stop) = Waiter::new(&socket, OBJECT)?;
        Ok((Self { socket }, waiter, stop))
    }

    /// Whether interfaces changed since the last call, without blocking.
    pub fn changed(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        let result = self.socket.notifications(&OBJECT, |message| {
            changed |= matches!(message.kind, kind::NEW_LINK | kind::DELETE_LINK);
            Ok(())
        });
        match result {
            Ok(()) => Ok(changed),
            // Some are missing.
            Err(Error::Lost { .. } | Error::Malformed { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
