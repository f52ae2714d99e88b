//! Changes to one table, carried out together or not at all.

use super::constants::{chain, element_list, expression, operation, rule, set, table};
use super::describe::describe;
use super::element::Element;
use super::expression::Expression;
use super::object::{Hook, SetSpec};
use super::user_data;
use crate::Family;
use crate::batch::Batch;
use crate::error::Target;
use crate::message::flags;
use crate::netfilter::{self, subsystem};
use crate::writer::{TooLong, Writer};

/// Elements go into one message until they take this many bytes. Their list is one attribute, of less than 64 KiB;
/// the longest element fits into the rest.
const ELEMENTS_PER_MESSAGE: usize = 60 << 10;

/// Changes to one table, in the order in which the kernel makes them.
#[derive(Debug)]
pub struct Transaction {
    pub(super) batch: Batch,
    family: Family,
    table: String,
    sets: u32,
    elements: usize,
}

impl Transaction {
    /// No changes yet to the table of this family and name.
    pub fn new(family: Family, table: &str) -> Self {
        let batch = Batch::new(subsystem::NF_TABLES);
        Self { batch, family, table: table.to_owned(), sets: 0, elements: 0 }
    }

    /// Forgets all changes and keeps the memory. With a generation, the kernel refuses if the ruleset is not of that generation
    /// ([`Error::is_stale`](crate::Error::is_stale)).
    pub fn clear(&mut self, generation: Option<u32>) {
        self.batch.clear(generation);
        self.sets = 0;
        self.elements = 0;
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// The number of elements added and deleted.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.batch.size()
    }

    /// The objects that it is about, one for each message.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.batch.messages().filter_map(|message| describe(&message, None).target)
    }

    /// Makes the table; nothing happens if it is there.
    pub fn add_table(&mut self, user_data: &[u8]) -> Result<(), TooLong> {
        self.new_table(0, user_data)
    }

    /// Makes a table that belongs to the socket which sends this: no other process can change it, and the kernel deletes it when the socket
    /// is closed, however its process ends. Kernels before 5.12 refuse.
    pub fn add_owned_table(&mut self, user_data: &[u8]) -> Result<(), TooLong> {
        self.new_table(table::FLAG_OWNER, user_data)
    }

    fn new_table(&mut self, flags: u32, user_data: &[u8]) -> Result<(), TooLong> {
        self.add(operation::NEW_TABLE, flags::CREATE, |writer, name| {
            writer.text(table::NAME, name);
            writer.u32_be(table::FLAGS, flags);
            writer.bytes(table::USER_DATA, user_data);
        })
    }

    /// Deletes the table with all that is in it.
    pub fn delete_table(&mut self) -> Result<(), TooLong> {
        self.add(operation::DELETE_TABLE, 0, |writer, name| writer.text(table::NAME, name))
    }

    /// Makes a chain; nothing happens if it is there. An empty comment is none.
    pub fn add_chain(
        &mut self,
        name: &str,
        hook: Option<Hook>,
        comment: &str,
    ) -> Result<(), TooLong> {
        self.add(operation::NEW_CHAIN, flags::CREATE, |writer, table| {
            writer.text(chain::TABLE, table);
            writer.text(chain::NAME, name);
            if let Some(hook) = hook {
                hook.write(writer);
            }
            if !comment.is_empty() {
                writer.bytes(chain::USER_DATA, &user_data::comment(comment));
            }
        })
    }

    /// Deletes a chain that nothing refers to.
    pub fn delete_chain(&mut self, name: &str) -> Result<(), TooLong> {
        self.add(operation::DELETE_CHAIN, 0, |writer, table| {
            writer.text(chain::TABLE, table);
            writer.text(chain::NAME, name);
        })
    }

    /// Deletes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) -> Result<(), TooLong> {
        self.add(operation::DELETE_RULE, 0, |writer, table| {
            writer.text(rule::TABLE, table);
            writer.text(rule::CHAIN, name);
        })
    }

    /// Puts a rule at the end of a chain.
    pub fn add_rule(
        &mut self,
        chain: &str,
        expressions: &[Expression],
        user_data: &[u8],
    ) -> Result<(), TooLong> {
        self.add(operation::NEW_RULE, flags::CREATE | flags::APPEND, |writer, table| {
            writer.text(rule::TABLE, table);
            writer.text(rule::CHAIN, chain);
            writer.nest(rule::EXPRESSIONS, |writer| {
                for item in expressions {
                    writer.nest(expression::LIST_ITEM, |writer| item.write(writer));
                }
            });
            if !user_data.is_empty() {
                writer.bytes(rule::USER_DATA, user_data);
            }
        })
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, spec: &SetSpec<'_>) -> Result<(), TooLong> {
        self.sets += 1;
        let id = self.sets;
        self.add(operation::NEW_SET, flags::CREATE, |writer, table| {
            writer.text(set::TABLE, table);
            writer.text(set::NAME, spec.name);
            spec.write(writer, id);
        })
    }

    /// Deletes a set that no rule refers to.
    pub fn delete_set(&mut self, name: &str) -> Result<(), TooLong> {
        self.add(operation::DELETE_SET, 0, |writer, table| {
            writer.text(set::TABLE, table);
            writer.text(set::NAME, name);
        })
    }

    /// Deletes all elements of a set, whatever they are.
    pub fn flush_set(&mut self, name: &str) -> Result<(), TooLong> {
        self.add(operation::DELETE_ELEMENT, 0, |writer, table| {
            writer.text(element_list::TABLE, table);
            writer.text(element_list::SET, name);
        })
    }

    /// Adds elements, which must not be there, in as many messages as it takes.
    /// `describe` turns each item into an element and hands that on.
    pub fn add_elements<T>(
        &mut self,
        set: &str,
        items: impl IntoIterator<Item = T>,
        describe: impl Fn(&T, &mut dyn FnMut(&Element<'_>)),
    ) -> Result<(), TooLong> {
        let flags = flags::CREATE | flags::EXCLUSIVE;
        self.write_elements(operation::NEW_ELEMENT, flags, set, items, |writer, item| {
            describe(item, &mut |element| element.write(writer));
        })
    }

    /// Deletes elements, which must be there, in as many messages as it takes. Only their keys count.
    pub fn delete_elements<T>(
        &mut self,
        set: &str,
        items: impl IntoIterator<Item = T>,
        describe: impl Fn(&T, &mut dyn FnMut(&Element<'_>)),
    ) -> Result<(), TooLong> {
        self.write_elements(operation::DELETE_ELEMENT, 0, set, items, |writer, item| {
            describe(item, &mut |element| element.write_key(writer));
        })
    }

    fn write_elements<T>(
        &mut self,
        operation: u8,
        flags: u16,
        set: &str,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Writer, &T),
    ) -> Result<(), TooLong> {
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let mut count = 0;
            self.add(operation, flags, |writer, table| {
                writer.text(element_list::TABLE, table);
                writer.text(element_list::SET, set);
                let list = writer.open(element_list::ELEMENTS);
                while writer.nested_len(&list) < ELEMENTS_PER_MESSAGE {
                    let Some(item) = items.next() else { break };
                    writer.nest(expression::LIST_ITEM, |writer| write(writer, &item));
                    count += 1;
                }
                writer.close(list);
            })?;
            self.elements += count;
        }
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        operation: u8,
        flags: u16,
        body: impl FnOnce(&mut Writer, &str),
    ) -> Result<(), TooLong> {
        let (family, table) = (self.family.number(), self.table.as_str());
        self.batch.add(operation, flags, |writer| {
            netfilter::header(writer, family, 0);
            body(writer, table);
        })
    }
}
