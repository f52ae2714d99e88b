//! An nfnetlink batch: messages that the kernel carries out together or not at all (`nf_tables` transactions).

use crate::message::{Message, Messages, flags};
use crate::netfilter;
use crate::writer::{TooLong, Writer};

/// `NFNL_MSG_BATCH_BEGIN`.
const BEGIN: u16 = 0x10;
/// `NFNL_MSG_BATCH_END`.
const END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
const ATTR_GENERATION: u16 = 1;

/// Messages of one transaction in one buffer; [`Socket::commit`](crate::socket::Socket::commit) sends it.
///
/// The kernel reads it as one datagram: keep it below what memory allows, tens of megabytes at most.
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    subsystem: u8,
    /// Where each message begins, the opening one first.
    starts: Vec<usize>,
}

impl Batch {
    /// An empty batch for one subsystem.
    pub fn new(subsystem: u8) -> Self {
        let mut batch = Self { writer: Writer::new(), subsystem, starts: Vec::new() };
        batch.clear(None);
        batch
    }

    /// Forgets all messages and keeps the memory.
    ///
    /// With a generation id, the kernel refuses the batch when another program changed the ruleset since that generation
    /// ([`Error::is_stale`](crate::Error::is_stale)).
    pub fn clear(&mut self, generation: Option<u32>) {
        self.writer.clear();
        self.starts.clear();
        self.starts.push(0);
        self.frame(BEGIN, 0, generation);
    }

    /// Adds a message; on an error the batch is as before.
    pub fn add(
        &mut self,
        operation: u8,
        flags: u16,
        body: impl FnOnce(&mut Writer),
    ) -> Result<(), TooLong> {
        let start = self.writer.len();
        let kind = netfilter::kind(self.subsystem, operation);
        self.writer.message(kind, flags | flags::REQUEST, 0, body)?;
        self.starts.push(start);
        Ok(())
    }

    /// Messages added.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.writer.len()
    }

    /// The messages added, in order.
    pub fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        Messages::new(self.writer.as_bytes()).map_while(Result::ok).skip(1)
    }

    /// One of the messages added.
    pub fn message(&self, index: usize) -> Option<Message<'_>> {
        let start = *self.starts.get(index.checked_add(1)?)?;
        Messages::new(self.writer.as_bytes().get(start..)?).next()?.ok()
    }

    /// Sequence numbers that sending takes: all messages, beginning and end.
    pub(crate) fn sequences(&self) -> usize {
        self.starts.len() + 1
    }

    /// Numbers the messages from `first`, asks for the acknowledgement of the last one and closes the batch;
    /// `send` gets the bytes, after which the batch is open again.
    ///
    /// The end of a batch is acknowledged only since Linux 6.10, hence the last message.
    pub(crate) fn sealed<R>(&mut self, first: u32, send: impl FnOnce(&[u8]) -> R) -> R {
        let mut sequence = first;
        for (index, start) in self.starts.iter().enumerate() {
            let more = if index + 1 == self.starts.len() { flags::ACK } else { 0 };
            self.writer.restamp(*start, sequence, more);
            sequence = sequence.wrapping_add(1);
        }
        let open = self.writer.len();
        self.frame(END, sequence, None);
        let result = send(self.writer.as_bytes());
        self.writer.truncate(open);
        result
    }

    /// Writes the message that begins or ends the batch.
    fn frame(&mut self, kind: u16, sequence: u32, generation: Option<u32>) {
        let subsystem = u16::from(self.subsystem);
        self.writer
            .message(kind, flags::REQUEST, sequence, |writer| {
                netfilter::header(writer, 0, subsystem);
                if let Some(generation) = generation {
                    writer.u32_be(ATTR_GENERATION, generation);
                }
            })
            .expect("a header and one number are short");
    }
}

#[cfg(test)]
mod tests;
