//! One blocking netlink socket: requests, dumps, pipelines, batches, notifications.

use std::fmt::Display;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SetSockOpt, SockFlag, SockProtocol, SockType, bind,
    getsockname, recvmsg, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::attr::Malformed;
use crate::error::Error;
use crate::message::{self, Message, Messages, flags};
use crate::sys;
use crate::writer::Writer;

mod ack;
mod batch;
mod dump;
mod pipeline;

pub use dump::DumpEnd;

/// Answers of the kernel come within microseconds; this only keeps a lost one from hanging us indefinitely.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for the answers that the kernel queues before we read: the acknowledgements of a pipeline or a batch, bursts of notifications.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Room for one request; grows with what is sent.
const SEND_BUFFER: usize = 1 << 20;
/// The kernel fills at most 32 KiB per read of a dump; other answers are smaller.
const DATAGRAM: usize = 64 << 10;

/// A netlink protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `NETLINK_NETFILTER`: conntrack, `nf_tables`, ipset.
    Netfilter,
    /// `NETLINK_ROUTE`: links, addresses, routes.
    Route,
    /// `NETLINK_GENERIC`: IPVS among others.
    Generic,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Netfilter => "netfilter",
            Self::Route => "route",
            Self::Generic => "generic",
        }
    }

    fn number(self) -> SockProtocol {
        match self {
            Self::Netfilter => SockProtocol::NetlinkNetFilter,
            Self::Route => SockProtocol::NetlinkRoute,
            Self::Generic => SockProtocol::NetlinkGeneric,
        }
    }
}

/// What is asked of the kernel, apart from the body of the message.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The message type.
    pub kind: u16,
    /// Flags besides `REQUEST`, and besides `ACK` or `DUMP` where the call implies them.
    pub flags: u16,
    /// What is done to what, for errors; only formatted when there is one.
    pub object: &'a dyn Display,
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    writer: Writer,
    buffer: Box<[u8]>,
    sequence: u32,
    send_limit: usize,
}

