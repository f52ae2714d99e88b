//! Flows as they begin, change and end.

use std::time::Duration;

use super::{codec, flow::Flow, operation};
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::{Message, flags};
use crate::netfilter::subsystem;
use crate::socket::{Protocol, Socket};
use crate::wait::{StopHandle, Waiter};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE` and `_DESTROY`.
const GROUPS: [u32; 3] = [1, 2, 3];
const OBJECT: &str = "watch conntrack flows";

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// Its first packet left this host or reached a process here.
    Began(Flow),
    /// Its state or mark is another one, for example because it was answered.
    Changed(Flow),
    /// It is no longer in the table: closed, timed out or deleted.
    Ended(Flow),
    /// Some events were lost: list the flows again.
    Missed,
}

/// Follows the flows of the network namespace of the thread that opened it. Needs `CAP_NET_ADMIN` there.
///
/// The kernel sends events only where it tracks connections with `nf_conntrack_events`, the default.
/// Open it before listing the flows; then none falls between.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    waiter: Waiter,
}

impl Monitor {
    /// Listens from now on. The handle ends a wait from another thread.
    pub fn open() -> Result<(Self, StopHandle), Error> {
        let socket = Socket::open(Protocol::Netfilter)?;
        for group in GROUPS {
            socket.join(group)?;
        }
        let (waiter, stop) = Waiter::new(&socket, OBJECT)?;
        Ok((Self { socket, waiter }, stop))
    }

    /// Waits until there are events, the timeout ends (`None` is never), or the handle stops it: then `false`.
    ///
    /// Each event goes to `each`, in order. It returns after the first that came, with those that came with it.
    pub fn wait(
        &mut self,
        timeout: Option<Duration>,
        mut each: impl FnMut(FlowEvent),
    ) -> Result<bool, Error> {
        let Self { socket, waiter } = self;
        waiter.wait_until(timeout, || events(socket, &mut each))
    }
}

/// Hands over the events that are there; whether there were any.
fn events(socket: &mut Socket, each: &mut impl FnMut(FlowEvent)) -> Result<bool, Error> {
    let mut any = false;
    let result = socket.notifications(&OBJECT, |message| {
        if let Some(event) = read(message)? {
            any = true;
            each(event);
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(any),
        // The buffer overflowed; or a message made no sense, which comes to the same.
        Err(Error::Lost { .. } | Error::Malformed { .. }) => {
            each(FlowEvent::Missed);
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// `None` for messages that are about no flow.
pub(super) fn read(message: &Message<'_>) -> Result<Option<FlowEvent>, Malformed> {
    let [group, operation] = message.kind.to_be_bytes();
    if group != subsystem::CONNTRACK {
        return Ok(None);
    }
    Ok(match operation {
        // A new flow has the flags of a request that makes one; an update has none.
        operation::NEW if message.flags & flags::CREATE != 0 => {
            Some(FlowEvent::Began(codec::read_flow(message)?))
        }
        operation::NEW => Some(FlowEvent::Changed(codec::read_flow(message)?)),
        operation::DELETE => Some(FlowEvent::Ended(codec::read_flow(message)?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
