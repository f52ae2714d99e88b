//! The wire format: tags, numbers and lengths.

use std::borrow::Cow;

use super::fault::Cause;
use crate::slim::Text;

/// Most groups inside each other; the Kubernetes API has none at all.
const MAX_GROUPS: usize = 64;
/// The largest number of a field.
const MAX_FIELD: u64 = (1 << 29) - 1;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A number or truth value.
    Varint(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// A number of 32 or 64 bits; no field that is read has one.
    Fixed,
    /// The old form of a message, which was skipped.
    Group,
}

/// Takes an encoded message apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a message.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field and its number; `None` at the end.
    ///
    /// # Errors
    /// The bytes are no message.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Cause> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = self.tag()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.delimited()?),
            other => self.rare(number, other)?,
        };
        Ok(Some((number, value)))
    }

    #[inline]
    fn tag(&mut self) -> Result<(u32, u8), Cause> {
        let tag = self.varint()?;
        let (number, wire_type) = (tag >> 3, (tag & 7) as u8);
        match u32::try_from(number) {
            Ok(small) if (1..=MAX_FIELD).contains(&number) => Ok((small, wire_type)),
            _ => Err(Cause::Number(number)),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Cause> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok((*byte).into())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Cause> {
        let mut number = 0;
        for (index, &byte) in self.rest.iter().enumerate() {
            if index == 9 && byte > 1 {
                return Err(Cause::Overlong);
            }
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(number);
            }
        }
        Err(Cause::Truncated)
    }

    #[inline]
    fn delimited(&mut self) -> Result<&'a [u8], Cause> {
        let length = self.varint()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Cause> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Cause::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The wire types that the Kubernetes API does not use.
    fn rare(&mut self, number: u32, wire_type: u8) -> Result<Value<'a>, Cause> {
        match wire_type {
            1 => self.take(8).map(|_| Value::Fixed),
            3 => self.skip_group(number).map(|()| Value::Group),
            4 => Err(Cause::Group),
            5 => self.take(4).map(|_| Value::Fixed),
            other => Err(Cause::WireType(other)),
        }
    }

    /// Skips to the end of a group and of all that are in it.
    fn skip_group(&mut self, number: u32) -> Result<(), Cause> {
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            let (number, wire_type) = self.tag()?;
            match wire_type {
                0 => drop(self.varint()?),
                1 => drop(self.take(8)?),
                2 => drop(self.delimited()?),
                3 if open.len() < MAX_GROUPS => open.push(number),
                4 if *innermost == number => drop(open.pop()),
                3 | 4 => return Err(Cause::Group),
                5 => drop(self.take(4)?),
                other => return Err(Cause::WireType(other)),
            }
        }
        Ok(())
    }
}

impl<'a> Value<'a> {
    /// The bytes of a string or message.
    pub(super) fn bytes(self) -> Result<&'a [u8], Cause> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(other.mismatch("an object")),
        }
    }

    /// A string, which borrows.
    pub(super) fn text(self) -> Result<Text<'a>, Cause> {
        match self {
            Self::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Cause::Utf8)?;
                Ok(Text(Cow::Borrowed(text)))
            }
            other => Err(other.mismatch("a string")),
        }
    }

    /// A whole number. A negative one has ten bytes, whatever its type.
    pub(super) fn number(self) -> Result<i64, Cause> {
        match self {
            Self::Varint(number) => Ok(number.cast_signed()),
            other => Err(other.mismatch("a whole number")),
        }
    }

    fn mismatch(self, expected: &'static str) -> Cause {
        let found = match self {
            Self::Varint(_) => "a varint",
            Self::Bytes(_) => "length-delimited bytes",
            Self::Fixed => "a number of fixed size",
            Self::Group => "a group",
        };
        Cause::Mismatch { found, expected }
    }
}