impl Socket {
    /// Opens a socket for requests.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        Self::subscribe(protocol, 0)
    }

    /// Opens a socket that is a member of multicast groups (bit n-1 for group n), for notifications.
    pub fn subscribe(protocol: Protocol, groups: u32) -> Result<Self, Error> {
        let failed = |call| move |errno| Error::Open { protocol: protocol.name(), call, errno };
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol.number(),
        )
        .map_err(failed("socket"))?;
        setsockopt(&fd, sys::ExtendedAck, &true).map_err(failed("setsockopt NETLINK_EXT_ACK"))?;
        setsockopt(&fd, sys::CappedAck, &true).map_err(failed("setsockopt NETLINK_CAP_ACK"))?;
        let timeout = TimeVal::new(RECEIVE_TIMEOUT.as_secs().cast_signed(), 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &timeout)
            .map_err(failed("setsockopt SO_RCVTIMEO"))?;
        set_size(&fd, sockopt::RcvBufForce, sockopt::RcvBuf, RECEIVE_BUFFER);
        set_size(&fd, sockopt::SndBufForce, sockopt::SndBuf, SEND_BUFFER);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(failed("bind"))?;
        Ok(Self {
            fd,
            writer: Writer::new(),
            buffer: vec![0; DATAGRAM].into_boxed_slice(),
            sequence: 0,
            send_limit: SEND_BUFFER,
        })
    }

    /// Sends one request and hands every message of the answer to `each`, until the kernel acknowledges.
    pub fn request(
        &mut self,
        request: Request<'_>,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let object = request.object;
        let sequence = self.send_one(request, flags::ACK, body)?;
        let malformed = |malformed| Error::Malformed { object: object.to_string(), malformed };
        loop {
            let length = self.receive(object)?;
            for message in Messages::new(&self.buffer[..length]) {
                let message = message.map_err(malformed)?;
                // Left over from a request that was given up.
                if message.sequence != sequence {
                    continue;
                }
                match message.kind {
                    message::ERROR => {
                        return match ack::read_error(&message).map_err(malformed)? {
                            None => Ok(()),
                            Some(reason) => Err(Error::Refused(reason.about(object))),
                        };
                    }
                    message::OVERRUN => return Err(Error::Lost { object: object.to_string() }),
                    kind if kind < message::MIN_TYPE => {}
                    _ => each(&message).map_err(malformed)?,
                }
            }
        }
    }

    /// Sends one request and waits until the kernel acknowledges it.
    pub fn acknowledged(
        &mut self,
        request: Request<'_>,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        self.request(request, body, |_| Ok(()))
    }

    /// The number of this socket, by which notifications tell who made a change.
    pub fn port(&self) -> Result<u32, Error> {
        let address: NetlinkAddr = getsockname(self.fd.as_raw_fd())
            .map_err(|errno| Error::Open { protocol: "netlink", call: "getsockname", errno })?;
        Ok(address.pid())
    }

    /// Notifications of a group come in from now on.
    pub fn join(&self, group: u32) -> Result<(), Error> {
        setsockopt(&self.fd, sys::JoinGroup, &group).map_err(|errno| Error::Open {
            protocol: "netlink",
            call: "setsockopt NETLINK_ADD_MEMBERSHIP",
            errno,
        })
    }

    /// Notifications of a group no longer come in; what has come in is still there.
    pub fn leave(&self, group: u32) -> Result<(), Error> {
        setsockopt(&self.fd, sys::LeaveGroup, &group).map_err(|errno| Error::Open {
            protocol: "netlink",
            call: "setsockopt NETLINK_DROP_MEMBERSHIP",
            errno,
        })
    }

    /// Takes the notifications that are there, without waiting. [`Error::Lost`] says that some are missing.
    pub fn notifications(
        &mut self,
        object: &dyn Display,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), Error> {
        let malformed = |malformed| Error::Malformed { object: object.to_string(), malformed };
        while let Some(length) = self.receive_now(object)? {
            for message in Messages::new(&self.buffer[..length]) {
                each(&message.map_err(malformed)?).map_err(malformed)?;
            }
        }
        Ok(())
    }

    /// The sequence number of the last message that was sent; 0 before the first.
    pub fn last_sequence(&self) -> u32 {
        self.sequence
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 is the sequence number of notifications.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.sequence
    }

    fn send_one(
        &mut self,
        request: Request<'_>,
        more_flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> Result<u32, Error> {
        let Request { kind, flags, object } = request;
        let sequence = self.next_sequence();
        self.writer.clear();
        self.writer
            .message(kind, flags | flags::REQUEST | more_flags, sequence, body)
            .map_err(|too_long| Error::TooLong { object: object.to_string(), too_long })?;
        let writer = std::mem::take(&mut self.writer);
        let sent = self.send(writer.as_bytes(), object);
        self.writer = writer;
        sent.map(|()| sequence)
    }

    /// Sends one datagram, with a larger send buffer where it needs one.
    fn send(&mut self, bytes: &[u8], object: &dyn Display) -> Result<(), Error> {
        if bytes.len() > self.send_limit {
            set_size(&self.fd, sockopt::SndBufForce, sockopt::SndBuf, bytes.len());
            self.send_limit = bytes.len();
        }
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &kernel, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Send { object: object.to_string(), errno }),
            }
        }
    }

    /// Waits for a datagram of the kernel; its length in the buffer.
    fn receive(&mut self, object: &dyn Display) -> Result<usize, Error> {
        match self.receive_with(MsgFlags::empty(), object)? {
            Some(length) => Ok(length),
            None => Err(Error::Timeout { object: object.to_string(), limit: RECEIVE_TIMEOUT }),
        }
    }

    /// Takes a datagram if there is one.
    fn receive_now(&mut self, object: &dyn Display) -> Result<Option<usize>, Error> {
        self.receive_with(MsgFlags::MSG_DONTWAIT, object)
    }

    fn receive_with(
        &mut self,
        flags: MsgFlags,
        object: &dyn Display,
    ) -> Result<Option<usize>, Error> {
        loop {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, flags) {
                // Only the kernel, port 0, is listened to.
                Ok(datagram) if datagram.address.is_some_and(|sender| sender.pid() != 0) => {}
                Ok(datagram) if datagram.flags.contains(MsgFlags::MSG_TRUNC) => {
                    let errno = Errno::EMSGSIZE;
                    return Err(Error::Receive { object: object.to_string(), errno });
                }
                Ok(datagram) => return Ok(Some(datagram.bytes)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ENOBUFS) => return Err(Error::Lost { object: object.to_string() }),
                Err(errno) => return Err(Error::Receive { object: object.to_string(), errno }),
            }
        }
    }
}

/// To wait for notifications with `poll` or an event loop.
impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets a buffer size beyond the system's limit, or up to it where that is not allowed.
///
/// A buffer that stays small shows as an error where it matters: `EMSGSIZE` or [`Error::Lost`].
fn set_size<Force, Plain>(fd: &OwnedFd, force: Force, plain: Plain, size: usize)
where
    Force: SetSockOpt<Val = usize>,
    Plain: SetSockOpt<Val = usize>,
{
    if setsockopt(fd, force, &size).is_err() {
        let _ = setsockopt(fd, plain, &size);
    }
}

/// Reads a message in every way of this module.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(message: &Message<'_>) {
    let about = |reason: Option<ack::Reason>| {
        let reason = reason.map(|reason| (reason.offset(), reason.about(&"a request").to_string()));
        drop(std::hint::black_box(reason));
    };
    about(ack::read_done(message));
    if let Ok(reason) = ack::read_error(message) {
        about(reason);
    }
}
