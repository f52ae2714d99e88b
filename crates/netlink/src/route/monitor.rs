//! Word of address changes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::address::Address;
use super::kind;
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::socket::{Protocol, Socket};
use crate::wait::{Ready, StopHandle, Waiter};

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const GROUPS: u32 = 0x10 | 0x100;
const OBJECT: &str = "watch interface addresses";

/// A change of one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressChange {
    /// It is there, or its flags or lifetime changed. The end of duplicate address detection is told like this.
    Present(Address),
    /// It is gone.
    Gone(Address),
    /// Some changes were missed: list the addresses again.
    Missed,
}

/// Why a wait ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Addresses changed, in this order. Lifetimes that routers refresh count too, so compare before acting.
    Changed(Vec<AddressChange>),
    /// The time was over.
    TimedOut,
    /// A [`StopHandle`] was used.
    Stopped,
}

/// Notices address changes in the network namespace of the thread that opened it. Needs no privilege.
///
/// Open it before listing the addresses; then no change falls between.
#[derive(Debug)]
pub struct AddressMonitor {
    socket: Socket,
    waiter: Waiter,
}

impl AddressMonitor {
    /// Subscribes to address changes of both families.
    pub fn open() -> Result<(Self, StopHandle), Error> {
        let socket = Socket::subscribe(Protocol::Route, GROUPS)?;
        let (waiter, stop) = Waiter::new(&socket, OBJECT)?;
        Ok((Self { socket, waiter }, stop))
    }

    /// Blocks until addresses change, the handle stops it, or the timeout ends, `None` being never.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let remaining = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if self.waiter.wait(remaining)? == Ready::Stopped {
                return Ok(Wake::Stopped);
            }
            let changes = self.changes()?;
            if !changes.is_empty() {
                return Ok(Wake::Changed(changes));
            }
            if remaining.is_some_and(|remaining| remaining.is_zero()) {
                return Ok(Wake::TimedOut);
            }
        }
    }

    /// Takes the changes that are there, without blocking: for callers that poll the descriptor themselves.
    pub fn changes(&mut self) -> Result<Vec<AddressChange>, Error> {
        let mut changes = Vec::new();
        let result = self.socket.notifications(&OBJECT, |message| {
            changes.extend(read_change(message)?);
            Ok(())
        });
        match result {
            Ok(()) => {}
            // The buffer overflowed; or a message made no sense, which comes to the same.
            Err(Error::Lost { .. } | Error::Malformed { .. }) => {
                changes.push(AddressChange::Missed);
            }
            Err(error) => return Err(error),
        }
        Ok(changes)
    }
}

/// Readable when addresses changed.
impl AsFd for AddressMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

pub(super) fn read_change(message: &Message<'_>) -> Result<Option<AddressChange>, Malformed> {
    Ok(match message.kind {
        kind::NEW_ADDRESS => Address::read(message)?.map(AddressChange::Present),
        kind::DELETE_ADDRESS => Address::read(message)?.map(AddressChange::Gone),
        _ => None,
    })
}
