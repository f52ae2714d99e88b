//! `profile.proto` of pprof, as much of it as profiles here need.
//!
//! Field numbers are those of <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A profile that is being put together.
#[derive(Debug)]
pub(super) struct Profile {
    strings: Table<String>,
    functions: Table<(u64, u64)>,
    locations: Table<(u64, u64)>,
    /// Sample types and samples, encoded.
    out: Vec<u8>,
}

/// One call on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// Numbers things in the order they come.
#[derive(Debug)]
struct Table<T>(BTreeMap<T, u64>);

impl<T: Ord> Table<T> {
    fn number(&mut self, thing: T, first: u64) -> u64 {
        let next = self.0.len() as u64 + first;
        *self.0.entry(thing).or_insert(next)
    }
}

impl Profile {
    /// What each sample measures: names and units.
    pub(super) fn new(types: &[(&str, &str)]) -> Self {
        let mut profile = Self {
            // The first string has to be empty.
            strings: Table(BTreeMap::from([(String::new(), 0)])),
            functions: Table(BTreeMap::new()),
            locations: Table(BTreeMap::new()),
            out: Vec::new(),
        };
        for value in types {
            let value = profile.value_type(value);
            bytes(&mut profile.out, 1, &value);
        }
        profile
    }

    fn string(&mut self, text: &str) -> u64 {
        self.strings.number(text.to_owned(), 0)
    }

    fn value_type(&mut self, (name, unit): &(&str, &str)) -> Vec<u8> {
        let mut out = Vec::new();
        let (name, unit) = (self.string(name), self.string(unit));
        number(&mut out, 1, name);
        number(&mut out, 2, unit);
        out
    }

    /// Adds a sample: the stack with the innermost call first, one value for each type, and labels.
    pub(super) fn sample(&mut self, stack: &[Call], values: &[u64], labels: &[(&str, &str)]) {
        let mut out = Vec::new();
        for call in stack {
            let (name, file) = (self.string(&call.function), self.string(&call.file));
            let function = self.functions.number((name, file), 1);
            let location = self.locations.number((function, call.line.into()), 1);
            number(&mut out, 1, location);
        }
        for value in values {
            number(&mut out, 2, *value);
        }
        for (key, value) in labels {
            let mut label = Vec::new();
            let (key, value) = (self.string(key), self.string(value));
            number(&mut label, 1, key);
            number(&mut label, 2, value);
            bytes(&mut out, 3, &label);
        }
        bytes(&mut self.out, 2, &out);
    }

    /// The message. `period` is the amount of the last type between two samples.
    pub(super) fn finish(
        mut self,
        period: Option<((&str, &str), u64)>,
        start: SystemTime,
        duration: Duration,
    ) -> Vec<u8> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let period = period.map(|(of, amount)| (self.value_type(&of), amount));
        let mut out = self.out;
        for ((function, line), id) in self.locations.0 {
            let (mut location, mut place) = (Vec::new(), Vec::new());
            number(&mut place, 1, function);
            number(&mut place, 2, line);
            number(&mut location, 1, id);
            bytes(&mut location, 4, &place);
            bytes(&mut out, 4, &location);
        }
        for ((name, file), id) in self.functions.0 {
            let mut function = Vec::new();
            number(&mut function, 1, id);
            number(&mut function, 2, name);
            number(&mut function, 3, name);
            number(&mut function, 4, file);
            bytes(&mut out, 5, &function);
        }
        let mut strings: Vec<_> = self.strings.0.into_iter().collect();
        strings.sort_by_key(|(_, number)| *number);
        for (text, _) in strings {
            bytes(&mut out, 6, text.as_bytes());
        }
        let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        number(&mut out, 9, nanoseconds(start));
        number(&mut out, 10, nanoseconds(duration));
        if let Some((of, amount)) = period {
            bytes(&mut out, 11, &of);
            number(&mut out, 12, amount);
        }
        out
    }
}

/// A field that is a number.
fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A field that is a string or a message.
fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
