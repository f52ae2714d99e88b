//! Word of address changes.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::address::Address;
use super::kind;
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::socket::{Protocol, Socket};

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
    /// Some changes were missed: list the addresses anew.
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

/// Ends a wait from another thread, for good. Dropping all of them does the same.
#[derive(Clone, Debug)]
pub struct StopHandle {
    writer: Arc<std::sync::Mutex<Option<PipeWriter>>>,
}

impl StopHandle {
    /// Makes the monitor's wait return [`Wake::Stopped`], now and from now on.
    pub fn stop(&self) {
        // Closing the pipe is the signal; a poisoned lock holds the same writer.
        let mut writer = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writer.take();
    }
}

/// Notices address changes in the network namespace of the thread that opened it. Needs no privilege.
///
/// Open it before listing the addresses; then no change falls between.
#[derive(Debug)]
pub struct AddressMonitor {
    socket: Socket,
    stop: PipeReader,
}

impl AddressMonitor {
    /// Subscribes to address changes of both families.
    pub fn open() -> Result<(Self, StopHandle), Error> {
        let socket = Socket::subscribe(Protocol::Route, GROUPS)?;
        let (stop, writer) = std::io::pipe().map_err(|error| Error::Open {
            protocol: "route",
            call: "pipe",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        })?;
        let writer = Arc::new(std::sync::Mutex::new(Some(writer)));
        Ok((Self { socket, stop }, StopHandle { writer }))
    }

    /// Blocks until addresses change, the handle stops it, or the timeout ends, `None` being never.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Wake, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let remaining = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if self.stopped_before_readable(remaining)? {
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

    fn stopped_before_readable(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        // Rounded up, so that a wait does not spin through its last millisecond.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            let whole = timeout.saturating_add(Duration::from_nanos(999_999));
            PollTimeout::try_from(whole).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, timeout) {
            // A signal: the caller looks at the time and waits again.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Receive { object: OBJECT.to_owned(), errno }),
        }
        Ok(polled[1].revents().is_some_and(|events| !events.is_empty()))
    }
}

/// Readable when addresses changed.
impl AsFd for AddressMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn read_change(message: &Message<'_>) -> Result<Option<AddressChange>, Malformed> {
    Ok(match message.kind {
        kind::NEW_ADDRESS => Address::read(message)?.map(AddressChange::Present),
        kind::DELETE_ADDRESS => Address::read(message)?.map(AddressChange::Gone),
        _ => None,
    })
}
