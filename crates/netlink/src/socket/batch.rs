//! Sending a [`Batch`] and reading what the kernel says to all of its messages.

use std::fmt::Display;

use super::{Socket, ack};
use crate::batch::Batch;
use crate::error::{Described, Error, Refusal};
use crate::message::{self, Message, Messages};

impl Socket {
    /// Sends a batch: on success the kernel did all of it, on [`Error::Batch`] nothing.
    ///
    /// `object` names the transaction as a whole. `describe` names the object of one message for an error, from its bytes and
    /// the place in it that the kernel points at; so naming costs nothing while all goes well.
    pub fn commit(
        &mut self,
        batch: &mut Batch,
        object: &dyn Display,
        describe: impl Fn(&Message<'_>, Option<usize>) -> Described,
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        // What an earlier, abandoned request left.
        self.discard(object)?;
        let first = self.first_of(batch.sequences());
        batch.sealed(first, |bytes| self.send(bytes, object))?;
        let answers = self.answers(batch, first, object, &describe)?;
        let mut refusals = answers.refusals.into_iter();
        match refusals.next() {
            Some(first) => Err(Error::Batch { first, others: refusals.collect() }),
            None if answers.acknowledged && !answers.lost => Ok(()),
            None => Err(Error::Lost { object: object.to_string() }),
        }
    }

    fn discard(&mut self, object: &dyn Display) -> Result<(), Error> {
        loop {
            match self.receive_now(object) {
                Ok(Some(_)) | Err(Error::Lost { .. }) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The kernel works on a batch within the system call that sends it: all answers are there.
    fn answers(
        &mut self,
        batch: &Batch,
        first: u32,
        object: &dyn Display,
        describe: &impl Fn(&Message<'_>, Option<usize>) -> Described,
    ) -> Result<Answers, Error> {
        let mut answers = Answers::default();
        loop {
            let length = match self.receive_now(object) {
                Ok(Some(length)) => length,
                Ok(None) => return Ok(answers),
                Err(Error::Lost { .. }) => {
                    answers.lost = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in Messages::new(&self.buffer[..length]) {
                let malformed =
                    |malformed| Error::Malformed { object: object.to_string(), malformed };
                let message = message.map_err(malformed)?;
                let index = usize::try_from(message.sequence.wrapping_sub(first));
                let index = index.unwrap_or(usize::MAX);
                if message.kind != message::ERROR || index >= batch.sequences() {
                    continue;
                }
                let Some(reason) = ack::read_error(&message).map_err(malformed)? else {
                    answers.acknowledged = true;
                    continue;
                };
                // Index 0 is the beginning of the batch: that is about the whole.
                let refused = index.checked_sub(1).and_then(|index| batch.message(index));
                answers.refusals.push(match refused {
                    Some(refused) => {
                        let Described { object, target } = describe(&refused, reason.offset());
                        Refusal { target: target.map(Box::new), ..reason.about(&object) }
                    }
                    None => reason.about(object),
                });
            }
        }
    }
}

#[derive(Default)]
struct Answers {
    acknowledged: bool,
    lost: bool,
    refusals: Vec<Refusal>,
}
