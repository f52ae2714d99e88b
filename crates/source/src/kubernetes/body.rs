//! Whole bodies, compressed or not, up to a limit.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;

/// Collects a body.
pub(super) enum Collector {
    Plain(Bounded),
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// Bytes, whose number is limited.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Collector {
    /// Takes up to `limit` bytes, counted after they are decompressed, so that little input cannot become much memory.
    pub(super) fn new(gzip: bool, limit: usize) -> Self {
        let bounded = Bounded { bytes: Vec::new(), limit };
        if gzip { Self::Gzip(Box::new(MultiGzDecoder::new(bounded))) } else { Self::Plain(bounded) }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// The body is too long, or is not what gzip writes.
    pub(super) fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(chunk),
            Self::Gzip(decoder) => decoder.write_all(chunk),
        }
    }

    /// The body.
    ///
    /// # Errors
    /// The compressed body is cut off or its checksum is wrong.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(bounded) => Ok(bounded.bytes),
            Self::Gzip(decoder) => decoder.finish().map(|bounded| bounded.bytes),
        }
    }

    /// What was collected so far, in whatever state.
    pub(super) fn so_far(&self) -> &[u8] {
        match self {
            Self::Plain(bounded) => &bounded.bytes,
            Self::Gzip(decoder) => &decoder.get_ref().bytes,
        }
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(io::Error::other(format!("more than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
