//! Kubernetes objects in Protocol Buffers, read straight into the [`slim`](crate::slim) types.
//!
//! Nothing is built in between: a field that a proxy does not use is skipped by its length, and strings borrow from the input.
//! The numbers of the fields are those of `generated.proto` in the Kubernetes API; by its rules they never change.
//!
//! As the format asks, unknown fields are skipped, the last of several values of a single field counts, several occurrences of a message
//! are merged, and elements of a list are appended. No field that is read is a list of numbers, so none can be packed.
//! A known field of another wire type makes the object undecodable, like a wrongly typed field in JSON.

mod endpoint_slice;
mod envelope;
mod fault;
mod meta;
mod node;
mod service;
mod wire;

pub(crate) use envelope::{Envelope, ListParts, MAGIC, StatusParts, WatchParts};
pub(crate) use fault::Fault;
pub(crate) use meta::nameplate;
pub(crate) use wire::{Fields, Value};

use crate::slim::{Int, List, Text};

/// A message that is read field by field.
pub(crate) trait Message<'a>: Default {
    /// Takes one field; those that are not known are left alone.
    ///
    /// # Errors
    /// The value does not fit the field.
    fn field(&mut self, number: u32, value: Value<'a>) -> Result<(), Fault>;

    /// Takes all fields of an encoded message, on top of what is there.
    ///
    /// # Errors
    /// The bytes are no message, or a value does not fit its field; the fields before it were taken.
    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.next()? {
            self.field(number, value)?;
        }
        Ok(())
    }
}

/// Sets a string.
fn text<'a>(to: &mut Option<Text<'a>>, name: &'static str, value: Value<'a>) -> Result<(), Fault> {
    *to = Some(value.text().map_err(|cause| cause.at(name))?);
    Ok(())
}

/// Appends a string to a list.
fn push_text<'a>(
    to: &mut List<Text<'a>>,
    name: &'static str,
    value: Value<'a>,
) -> Result<(), Fault> {
    let text = value.text().map_err(|cause| Fault::from(cause).in_item(name, to.len()))?;
    to.0.push(text);
    Ok(())
}

/// Sets a whole number.
fn number(to: &mut Option<Int>, name: &'static str, value: Value<'_>) -> Result<(), Fault> {
    *to = Some(Int(value.number().map_err(|cause| cause.at(name))?));
    Ok(())
}

/// Sets a truth value.
fn flag(to: &mut Option<bool>, name: &'static str, value: Value<'_>) -> Result<(), Fault> {
    *to = Some(value.number().map_err(|cause| cause.at(name))? != 0);
    Ok(())
}

/// Merges a message into the one that may be there.
fn message<'a, T: Message<'a>>(
    to: &mut Option<T>,
    name: &'static str,
    value: Value<'a>,
) -> Result<(), Fault> {
    let bytes = value.bytes().map_err(|cause| cause.at(name))?;
    to.get_or_insert_default().merge(bytes).map_err(|fault| fault.inside(name))
}

/// Appends a message to a list.
fn push_message<'a, T: Message<'a>>(
    to: &mut List<T>,
    name: &'static str,
    value: Value<'a>,
) -> Result<(), Fault> {
    let mut element = T::default();
    let merged = value.bytes().map_err(Fault::from).and_then(|bytes| element.merge(bytes));
    merged.map_err(|fault| fault.in_item(name, to.len()))?;
    to.0.push(element);
    Ok(())
}

#[cfg(test)]
mod tests;
