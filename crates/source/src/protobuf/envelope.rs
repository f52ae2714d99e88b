//! What stands around objects: the envelope, lists, watch events, errors.

use super::fault::{Cause, Fault};
use super::wire::{Fields, Value};
use super::{Message, message, number, text};
use crate::slim::{Int, Text};

/// What every object and list begins with.
pub(crate) const MAGIC: &[u8; 4] = b"k8s\0";

/// An object or list, and the kind that it says it is (`runtime.Unknown`).
#[derive(Debug, Default)]
pub(crate) struct Envelope<'a> {
    type_meta: Option<TypeMeta<'a>>,
    raw: &'a [u8],
    encoding: Option<Text<'a>>,
    content_type: Option<Text<'a>>,
}

#[derive(Debug, Default)]
struct TypeMeta<'a> {
    kind: Option<Text<'a>>,
}

impl<'a> Envelope<'a> {
    /// Opens the envelope.
    ///
    /// # Errors
    /// It is none, or something else than protobuf is in it.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Fault> {
        let inner = bytes.strip_prefix(MAGIC).ok_or(Cause::Magic)?;
        let mut envelope = Self::default();
        envelope.merge(inner)?;
        let plain = |said: &Option<Text<'_>>| said.as_deref().is_none_or(str::is_empty);
        if !plain(&envelope.encoding) || !plain(&envelope.content_type) {
            return Err(Cause::Encoding.into());
        }
        Ok(envelope)
    }

    /// The kind; empty if it does not say.
    pub(crate) fn kind(&self) -> &str {
        let kind = self.type_meta.as_ref().and_then(|meta| meta.kind.as_deref());
        kind.unwrap_or_default()
    }

    /// The encoded object.
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

impl<'a> Message<'a> for Envelope<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => message(&mut self.type_meta, "typeMeta", value),
            2 => {
                self.raw = value.bytes().map_err(|cause| cause.at("raw"))?;
                Ok(())
            }
            3 => text(&mut self.encoding, "contentEncoding", value),
            4 => text(&mut self.content_type, "contentType", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for TypeMeta<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            2 => text(&mut self.kind, "kind", value),
            _ => Ok(()),
        }
    }
}

/// The metadata of a list.
#[derive(Debug, Default)]
pub(crate) struct ListParts<'a> {
    /// Where a watch may begin.
    pub(crate) resource_version: Option<Text<'a>>,
    /// The token for the next page.
    pub(crate) continue_token: Option<Text<'a>>,
}

impl<'a> ListParts<'a> {
    /// Reads a list, and passes over its items.
    ///
    /// # Errors
    /// The bytes are no list.
    pub(crate) fn read(list: &'a [u8]) -> Result<Self, Fault> {
        let mut metadata = None;
        let mut fields = Fields::new(list);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => message(&mut metadata, "metadata", value)?,
                2 => drop(value.bytes().map_err(|cause| cause.at("items"))?),
                _ => {}
            }
        }
        Ok(metadata.unwrap_or_default())
    }

    /// The encoded items of a list that was read before.
    pub(crate) fn items(list: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut fields = Fields::new(list);
        let next = move || fields.next().ok().flatten();
        std::iter::from_fn(next).filter_map(|field| match field {
            (2, Value::Bytes(item)) => Some(item),
            _ => None,
        })
    }
}

impl<'a> Message<'a> for ListParts<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            2 => text(&mut self.resource_version, "resourceVersion", value),
            3 => text(&mut self.continue_token, "continue", value),
            _ => Ok(()),
        }
    }
}

/// An event of a watch; it has no envelope, but its object has.
#[derive(Debug, Default)]
pub(crate) struct WatchParts<'a> {
    /// `ADDED` and so on.
    pub(crate) type_: Option<Text<'a>>,
    object: Option<RawExtension<'a>>,
}

#[derive(Debug, Default)]
struct RawExtension<'a> {
    raw: &'a [u8],
}

impl<'a> WatchParts<'a> {
    /// The object in its envelope.
    pub(crate) fn object(&self) -> &'a [u8] {
        self.object.as_ref().map_or(&[], |object| object.raw)
    }
}

impl<'a> Message<'a> for WatchParts<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            1 => text(&mut self.type_, "type", value),
            2 => message(&mut self.object, "object", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for RawExtension<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        if field == 1 {
            self.raw = value.bytes().map_err(|cause| cause.at("raw"))?;
        }
        Ok(())
    }
}

/// A `Status`.
#[derive(Debug, Default)]
pub(crate) struct StatusParts<'a> {
    pub(crate) message: Option<Text<'a>>,
    pub(crate) reason: Option<Text<'a>>,
    pub(crate) code: Option<Int>,
    details: Option<StatusDetails>,
}

#[derive(Debug, Default)]
struct StatusDetails {
    retry_after_seconds: Option<Int>,
}

impl StatusParts<'_> {
    /// After how many seconds to try again.
    pub(crate) fn retry_after_seconds(&self) -> Option<Int> {
        self.details.as_ref()?.retry_after_seconds
    }
}

impl<'a> Message<'a> for StatusParts<'a> {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            3 => text(&mut self.message, "message", value),
            4 => text(&mut self.reason, "reason", value),
            5 => message(&mut self.details, "details", value),
            6 => number(&mut self.code, "code", value),
            _ => Ok(()),
        }
    }
}

impl<'a> Message<'a> for StatusDetails {
    fn field(&mut self, field: u32, value: Value<'a>) -> Result<(), Fault> {
        match field {
            5 => number(&mut self.retry_after_seconds, "retryAfterSeconds", value),
            _ => Ok(()),
        }
    }
}
