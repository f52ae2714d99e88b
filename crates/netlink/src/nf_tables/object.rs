//! Tables, chains and sets: how they are described when made, and what the kernel says of them.

use super::constants::{chain, data, expression, set, table};
use super::user_data;
use crate::attr::Malformed;
use crate::message::Message;
use crate::netfilter;
use crate::writer::Writer;

/// A table, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The kernel's number for it; a table made again has another.
    pub handle: u64,
    /// Flags `NFT_TABLE_F_*`, such as that for a table that does nothing (`dormant`).
    pub flags: u32,
    /// How many chains, sets and the like are in it.
    pub uses: u32,
    /// Its comment.
    pub comment: Option<String>,
}

impl Table {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let mut table = Self::default();
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                table::HANDLE => table.handle = attribute.u64_be()?,
                table::FLAGS => table.flags = attribute.u32_be()?,
                table::USE => table.uses = attribute.u32_be()?,
                table::USER_DATA => {
                    table.comment = user_data::read_comment(attribute.value).map(str::to_owned);
                }
                _ => {}
            }
        }
        Ok(table)
    }
}

/// The kind of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainType {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection, and may rewrite its addresses.
    Nat,
}

impl ChainType {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Filter, Self::Nat].into_iter().find(|kind| kind.name() == name)
    }
}

/// Where in the kernel a base chain is called; `NF_INET_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// As a packet comes in.
    Prerouting,
    /// When it is for this host.
    Input,
    /// When it is for another host.
    Forward,
    /// As this host sends one.
    Output,
    /// As a packet leaves.
    Postrouting,
}

impl HookPoint {
    const ALL: [Self; 5] =
        [Self::Prerouting, Self::Input, Self::Forward, Self::Output, Self::Postrouting];

    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// What makes a chain a base chain; its policy is to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Its kind.
    pub kind: ChainType,
    /// Where it is called.
    pub point: HookPoint,
    /// When, among the others there; low numbers first.
    pub priority: i32,
}

impl Hook {
    pub(super) fn write(self, writer: &mut Writer) {
        writer.nest(chain::HOOK, |writer| {
            writer.u32_be(chain::HOOK_NUMBER, self.point.number());
            writer.u32_be(chain::HOOK_PRIORITY, self.priority.cast_unsigned());
        });
        writer.u32_be(chain::POLICY, ACCEPT);
        writer.text(chain::TYPE, self.kind.name());
    }
}

/// A chain, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its hook, if it is a base chain with one that can be described.
    pub hook: Option<Hook>,
    /// What becomes of packets at the end of a base chain is not that they are accepted.
    pub drops: bool,
}

