//! `nf_tables`: tables, chains, rules, sets and their elements, as transactions. Messages of `linux/netfilter/nf_tables.h`.
//!
//! [`Transaction`] gathers changes to one table; [`NfTables`] commits it and reads back what the kernel has.

mod constants;
mod describe;
mod element;
mod expression;
mod flowtable;
mod foreign;
mod look_up;
mod monitor;
mod object;
mod trace;
mod transaction;
pub mod user_data;
mod verdict;

use std::borrow::Borrow;

use constants::{
    chain, element_list, flowtable as flowtables, generation, operation, rule, set, table,
};
pub use element::{Count, Data, Element};
pub use expression::{
    ADDRESS_TYPE_LOCAL, Comparison, CtKey, Expression, FibAddress, MetaKey, PayloadBase, Register,
    SetUpdate, ct_state, ct_status, encoded,
};
pub use flowtable::Flowtable;
pub use foreign::{Extension, ForeignRule};
pub use monitor::{Monitor, Notice};
pub use object::{
    Chain, ChainType, Hook, HookPoint, MapData, Set, SetSpec, Table, data_type, set_flags,
};
pub use trace::{Decision, Step, Tracer};
pub use transaction::Transaction;
pub use verdict::Verdict;

use crate::attr::Malformed;
use crate::error::Error;
use crate::message::Message;
use crate::netfilter::{self, subsystem};
use crate::socket::{DumpEnd, Protocol, Request, Socket};
use crate::writer::Writer;
use crate::{Errno, Family};

/// Elements asked for by key at a time.
const KEYS_PER_REQUEST: usize = 256;

/// The rulesets of one network namespace, seen from one family.
#[derive(Debug)]
pub struct NfTables {
    socket: Socket,
    family: Family,
}

/// A rule, as far as it matters to its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its chain.
    pub chain: String,
    /// The kernel's number for it.
    pub handle: u64,
    /// The fingerprint that its writer left; `None` if another program wrote it.
    pub fingerprint: Option<u64>,
}

