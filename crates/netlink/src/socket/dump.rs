//! Dumps: one request, many answers, and what changes while they are read.

use nix::errno::Errno;

use super::{Request, Socket, ack};
use crate::attr::Malformed;
use crate::error::Error;
use crate::message::{self, Message, Messages, flags};
use crate::writer::Writer;

/// How often an interrupted dump is started, in all.
const ATTEMPTS: usize = 5;
/// How often the kernel may lack memory for the next part of a dump before we give up.
const MAX_LOST: usize = 16;

/// Whether a dump saw everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DumpEnd {
    /// All of it, as of one moment, or as much of one as the protocol can tell.
    Complete,
    /// What was dumped changed all the while; something may be missing although it was tried again several times.
    Partial,
}

impl Socket {
    /// Asks for all objects and hands each to `each` as it comes, so that nothing is held in memory.
    ///
    /// An interrupted dump starts again, up to five times in all: `each` may see an object more than once.
    pub fn dump(
        &mut self,
        request: Request<'_>,
        body: impl Fn(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<DumpEnd, Error> {
        for _ in 0..ATTEMPTS {
            if self.dump_once(request, &body, &mut each)? == DumpEnd::Complete {
                return Ok(DumpEnd::Complete);
            }
        }
        Ok(DumpEnd::Partial)
    }

    /// Asks for all objects and collects those that `decode` makes something of, each once.
    pub fn dump_all<T>(
        &mut self,
        request: Request<'_>,
        body: impl Fn(&mut Writer),
        decode: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<(Vec<T>, DumpEnd), Error> {
        let mut all = Vec::new();
        let mut end = DumpEnd::Partial;
        for _ in 0..ATTEMPTS {
            all.clear();
            end = self.dump_once(request, &body, &mut |message| {
                all.extend(decode(message)?);
                Ok(())
            })?;
            if end == DumpEnd::Complete {
                break;
            }
        }
        Ok((all, end))
    }

    /// One attempt. It is read to its end whatever happens: the kernel answers no other dump on this socket before.
    fn dump_once(
        &mut self,
        request: Request<'_>,
        body: &impl Fn(&mut Writer),
        each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<DumpEnd, Error> {
        let object = request.object;
        let sequence = self.send_one(request, flags::DUMP, body)?;
        let mut state = State { end: DumpEnd::Complete, malformed: None };
        let mut lost = 0;
        loop {
            let length = match self.receive(object) {
                Ok(length) => length,
                Err(Error::Lost { .. }) if lost < MAX_LOST => {
                    lost += 1;
                    state.end = DumpEnd::Partial;
                    continue;
                }
                Err(error) => return Err(error),
            };
            return match state.take(&self.buffer[..length], sequence, each) {
                Taken::More => continue,
                Taken::Refused(reason) if reason.errno == Errno::EINTR => Ok(DumpEnd::Partial),
                Taken::Refused(reason) => Err(Error::Refused(reason.about(object))),
                Taken::End => match state.malformed {
                    Some(malformed) => {
                        Err(Error::Malformed { object: object.to_string(), malformed })
                    }
                    None => Ok(state.end),
                },
            };
        }
    }
}

/// What a datagram of a dump means for the dump.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    More,
    End,
    Refused(ack::Reason),
}

struct State {
    end: DumpEnd,
    malformed: Option<Malformed>,
}

impl State {
    /// Reads one datagram.
    fn take(
        &mut self,
        datagram: &[u8],
        sequence: u32,
        each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Taken {
        for message in Messages::new(datagram) {
            let message = match message {
                Ok(message) if message.sequence == sequence => message,
                Ok(_left_over) => continue,
                Err(malformed) => {
                    self.malformed.get_or_insert(malformed);
                    break;
                }
            };
            if message.flags & flags::DUMP_INTERRUPTED != 0 {
                self.end = DumpEnd::Partial;
            }
            match message.kind {
                message::DONE => {
                    return ack::read_done(&message).map_or(Taken::End, Taken::Refused);
                }
                message::ERROR => match ack::read_error(&message) {
                    Ok(reason) => return reason.map_or(Taken::End, Taken::Refused),
                    Err(malformed) => {
                        self.malformed = Some(malformed);
                        return Taken::End;
                    }
                },
                message::OVERRUN => self.end = DumpEnd::Partial,
                kind if kind < message::MIN_TYPE => {}
                _ if self.malformed.is_none() => self.malformed = each(&message).err(),
                _ => {}
            }
        }
        Taken::More
    }
}

#[cfg(test)]
mod tests;
