//! The events of a watch out of a stream of chunks: lines of JSON, or frames of protobuf.

use super::lines::{Lines, MAX_EVENT, TooLong};
use crate::decode::Format;

/// Bytes of the length before each frame.
const HEAD: usize = 4;

/// Collects chunks and gives out complete events.
#[derive(Debug)]
pub(super) enum Events {
    Json(Lines),
    Protobuf(Frames),
}

impl Events {
    /// Nothing was read yet.
    pub(super) fn new(format: Format) -> Self {
        match format {
            Format::Json => Self::Json(Lines::default()),
            Format::Protobuf => Self::Protobuf(Frames::default()),
        }
    }

    /// Adds a chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        match self {
            Self::Json(lines) => lines.push(chunk),
            Self::Protobuf(frames) => {
                frames.push(chunk);
                Ok(())
            }
        }
    }

    /// The next complete event.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        match self {
            Self::Json(lines) => Ok(lines.next()),
            Self::Protobuf(frames) => frames.next(),
        }
    }

    /// Whether something follows the last complete event.
    pub(super) fn has_rest(&self) -> bool {
        match self {
            Self::Json(lines) => lines.has_rest(),
            Self::Protobuf(frames) => frames.has_rest(),
        }
    }
}

/// Frames with their length before them, four bytes with the highest first.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Up to here the buffer was given out.
    taken: usize,
}

impl Frames {
    /// Adds a chunk. What waits is never more than a frame and a chunk, because a longer frame is refused by its head.
    fn push(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// The content of the next complete frame.
    fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let rest = self.buffer.get(self.taken..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MAX_EVENT {
            return Err(TooLong);
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.taken += HEAD + length;
        Ok(Some(frame))
    }

    fn has_rest(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

#[cfg(test)]
mod tests;
