//! `metadata`.

use std::borrow::Cow;

use jiff::Timestamp;

use super::fault::{Cause, Fault};
use super::wire::{Fields, Value};
use super::{Message, message, text};
use crate::slim::{Annotations, Int, Labels, Meta, Text};

impl<'a> Message<'a> for Meta<'a> {
    fn field(&mut self, number: u32, value: Value<'a>) -> Result<(), Fault> {
        match number {
            1 => text(&mut self.name, "name", value),
            3 => text(&mut self.namespace, "namespace", value),
            6 => text(&mut self.resource_version, "resourceVersion", value),
            9 => {
                let mut time = None;
                message(&mut time, "deletionTimestamp", value)?;
                self.deletion_timestamp = time.map(|time: Time| time.written());
                Ok(())
            }
            11 => message(&mut self.labels, "labels", value),
            12 => message(&mut self.annotations, "annotations", value),
            _ => Ok(()),
        }
    }
}

/// A point in time.
#[derive(Default)]
struct Time {
    seconds: Option<Int>,
}

impl Time {
    /// As JSON would have it.
    fn written<'a>(self) -> Text<'a> {
        let seconds = self.seconds.unwrap_or_default().0;
        let time = Timestamp::from_second(seconds);
        Text(Cow::Owned(time.map_or_else(|_| seconds.to_string(), |time| time.to_string())))
    }
}

impl<'a> Message<'a> for Time {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => super::number(&mut self.seconds, "seconds", value),
            _ => Ok(()),
        }
    }
}

/// An entry of a map arrives as a message of its own; merging it is taking over the entry.
impl<'a> Message<'a> for Labels<'a> {
    fn field(&mut self, _: u32, _: Value<'a>) -> Result<(), Fault> {
        Ok(())
    }

    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let Entry { key, value } = Entry::read(bytes)?;
        if let Some(field) = self.by_name(key) {
            *field = Some(value.text()?);
        }
        Ok(())
    }
}

/// As with labels.
impl<'a> Message<'a> for Annotations<'a> {
    fn field(&mut self, _: u32, _: Value<'a>) -> Result<(), Fault> {
        Ok(())
    }

    fn merge(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let Entry { key, value } = Entry::read(bytes)?;
        if let Some(field) = self.by_name(key) {
            *field = Some(value.text()?);
        }
        Ok(())
    }
}

/// An entry of a map; absent parts are empty.
struct Entry<'a> {
    key: &'a [u8],
    value: Value<'a>,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Cause> {
        let mut entry = Self { key: &[], value: Value::Bytes(&[]) };
        let mut fields = Fields::new(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => entry.key = value.bytes()?,
                2 => entry.value = value,
                _ => {}
            }
        }
        Ok(entry)
    }
}

/// As much of the metadata of an object as can be read, to name one that cannot be decoded.
pub(crate) fn nameplate(object: &[u8]) -> Meta<'_> {
    let mut meta = Meta::default();
    let mut fields = Fields::new(object);
    while let Ok(Some((number, value))) = fields.next() {
        let (1, Value::Bytes(bytes)) = (number, value) else { continue };
        let mut parts = Fields::new(bytes);
        while let Ok(Some((number, value))) = parts.next() {
            // What is wrong with it was found before.
            let _ = meta.field(number, value);
        }
    }
    Meta {
        name: meta.name,
        namespace: meta.namespace,
        resource_version: meta.resource_version,
        ..Meta::default()
    }
}
