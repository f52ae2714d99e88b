//! Elements of sets and maps.

use super::constants::{counter, data, element, expression};
use super::expression::write_value;
use super::user_data;
use super::verdict::{Verdict, read_verdict, write_verdict};
use crate::attr::{Attribute, Malformed};
use crate::writer::Writer;

/// An element; reading one copies nothing.
///
/// The fields of a concatenated key each begin at a multiple of four bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element<'a> {
    /// The key; in an interval set the lowest that matches.
    pub key: &'a [u8],
    /// The highest key that matches, in sets of concatenated intervals.
    pub key_end: Option<&'a [u8]>,
    /// It is no element but the first key after one, in sets of plain intervals.
    pub interval_end: bool,
    /// What a map maps the key to.
    pub data: Option<Data<'a>>,
    /// How long it lives if not refreshed, in milliseconds.
    pub timeout: Option<u64>,
    /// In how many milliseconds it ends; when it is made, `None` is after the whole timeout.
    pub expiration: Option<u64>,
    /// A comment.
    pub comment: Option<&'a str>,
    /// What its counter shows; when the element is made, what it starts from: `None` is what the set says, from zero on.
    pub counter: Option<Count>,
}

/// What a map maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// Bytes.
    Value(&'a [u8]),
    /// A verdict.
    Verdict(Verdict<'a>),
}

/// What a counter shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Element<'_> {
    /// Writes what identifies the element: enough to delete it.
    pub(super) fn write_key(&self, writer: &mut Writer) {
        write_value(writer, element::KEY, self.key);
        if let Some(end) = self.key_end {
            write_value(writer, element::KEY_END, end);
        }
        if self.interval_end {
            writer.u32_be(element::FLAGS, element::FLAG_INTERVAL_END);
        }
    }

    /// Writes all of the element.
    pub(super) fn write(&self, writer: &mut Writer) {
        self.write_key(writer);
        match &self.data {
            None => {}
            Some(Data::Value(value)) => write_value(writer, element::DATA, value),
            Some(Data::Verdict(verdict)) => {
                writer.nest(element::DATA, |writer| write_verdict(writer, verdict));
            }
        }
        if let Some(timeout) = self.timeout {
            writer.u64_be(element::TIMEOUT, timeout);
        }
        if let Some(expiration) = self.expiration {
            writer.u64_be(element::EXPIRATION, expiration);
        }
        if let Some(comment) = self.comment {
            writer.bytes(element::USER_DATA, &user_data::comment(comment));
        }
        if let Some(count) = self.counter {
            writer.nest(element::EXPRESSION, |writer| {
                writer.text(expression::NAME, "counter");
                writer.nest(expression::DATA, |writer| {
                    writer.u64_be(counter::BYTES, count.bytes);
                    writer.u64_be(counter::PACKETS, count.packets);
                });
            });
        }
    }
}

impl<'a> Element<'a> {
    /// Reads the inside of a list item.
    pub(super) fn read(item: &Attribute<'a>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        let mut key = None;
        for attribute in item.nested() {
            let attribute = attribute?;
            match attribute.kind {
                element::KEY => key = read_value(&attribute)?,
                element::KEY_END => read.key_end = read_value(&attribute)?,
                element::FLAGS => {
                    read.interval_end = attribute.u32_be()? & element::FLAG_INTERVAL_END != 0;
                }
                element::DATA => read.data = read_data(&attribute)?,
                element::TIMEOUT => read.timeout = Some(attribute.u64_be()?),
                element::EXPIRATION => read.expiration = Some(attribute.u64_be()?),
                element::USER_DATA => read.comment = user_data::read_comment(attribute.value),
                element::EXPRESSION => read.counter = read_counter(&attribute)?,
                _ => {}
            }
        }
        read.key = key.ok_or(Malformed::Missing { what: "a set element's key" })?;
        Ok(read)
    }
}

fn read_value<'a>(attribute: &Attribute<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    Ok(attribute.nested().find(data::VALUE)?.map(|value| value.value))
}

fn read_data<'a>(attribute: &Attribute<'a>) -> Result<Option<Data<'a>>, Malformed> {
    for inside in attribute.nested() {
        let inside = inside?;
        match inside.kind {
            data::VALUE => return Ok(Some(Data::Value(inside.value))),
            data::VERDICT => return Ok(Some(Data::Verdict(read_verdict(&inside)?))),
            _ => {}
        }
    }
    Ok(None)
}

fn read_counter(attribute: &Attribute<'_>) -> Result<Option<Count>, Malformed> {
    let name = attribute.nested().find(expression::NAME)?;
    let inside = attribute.nested().find(expression::DATA)?;
    let (Some(name), Some(inside)) = (name, inside) else { return Ok(None) };
    if name.text() != "counter" {
        return Ok(None);
    }
    let mut count = Count::default();
    for attribute in inside.nested() {
        let attribute = attribute?;
        match attribute.kind {
            counter::PACKETS => count.packets = attribute.u64_be()?,
            counter::BYTES => count.bytes = attribute.u64_be()?,
            _ => {}
        }
    }
    Ok(Some(count))
}