impl NfTables {
    /// Opens the rulesets of the calling thread's network namespace. Needs `CAP_NET_ADMIN` there.
    pub fn open(family: Family) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)?, family })
    }

    /// The number of the socket from which transactions are sent: [`Notice::port`] of what they change.
    pub fn port(&self) -> Result<u32, Error> {
        self.socket.port()
    }

    /// The number of the ruleset's generation: it counts transactions of anybody.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let mut id = None;
        self.socket.request(
            request(operation::GET_GENERATION, &"nf_tables generation"),
            |writer| netfilter::header(writer, 0, 0),
            |message| {
                let attributes = message.attributes(netfilter::HEADER_LEN)?;
                if let Some(attribute) = attributes.find(generation::ID)? {
                    id = Some(attribute.u32_be()?);
                }
                Ok(())
            },
        )?;
        id.ok_or_else(|| Error::Malformed {
            object: "nf_tables generation".to_owned(),
            malformed: Malformed::Missing { what: "a generation id" },
        })
    }

    /// Commits a transaction: all of it is done, or nothing.
    pub fn commit(&mut self, transaction: &mut Transaction) -> Result<(), Error> {
        let object = "nf_tables transaction";
        self.socket.commit(&mut transaction.batch, &object, describe::describe)
    }

    /// The table of this name, if it is there.
    pub fn table(&mut self, name: &str) -> Result<Option<Table>, Error> {
        let mut found = None;
        let family = self.family.number();
        let object = format_args!("read table {name}");
        let result = self.socket.request(
            request(operation::GET_TABLE, &object),
            |writer| {
                netfilter::header(writer, family, 0);
                writer.text(table::NAME, name);
            },
            |message| {
                found = Some(Table::read(message)?);
                Ok(())
            },
        );
        match result {
            Ok(()) => Ok(found),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The chains of a table.
    pub fn chains(&mut self, table: &str) -> Result<Vec<Chain>, Error> {
        let object = format_args!("list chains of table {table}");
        self.list(operation::GET_CHAIN, &object, (chain::TABLE, table), |message| {
            let chain = Chain::read(message)?;
            Ok((chain.table == table).then_some(chain))
        })
    }

    /// The chains of all tables of all families, each with the number of its family.
    pub fn all_chains(&mut self) -> Result<Vec<(u8, Chain)>, Error> {
        let decode = |message: &Message<'_>| {
            let (family, _) = netfilter::read_header(message)?;
            Ok(Some((family, Chain::read(message)?)))
        };
        let request = request(operation::GET_CHAIN, &"list chains");
        let body = |writer: &mut Writer| netfilter::header(writer, 0, 0);
        self.socket.dump_all(request, body, decode).map(|(all, _)| all)
    }

    /// The rules of a table, in the order of each chain.
    pub fn rules(&mut self, table: &str) -> Result<Vec<Rule>, Error> {
        let object = format_args!("list rules of table {table}");
        let decode = |message: &Message<'_>| read_rule(message, table);
        self.list(operation::GET_RULE, &object, (rule::TABLE, table), decode)
    }

    /// The sets and maps of a table.
    pub fn sets(&mut self, table: &str) -> Result<Vec<Set>, Error> {
        let object = format_args!("list sets of table {table}");
        self.list(operation::GET_SET, &object, (set::TABLE, table), |message| {
            Set::read(message).map(Some)
        })
    }

    /// The flowtables of a table.
    pub fn flowtables(&mut self, table: &str) -> Result<Vec<Flowtable>, Error> {
        let object = format_args!("list flowtables of table {table}");
        self.list(operation::GET_FLOWTABLE, &object, (flowtables::TABLE, table), |message| {
            let flowtable = Flowtable::read(message)?;
            Ok((flowtable.table == table).then_some(flowtable))
        })
    }

    /// Hands each element of a set to `each`, as it comes. A change by another program meanwhile starts it again, so an element may come twice.
    pub fn elements(
        &mut self,
        table: &str,
        set: &str,
        mut each: impl FnMut(&Element<'_>),
    ) -> Result<DumpEnd, Error> {
        let object = format_args!("list elements of set {set} in table {table}");
        let family = self.family.number();
        self.socket.dump(
            request(operation::GET_ELEMENT, &object),
            |writer| {
                netfilter::header(writer, family, 0);
                writer.text(element_list::TABLE, table);
                writer.text(element_list::SET, set);
            },
            |message| read_elements(message, &mut each),
        )
    }

    /// Hands the elements with these keys to `each`; all of them must be there.
    ///
    /// The kernel finds each by its key, while [`elements`](Self::elements) walks the whole set again for each 32 KiB of its answer:
    /// of some ten thousand elements on, this is the faster way to all of them.
    pub fn elements_with_keys<'k>(
        &mut self,
        table: &str,
        set: &str,
        keys: impl IntoIterator<Item = &'k [u8]>,
        mut each: impl FnMut(&Element<'_>),
    ) -> Result<(), Error> {
        let object = format_args!("read elements of set {set} in table {table}");
        let family = self.family.number();
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            self.socket.request(
                request(operation::GET_ELEMENT, &object),
                |writer| {
                    // The answers to one request all wait in the receive buffer.
                    let some = keys.by_ref().take(KEYS_PER_REQUEST);
                    let some = some.map(|key| Element { key, ..Element::default() });
                    write_keys(writer, family, [table, set], some);
                },
                |message| read_elements(message, &mut each),
            )?;
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        operation: u8,
        object: &dyn std::fmt::Display,
        (kind, table): (u16, &str),
        decode: impl Fn(&Message<'_>) -> Result<Option<T>, Malformed>,
    ) -> Result<Vec<T>, Error> {
        let family = self.family.number();
        let body = |writer: &mut Writer| {
            netfilter::header(writer, family, 0);
            writer.text(kind, table);
        };
        match self.socket.dump_all(request(operation, object), body, decode) {
            Ok((all, DumpEnd::Complete)) => Ok(all),
            // Another program changes the ruleset all the time; the same as the answer to a stale generation.
            Ok((_, DumpEnd::Partial)) => {
                Err(Error::Receive { object: object.to_string(), errno: Errno::EINTR })
            }
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn request(operation: u8, object: &dyn std::fmt::Display) -> Request<'_> {
    Request { kind: netfilter::kind(subsystem::NF_TABLES, operation), flags: 0, object }
}

/// Writes which elements of a set of a table are meant.
fn write_keys<'e>(
    writer: &mut Writer,
    family: u8,
    [table, set]: [&str; 2],
    elements: impl Iterator<Item = impl Borrow<Element<'e>>>,
) {
    netfilter::header(writer, family, 0);
    writer.text(element_list::TABLE, table);
    writer.text(element_list::SET, set);
    writer.nest(element_list::ELEMENTS, |writer| {
        for element in elements {
            writer.nest(constants::expression::LIST_ITEM, |writer| {
                element.borrow().write_key(writer);
            });
        }
    });
}

/// Reads a rule, if it is of this table.
fn read_rule(message: &Message<'_>, table: &str) -> Result<Option<Rule>, Malformed> {
    let (mut own, mut read) = (false, Rule { chain: String::new(), handle: 0, fingerprint: None });
    for attribute in message.attributes(netfilter::HEADER_LEN)? {
        let attribute = attribute?;
        match attribute.kind {
            rule::TABLE => own = attribute.text() == table,
            rule::CHAIN => read.chain = attribute.text().into_owned(),
            rule::HANDLE => read.handle = attribute.u64_be()?,
            rule::USER_DATA => read.fingerprint = user_data::read_fingerprint(attribute.value),
            _ => {}
        }
    }
    Ok(own.then_some(read))
}

/// Hands each element in a message to `each`.
fn read_elements(
    message: &Message<'_>,
    each: &mut impl FnMut(&Element<'_>),
) -> Result<(), Malformed> {
    let attributes = message.attributes(netfilter::HEADER_LEN)?;
    let Some(list) = attributes.find(element_list::ELEMENTS)? else { return Ok(()) };
    for item in list.nested() {
        each(&Element::read(&item?)?);
    }
    Ok(())
}

/// Reads a message in every way of this module.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(message: &Message<'_>) {
    use std::hint::black_box;
    black_box(Table::read(message).is_ok());
    black_box(Chain::read(message).is_ok());
    black_box(Set::read(message).is_ok());
    black_box(Flowtable::read(message).is_ok());
    black_box(Step::read(message).is_ok());
    black_box(Notice::read(message).is_ok());
    black_box(foreign::read(message, "nat").is_ok());
    black_box(read_rule(message, "nat").is_ok());
    black_box(
        read_elements(message, &mut |element| drop(black_box(format!("{element:?}")))).is_ok(),
    );
    for place in [None, Some(0), Some(message.bytes.len() / 2), Some(message.bytes.len())] {
        black_box(describe::describe(message, place));
    }
}

/// Reads bytes as what is kept beside rules and elements.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_user_data(bytes: &[u8]) {
    std::hint::black_box(user_data::read_comment(bytes));
    std::hint::black_box(user_data::read_fingerprint(bytes));
}

#[cfg(test)]
mod tests;
