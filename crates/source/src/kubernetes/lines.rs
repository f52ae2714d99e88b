//! Lines out of a stream of chunks.

/// The longest event: far more than etcd can store in one object.
pub(super) const MAX_EVENT: usize = 64 * 1024 * 1024;

/// Collects chunks and gives out complete lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    /// Up to here the buffer was given out.
    taken: usize,
    /// Up to here there is no further line end.
    searched: usize,
}

/// A line is longer than any object can be.
#[derive(Debug)]
pub(super) struct TooLong;

impl Lines {
    /// Adds a chunk.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        if self.buffer.len() + chunk.len() > MAX_EVENT {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// Whether something follows the last complete line.
    pub(super) fn has_rest(&self) -> bool {
        self.buffer.get(self.taken..).is_some_and(|rest| !rest.trim_ascii().is_empty())
    }

    /// The next complete line that is not empty, without its end.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        loop {
            let rest = self.buffer.get(self.searched..)?;
            let Some(length) = memchr::memchr(b'\n', rest) else {
                self.searched = self.buffer.len();
                return None;
            };
            let (start, end) = (self.taken, self.searched + length);
            self.taken = end + 1;
            self.searched = end + 1;
            if !self.buffer[start..end].trim_ascii().is_empty() {
                return Some(&self.buffer[start..end]);
            }
        }
    }
}

#[cfg(test)]
mod tests;
