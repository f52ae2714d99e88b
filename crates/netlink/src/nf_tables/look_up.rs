//! Look-ups of single objects: what they cost does not depend on how many others there are.

use super::constants::{chain, operation, rule};
use super::{
    Chain, Element, KEYS_PER_REQUEST, NfTables, Rule, read_elements, read_rule, request, write_keys,
};
use crate::Errno;
use crate::error::Error;
use crate::message::Message;
use crate::netfilter;
use crate::socket::DumpEnd;
use crate::writer::Writer;

impl NfTables {
    /// Looks each of these elements up, and hands it to `each` with its place among them; `None` if it is not there.
    ///
    /// In a set of intervals the kernel answers with the interval that holds the key. Only what identifies an element counts of `wanted`:
    /// of plain intervals, which are two elements, also whether the end is meant.
    pub fn find_elements(
        &mut self,
        table: &str,
        set: &str,
        wanted: &[Element<'_>],
        mut each: impl FnMut(usize, Option<&Element<'_>>),
    ) -> Result<(), Error> {
        let object = format_args!("look up elements of set {set} in table {table}");
        let family = self.family.number();
        let mut next = 0;
        while let Some(rest) = wanted.get(next..).filter(|rest| !rest.is_empty()) {
            let asked = &rest[..rest.len().min(KEYS_PER_REQUEST)];
            let mut answered = 0;
            let result = self.socket.request(
                request(operation::GET_ELEMENT, &object),
                |writer| write_keys(writer, family, [table, set], asked.iter()),
                |message| {
                    read_elements(message, &mut |element| {
                        each(next + answered, Some(element));
                        answered += 1;
                    })
                },
            );
            match result {
                Ok(()) => next += asked.len(),
                // It answers in the order of the keys, up to the first that is not there.
                Err(error) if error.is_not_found() && answered < asked.len() => {
                    each(next + answered, None);
                    next += answered + 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A chain, if it is there.
    pub fn chain(&mut self, table: &str, name: &str) -> Result<Option<Chain>, Error> {
        let object = format_args!("read chain {name} of table {table}");
        let family = self.family.number();
        let mut found = None;
        let result = self.socket.request(
            request(operation::GET_CHAIN, &object),
            |writer| {
                netfilter::header(writer, family, 0);
                writer.text(chain::TABLE, table);
                writer.text(chain::NAME, name);
            },
            |message| {
                found = Some(Chain::read(message)?);
                Ok(())
            },
        );
        match result {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(found),
        }
    }

    /// The rules of one chain, in their order; none if it is not there.
    pub fn rules_of_chain(&mut self, table: &str, name: &str) -> Result<Vec<Rule>, Error> {
        let object = format_args!("list rules of chain {name} in table {table}");
        let family = self.family.number();
        let body = |writer: &mut Writer| {
            netfilter::header(writer, family, 0);
            writer.text(rule::TABLE, table);
            writer.text(rule::CHAIN, name);
        };
        let decode = |message: &Message<'_>| {
            Ok(read_rule(message, table)?.filter(|rule| rule.chain == name))
        };
        match self.socket.dump_all(request(operation::GET_RULE, &object), body, decode) {
            Ok((all, DumpEnd::Complete)) => Ok(all),
            Ok((_, DumpEnd::Partial)) => {
                Err(Error::Receive { object: object.to_string(), errno: Errno::EINTR })
            }
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The number of the last message that was sent, 0 before the first: each request has the next, and each message of a transaction.
    pub fn last_request(&self) -> u32 {
        self.socket.last_sequence()
    }
}
