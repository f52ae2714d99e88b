//! How a flag is declared, and what is known of it besides what clap knows.

use std::collections::BTreeMap;

use figment::value::Value;
use serde::Serialize;

use crate::types::VModule;

/// Where the value of a flag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this field of the configuration, unless a file is given.
    Field(&'static str),
    /// To this field, also when a file is given.
    FieldBesideFile(&'static str),
    /// To the second field in nftables mode and to the first in every other, unless a file is given.
    FieldOfMode(&'static str, &'static str),
    /// To what reads it: the configuration has no field for it.
    FlagOnly,
    /// To nothing: it prints something and exits, and no variable stands for it.
    Prints,
}

impl Target {
    /// The field of the configuration, in this mode.
    pub fn field(self, mode: &str) -> Option<&'static str> {
        match self {
            Self::FieldOfMode(_, field) if mode == "nftables" => Some(field),
            Self::Field(field) | Self::FieldBesideFile(field) | Self::FieldOfMode(field, _) => {
                Some(field)
            }
            Self::FlagOnly | Self::Prints => None,
        }
    }
}

/// A flag as it is declared. Value name, help and parser are with clap, under the same name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Its field in the group.
    pub(super) id: &'static str,
    /// What `--help` says of its default.
    pub(super) default: Option<&'static str>,
    /// Where its value goes.
    pub(crate) target: Target,
    /// The Go kube-proxy does not have it.
    pub(super) added: bool,
}

impl Entry {
    /// Its name, without dashes.
    pub(crate) fn name(&self) -> String {
        self.id.replace('_', "-")
    }
}

/// A flag that was given, with its value as the configuration has it.
pub(crate) struct Given {
    pub(crate) entry: &'static Entry,
    pub(crate) field_value: Value,
}

/// The flags of one section of `--help`.
pub(super) trait Group {
    /// All of them.
    const ENTRIES: &'static [Entry];

    /// These flags, and where one is not given, that of `below`.
    #[must_use]
    fn over(&self, below: &Self) -> Self;

    /// Those given that set a field.
    fn given(&self) -> Vec<Given>;
}

/// Declares the flags of a section: for each its help text, what clap needs, its name and type, its default as `--help` shows it,
/// where its value goes (a [`Target`]), and `added` if the Go kube-proxy does not have it.
macro_rules! flags {
    (
        $(#[$doc:meta])*
        pub struct $group:ident in $section:literal {
            $(
                $(#[$meta:meta])*
                $flag:ident: $type:ty $(= $default:literal)? =>
                    $target:ident $(($($field:literal),+))? $($added:ident)?,
            )+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, clap::Args)]
        #[command(next_help_heading = $section)]
        #[allow(clippy::doc_markdown, reason = "the comments are the text of --help")]
        pub struct $group {
            $($(#[$meta])* pub $flag: $type,)+
        }

        impl super::table::Group for $group {
            const ENTRIES: &'static [super::table::Entry] = &[$(
                super::table::Entry {
                    id: stringify!($flag),
                    default: super::table::flags!(@default $($default)?),
                    target: super::table::Target::$target $(($($field),+))?,
                    added: super::table::flags!(@added $($added)?),
                },
            )+];

            fn over(&self, below: &Self) -> Self {
                Self { $($flag: super::table::Layered::over(&self.$flag, &below.$flag),)+ }
            }

            fn given(&self) -> Vec<super::table::Given> {
                let mut entries = Self::ENTRIES.iter();
                let mut given = Vec::new();
                $(
                    let entry = entries.next();
                    let value = super::table::flags!(@value self.$flag, $target);
                    given.extend(entry.zip(value).map(|(entry, field_value)| {
                        super::table::Given { entry, field_value }
                    }));
                )+
                given
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
    (@added) => { false };
    (@added added) => { true };
    (@value $value:expr, FlagOnly) => { None };
    (@value $value:expr, Prints) => { None };
    (@value $value:expr, $field:ident) => { super::table::FieldValue::field_value(&$value) };
}
pub(super) use flags;

/// A value that may be given in several places, of which the first counts.
pub(super) trait Layered {
    fn over(&self, below: &Self) -> Self;
}

impl<T: Clone> Layered for Option<T> {
    fn over(&self, below: &Self) -> Self {
        self.clone().or_else(|| below.clone())
    }
}

impl<T: Clone> Layered for Vec<T> {
    fn over(&self, below: &Self) -> Self {
        if self.is_empty() { below.clone() } else { self.clone() }
    }
}

/// The value of a flag as its field has it; `None` if it was not given.
pub(super) trait FieldValue {
    fn field_value(&self) -> Option<Value>;
}

impl<T: Serialize> FieldValue for Option<T> {
    fn field_value(&self) -> Option<Value> {
        // Flags hold plain values only: these always have a representation.
        self.as_ref().and_then(|value| Value::serialize(value).ok())
    }
}

/// A comma list: `--flag=` says nothing.
impl FieldValue for Vec<String> {
    fn field_value(&self) -> Option<Value> {
        let items = self.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
        let items: Vec<_> = items.collect();
        (!items.is_empty()).then_some(items).field_value()
    }
}

impl FieldValue for Vec<Option<(String, bool)>> {
    fn field_value(&self) -> Option<Value> {
        let pairs: BTreeMap<_, _> = self.iter().flatten().cloned().collect();
        (!pairs.is_empty()).then_some(pairs).field_value()
    }
}

impl FieldValue for Vec<Option<VModule>> {
    fn field_value(&self) -> Option<Value> {
        let patterns: Vec<_> = self.iter().flatten().collect();
        (!patterns.is_empty()).then_some(patterns).field_value()
    }
}
