//! Many small requests with few system calls.

use std::fmt::Display;

use super::{Request, Socket, ack};
use crate::error::{Error, Refusal};
use crate::message::{self, Messages, flags};
use crate::writer::Writer;

/// Requests per datagram; their acknowledgements fit the smallest receive buffer.
const AT_ONCE: usize = 64;

impl Socket {
    /// Sends one request per item, many in one datagram, and reports `outcome` what the kernel did with each.
    ///
    /// Each stands for itself: a refusal stops none of the others.
    pub fn pipeline<T: Display>(
        &mut self,
        request: Request<'_>,
        items: &[T],
        body: impl Fn(&T, &mut Writer),
        mut outcome: impl FnMut(&T, Option<Refusal>),
    ) -> Result<(), Error> {
        for items in items.chunks(AT_ONCE) {
            let first = self.send_many(request, items, &body)?;
            self.collect(request.object, first, items, &mut outcome)?;
        }
        Ok(())
    }

    fn send_many<T: Display>(
        &mut self,
        request: Request<'_>,
        items: &[T],
        body: &impl Fn(&T, &mut Writer),
    ) -> Result<u32, Error> {
        let mut writer = std::mem::take(&mut self.writer);
        let first = self.first_of(items.len());
        write_many(&mut writer, request, first, items, body)?;
        let sent = self.send(writer.as_bytes(), request.object);
        self.writer = writer;
        sent.map(|()| first)
    }

    /// The first of `count` sequence numbers in a row, none of them 0.
    pub(super) fn first_of(&mut self, count: usize) -> u32 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence = self.sequence.saturating_add(count);
        first
    }

    fn collect<T: Display>(
        &mut self,
        object: &dyn Display,
        first: u32,
        items: &[T],
        outcome: &mut impl FnMut(&T, Option<Refusal>),
    ) -> Result<(), Error> {
        let mut waiting = items.len();
        let malformed = |malformed| Error::Malformed { object: object.to_string(), malformed };
        while waiting > 0 {
            let length = self.receive(object)?;
            for message in Messages::new(&self.buffer[..length]) {
                let message = message.map_err(malformed)?;
                let index = usize::try_from(message.sequence.wrapping_sub(first)).ok();
                let (Some(item), message::ERROR) =
                    (index.and_then(|index| items.get(index)), message.kind)
                else {
                    continue;
                };
                let reason = ack::read_error(&message).map_err(malformed)?;
                outcome(item, reason.map(|reason| reason.about(&format_args!("{object} {item}"))));
                waiting = waiting.saturating_sub(1);
            }
        }
        Ok(())
    }
}

/// Writes one message per item, all for one datagram.
fn write_many<T: Display>(
    writer: &mut Writer,
    Request { kind, flags, object }: Request<'_>,
    first: u32,
    items: &[T],
    body: &impl Fn(&T, &mut Writer),
) -> Result<(), Error> {
    writer.clear();
    for (sequence, item) in (first..).zip(items) {
        let flags = flags | flags::REQUEST | flags::ACK;
        writer
            .message(kind, flags, sequence, |writer| body(item, writer))
            .map_err(|too_long| Error::TooLong { object: format!("{object} {item}"), too_long })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
