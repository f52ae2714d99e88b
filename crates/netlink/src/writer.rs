//! Writing messages into one buffer that is used again and again.
//!
//! An attribute's length is a `u16`. A value that does not fit is not written, and the message it was meant for is taken
//! back whole when it ends, with an error: the buffer never holds a message that the kernel would misread.

use std::net::IpAddr;

use crate::attr::{HEADER_LEN as ATTRIBUTE_HEADER_LEN, NESTED, align};
use crate::message::HEADER_LEN;

/// Longest value of an attribute in bytes: its length field counts its header too.
pub const MAX_VALUE: usize = u16::MAX as usize - ATTRIBUTE_HEADER_LEN;

/// A message that cannot be written: an attribute's value is longer than [`MAX_VALUE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("netlink attribute {kind} would have {length} bytes, more than {MAX_VALUE}")]
pub struct TooLong {
    /// The attribute's type.
    pub kind: u16,
    /// The length of its value in bytes.
    pub length: usize,
}

/// An attribute whose value is being written; give it back to [`Writer::close`].
#[derive(Debug)]
#[must_use = "an attribute that is not closed has no length"]
pub struct Nest {
    start: usize,
    kind: u16,
}

/// A buffer of complete messages.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: Option<TooLong>,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.too_long = None;
    }

    /// Writes one message; `body` writes what follows the header.
    ///
    /// On an error the message is taken back and the buffer is as before.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        sequence: u32,
        body: impl FnOnce(&mut Self),
    ) -> Result<(), TooLong> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        debug_assert_eq!(self.bytes.len(), start + HEADER_LEN, "a header has a fixed length");
        body(self);
        let length = self.bytes.len() - start;
        let result = match (self.too_long.take(), u32::try_from(length)) {
            (None, Ok(length)) => {
                self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
                return Ok(());
            }
            (Some(too_long), _) => too_long,
            (None, Err(_)) => TooLong { kind: 0, length },
        };
        self.bytes.truncate(start);
        Err(result)
    }

    /// The fixed part after a header, padded.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// An attribute with these bytes as value.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let attribute = self.open_as(kind);
        self.bytes.extend_from_slice(value);
        self.close(attribute);
    }

    /// An attribute without a value: its presence says it.
    pub fn flag(&mut self, kind: u16) {
        self.bytes(kind, &[]);
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// Two bytes in network order.
    pub fn u16_be(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Four bytes in network order.
    pub fn u32_be(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Four bytes in host order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Eight bytes in network order.
    pub fn u64_be(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// The 4 or 16 bytes of an address.
    pub fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Text with the NUL that the kernel wants at its end.
    pub fn text(&mut self, kind: u16, value: &str) {
        let attribute = self.open_as(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(attribute);
    }

    /// An attribute whose value is the attributes that `inside` writes.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let attribute = self.open(kind);
        inside(self);
        self.close(attribute);
    }

    /// Starts an attribute whose value is attributes: for lists that grow until [`Writer::nested_len`] says enough.
    pub fn open(&mut self, kind: u16) -> Nest {
        self.open_as(kind | NESTED)
    }

    /// Bytes in an open attribute so far; must stay within [`MAX_VALUE`].
    pub fn nested_len(&self, attribute: &Nest) -> usize {
        self.bytes.len().saturating_sub(attribute.start + ATTRIBUTE_HEADER_LEN)
    }

    /// Ends an attribute: sets its length and pads.
    #[expect(clippy::needless_pass_by_value, reason = "an attribute is closed only once")]
    pub fn close(&mut self, attribute: Nest) {
        let Nest { start, kind } = attribute;
        let length = self.bytes.len() - start;
        if let Ok(field) = u16::try_from(length) {
            self.bytes[start..start + 2].copy_from_slice(&field.to_ne_bytes());
            self.pad();
        } else {
            let length = length - ATTRIBUTE_HEADER_LEN;
            self.too_long.get_or_insert(TooLong { kind: kind & !NESTED, length });
            self.bytes.truncate(start);
        }
    }

    /// Sets the sequence number of a message that is already there and adds flags; `start` is where its header begins.
    pub(crate) fn restamp(&mut self, start: usize, sequence: u32, more_flags: u16) {
        if let Some(header) = self.bytes.get_mut(start..start + HEADER_LEN) {
            let flags = u16::from_ne_bytes([header[6], header[7]]) | more_flags;
            header[6..8].copy_from_slice(&flags.to_ne_bytes());
            header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }

    /// Forgets what was written after the first `len` bytes, which must end a message.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    fn open_as(&mut self, kind: u16) -> Nest {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        Nest { start, kind }
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

#[cfg(test)]
mod tests;
