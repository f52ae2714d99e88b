//! What is wrong with encoded bytes, and in which field.

use std::fmt;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    /// The bytes end inside a value, or a length points behind their end.
    #[error("cut off: a value is longer than what is left")]
    Truncated,
    /// More than ten bytes, or more than 64 bits.
    #[error("a number of more than 64 bits")]
    Overlong,
    /// The number of the field is 0 or too large.
    #[error("no field has the number {0}")]
    Number(u64),
    /// The wire type is not known, so there is no telling where the value ends.
    #[error("wire type {0} is not known")]
    WireType(u8),
    /// A group that does not end, or ends without a beginning, or is nested too deep.
    #[error("a group without its other end")]
    Group,
    /// The value is of another type than the field.
    #[error("invalid type: {found}, expected {expected}")]
    Mismatch {
        /// What is there.
        found: &'static str,
        /// What the field takes.
        expected: &'static str,
    },
    /// A string is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// The bytes do not begin like a Kubernetes object.
    #[error("the first four bytes are not those of a Kubernetes object")]
    Magic,
    /// The object is encoded in a way that is not known.
    #[error("the object is in an encoding that is not known")]
    Encoding,
}

/// A cause, and the field it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// From the inside out.
    path: Vec<Step>,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Field(&'static str),
    Item(&'static str, usize),
}

impl Cause {
    /// The cause in a field.
    pub(super) fn at(self, name: &'static str) -> Fault {
        Fault::from(self).inside(name)
    }
}

impl Fault {
    /// The same, seen from the message that has it in a field.
    pub(super) fn inside(mut self, name: &'static str) -> Self {
        self.path.push(Step::Field(name));
        self
    }

    /// The same, seen from the message that has it in an element of a list.
    pub(super) fn in_item(mut self, name: &'static str, index: usize) -> Self {
        self.path.push(Step::Item(name, index));
        self
    }

    /// What is wrong.
    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// The field, like `spec.ports[0].port`; empty if it is the message as a whole.
    pub(crate) fn path(&self) -> String {
        let steps = self.path.iter().rev().map(ToString::to_string);
        steps.collect::<Vec<_>>().join(".")
    }
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Self {
        Self { path: Vec::new(), cause }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => f.write_str(name),
            Self::Item(name, index) => write!(f, "{name}[{index}]"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        self.cause.fmt(f)
    }
}

impl std::error::Error for Fault {}
