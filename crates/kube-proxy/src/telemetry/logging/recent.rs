//! The last lines of the log, in memory: for those who ask why something happened a moment ago.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// How many bytes of lines are kept.
const MOST: usize = 256 << 10;

static RECENT: Mutex<Lines> = Mutex::new(Lines { lines: VecDeque::new(), bytes: 0 });

struct Lines {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, line: &str) {
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.bytes > MOST {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }
}

/// Takes each line of the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent;

impl Write for Recent {
    /// The log writes each event at once.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = without_colours(&String::from_utf8_lossy(bytes));
        RECENT.lock().unwrap_or_else(PoisonError::into_inner).push(&line);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are kept, oldest first.
pub fn recent() -> String {
    let recent = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    recent.lines.iter().map(|line| &**line).collect()
}

/// The text as it would be without a terminal.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split("\x1b[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_make_room() {
        let mut lines = Lines { lines: VecDeque::new(), bytes: 0 };
        let line = "x".repeat(1000);
        for _ in 0..1000 {
            lines.push(&line);
        }
        lines.push("last\n");
        assert!(lines.bytes <= MOST && lines.lines.len() > 200, "{}", lines.bytes);
        assert_eq!(lines.lines.back().map(|line| &**line), Some("last\n"));
        // One that is too long alone is not kept, and does not break the rest.
        lines.push(&"y".repeat(MOST + 1));
        assert_eq!((lines.bytes, lines.lines.len()), (0, 0));
    }

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(
            without_colours("\x1b[2m2026\x1b[0m \x1b[32m INFO\x1b[0m x\n"),
            "2026  INFO x\n"
        );
        assert_eq!(without_colours("plain\x1b[broken"), "plainbroken");
    }
}