impl Chain {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let mut read = Self { table: String::new(), name: String::new(), hook: None, drops: false };
        let (mut point, mut priority, mut kind) = (None, 0, None);
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                chain::TABLE => read.table = attribute.text().into_owned(),
                chain::NAME => read.name = attribute.text().into_owned(),
                chain::POLICY => read.drops = attribute.u32_be()? != ACCEPT,
                chain::TYPE => kind = ChainType::from_name(&attribute.text()),
                chain::HOOK => {
                    for attribute in attribute.nested() {
                        let attribute = attribute?;
                        match attribute.kind {
                            chain::HOOK_NUMBER => {
                                let number = attribute.u32_be()?;
                                point = HookPoint::ALL.into_iter().find(|p| p.number() == number);
                            }
                            chain::HOOK_PRIORITY => {
                                priority = attribute.u32_be()?.cast_signed();
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        read.hook = match (kind, point) {
            (Some(kind), Some(point)) => Some(Hook { kind, point, priority }),
            _ => None,
        };
        Ok(read)
    }
}

/// Flags of sets, `NFT_SET_*`.
pub mod set_flags {
    /// Elements are intervals.
    pub const INTERVAL: u32 = 0x4;
    /// It is a map.
    pub const MAP: u32 = 0x8;
    /// Elements may have a timeout.
    pub const TIMEOUT: u32 = 0x10;
    /// Rules may put elements into it.
    pub const DYNAMIC: u32 = 0x20;
    /// Keys are concatenations of intervals.
    pub const CONCATENATION: u32 = 0x80;
}

/// Types of keys and data as `nft` numbers them; the kernel only keeps the number.
pub mod data_type {
    /// A number.
    pub const INTEGER: u32 = 4;
    /// An IPv4 address.
    pub const IPV4_ADDRESS: u32 = 7;
    /// An IPv6 address.
    pub const IPV6_ADDRESS: u32 = 8;
    /// A transport protocol.
    pub const TRANSPORT_PROTOCOL: u32 = 12;
    /// A port.
    pub const PORT: u32 = 13;

    /// The type of a concatenation.
    pub const fn concatenation(parts: &[u32]) -> u32 {
        let mut kind = 0;
        let mut index = 0;
        while index < parts.len() {
            kind = kind << 6 | parts[index];
            index += 1;
        }
        kind
    }
}

/// What a map maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapData {
    /// Verdicts.
    Verdict,
    /// Values.
    Value {
        /// The type, of [`data_type`].
        kind: u32,
        /// Length in bytes.
        length: u32,
    },
}

/// A set or map to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Flags of [`set_flags`].
    pub flags: u32,
    /// The type of keys, of [`data_type`].
    pub key_type: u32,
    /// The lengths of the parts of a key in bytes, without padding.
    pub key_parts: Vec<u32>,
    /// What it maps to, if it is a map.
    pub data: Option<MapData>,
    /// The largest number of elements; `None` for no limit.
    pub size: Option<u32>,
    /// Each element counts its hits.
    pub counter: bool,
    /// For `nft`; see [`user_data::SetUserData`].
    pub user_data: Vec<u8>,
}

impl SetSpec<'_> {
    /// Length of a key in bytes, each part padded to four.
    pub fn key_length(&self) -> u32 {
        match self.key_parts.as_slice() {
            [only] => *only,
            parts => parts.iter().map(|part| part.next_multiple_of(4)).sum(),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer, id: u32) {
        writer.u32_be(set::FLAGS, self.flags);
        writer.u32_be(set::KEY_TYPE, self.key_type);
        writer.u32_be(set::KEY_LENGTH, self.key_length());
        match self.data {
            None => {}
            Some(MapData::Verdict) => {
                writer.u32_be(set::DATA_TYPE, data::TYPE_VERDICT);
                writer.u32_be(set::DATA_LENGTH, 0);
            }
            Some(MapData::Value { kind, length }) => {
                writer.u32_be(set::DATA_TYPE, kind);
                writer.u32_be(set::DATA_LENGTH, length);
            }
        }
        self.write_description(writer);
        writer.u32_be(set::ID, id);
        writer.bytes(set::USER_DATA, &self.user_data);
        if self.counter {
            writer.nest(set::EXPRESSION, |writer| {
                writer.text(expression::NAME, "counter");
                writer.nest(expression::DATA, |_| {});
            });
        }
    }

    fn write_description(&self, writer: &mut Writer) {
        let concatenation = self.flags & set_flags::CONCATENATION != 0;
        if self.size.is_none() && !concatenation {
            return;
        }
        writer.nest(set::DESCRIPTION, |writer| {
            if let Some(size) = self.size {
                writer.u32_be(set::DESCRIPTION_SIZE, size);
            }
            if !concatenation {
                return;
            }
            writer.nest(set::DESCRIPTION_CONCATENATION, |writer| {
                for part in &self.key_parts {
                    writer.nest(expression::LIST_ITEM, |writer| {
                        writer.u32_be(set::FIELD_LENGTH, *part);
                    });
                }
            });
        });
    }
}

/// A set or map, as the kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Flags of [`set_flags`], and others.
    pub flags: u32,
    /// The type of keys.
    pub key_type: u32,
    /// Length of a key in bytes.
    pub key_length: u32,
    /// The type of a map's data; that of verdicts is high.
    pub data_type: Option<u32>,
    /// Length of a map's data in bytes.
    pub data_length: Option<u32>,
    /// Elements have an expression, such as a counter.
    pub has_expression: bool,
    /// The bytes for `nft`.
    pub user_data: Vec<u8>,
    /// How many elements it has; kernels before 6.17 do not say.
    pub count: Option<u32>,
}

impl Set {
    pub(super) fn read(message: &Message<'_>) -> Result<Self, Malformed> {
        let mut read = Self::default();
        for attribute in message.attributes(netfilter::HEADER_LEN)? {
            let attribute = attribute?;
            match attribute.kind {
                set::NAME => read.name = attribute.text().into_owned(),
                set::FLAGS => read.flags = attribute.u32_be()?,
                set::KEY_TYPE => read.key_type = attribute.u32_be()?,
                set::KEY_LENGTH => read.key_length = attribute.u32_be()?,
                set::DATA_TYPE => read.data_type = Some(attribute.u32_be()?),
                set::DATA_LENGTH => read.data_length = Some(attribute.u32_be()?),
                set::USER_DATA => read.user_data = attribute.value.to_vec(),
                set::EXPRESSION => read.has_expression = true,
                set::COUNT => read.count = Some(attribute.u32_be()?),
                _ => {}
            }
        }
        Ok(read)
    }

    /// Whether this set is what the description asks for.
    pub fn is(&self, spec: &SetSpec<'_>) -> bool {
        let (data_type, data_length) = match spec.data {
            None => (None, None),
            Some(MapData::Verdict) => (Some(data::TYPE_VERDICT), None),
            Some(MapData::Value { kind, length }) => (Some(kind), Some(length)),
        };
        self.name == spec.name
            && self.flags == spec.flags
            && self.key_type == spec.key_type
            && self.key_length == spec.key_length()
            && self.data_type == data_type
            && (data_length.is_none() || self.data_length == data_length)
            && self.has_expression == spec.counter
            && self.user_data == spec.user_data
    }
}
