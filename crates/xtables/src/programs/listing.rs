//! Whether what `iptables-save` printed is a table, the whole of it, and nothing else.

/// Follows the lines of one table.
#[derive(Debug, Default)]
pub(super) struct Listing {
    start: String,
    place: Place,
    /// A rule whose quotes were not closed at the end of the line: comments may hold line breaks.
    open: String,
    /// What stands in place of a table.
    remark: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Within,
    After,
}

/// What the lines were.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The table from its name to `COMMIT`.
    Whole,
    /// No line of the table, with what was said instead.
    Nothing(String),
    /// A part of it.
    Part,
}

impl Listing {
    pub(super) fn of(table: &str) -> Self {
        Self { start: format!("*{table}"), ..Self::default() }
    }

    /// Takes the next line, and hands over what became whole with it: a chain, or a rule.
    pub(super) fn take(&mut self, line: &str, each: &mut dyn FnMut(&str)) {
        if !self.open.is_empty() {
            self.open.push('\n');
            self.open.push_str(line);
            if !has_open_quote(&self.open) {
                each(&std::mem::take(&mut self.open));
            }
            return;
        }
        match self.place {
            // Some versions list the table without the chains that they do not understand, and say so before.
            Place::Before if line == self.start && self.remark.is_none() => {
                self.place = Place::Within;
            }
            Place::Before if line.starts_with('#') && line.contains("incompatible") => {
                self.remark = Some(line.trim_start_matches('#').trim().to_owned());
            }
            Place::Within if line == "COMMIT" => self.place = Place::After,
            Place::Within if line.starts_with('-') && has_open_quote(line) => {
                line.clone_into(&mut self.open);
            }
            Place::Within if line.starts_with([':', '-', '[']) => each(line),
            _ => {}
        }
    }

    pub(super) fn end(self) -> End {
        match self.place {
            Place::After => End::Whole,
            Place::Within => End::Part,
            Place::Before => {
                End::Nothing(self.remark.unwrap_or_else(|| "no such table".to_owned()))
            }
        }
    }
}

/// Whether a quote is open at the end, as [`super::split_words`] sees it.
fn has_open_quote(text: &str) -> bool {
    let mut open = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => open = !open,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
    open
}

#[cfg(test)]
mod tests;
