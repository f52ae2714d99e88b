//! Expressions, the instructions of a rule: each reads and writes registers, or ends the rule.

use super::constants::{data, expression};
use super::verdict::{Verdict, write_verdict};
use crate::Family;
use crate::writer::Writer;

/// A register of 32 bits; longer values take those that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u32);

impl Register {
    /// `NFT_REG_VERDICT`.
    const VERDICT: Self = Self(0);

    /// The register number `word`, 0 to 15 (`NFT_REG32_00` and following); the kernel refuses others.
    pub const fn word(word: u32) -> Self {
        Self(8 + word)
    }
}

/// Where a payload offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    /// The IP header.
    Network,
    /// The TCP, UDP or SCTP header.
    Transport,
}

/// What [`Expression::Meta`] loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// The packet mark, in host order.
    Mark,
    /// The name of the interface the packet came in by, 16 bytes.
    InputInterfaceName,
    /// The transport protocol, one byte.
    TransportProtocol,
    /// Whether the packet is traced: one byte, which can only be set.
    Trace,
}

impl MetaKey {
    const fn number(self) -> u32 {
        match self {
            Self::Mark => 3,
            Self::InputInterfaceName => 6,
            Self::TransportProtocol => 16,
            Self::Trace => 12,
        }
    }
}

/// What [`Expression::Ct`] loads, in host order; the first two are bit masks, and addresses and ports are as in packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// The state, a bit of [`ct_state`].
    State,
    /// The status, bits `IPS_*`.
    Status,
    /// The address that the first packet was sent to, before anything rewrote it.
    OriginalDestination(Family),
    /// The port that the first packet was sent to, in network order.
    OriginalDestinationPort,
    /// Packets of both directions so far, 8 bytes. A rule with it turns counting on, for connections from then on.
    Packets,
}

/// Bits of [`CtKey::State`].
pub mod ct_state {
    /// No packet of any connection: connection tracking does not know what it answers.
    pub const INVALID: u32 = 1;
    /// The first packet of a connection.
    pub const NEW: u32 = 8;
    /// Connection tracking was told to leave the packet alone.
    pub const UNTRACKED: u32 = 64;
    /// A later one, of a connection that was answered.
    pub const ESTABLISHED: u32 = 2;
}

/// Bits of [`CtKey::Status`].
pub mod ct_status {
    /// `IPS_DST_NAT`: the destination was rewritten.
    pub const DESTINATION_NAT: u32 = 0x20;
    /// `IPS_CONFIRMED`: its first packet was let through; until then it is not in the table of connections.
    pub const CONFIRMED: u32 = 0x8;
}

/// Which address [`Expression::FibAddressType`] looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibAddress {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// `RTN_LOCAL`: the address type of an address of this host, in host order.
pub const ADDRESS_TYPE_LOCAL: u32 = 2;

/// How [`Expression::Compare`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Continue if equal.
    Equal,
    /// Continue if different.
    NotEqual,
    /// Continue if what is in the register is greater, byte by byte from the left.
    Greater,
}

/// What [`Expression::UpdateSet`] does with an element that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUpdate {
    /// Leaves it as it is.
    Add,
    /// Starts its timeout again; its data stays.
    Refresh,
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Loads bytes of a header.
    Payload {
        /// Where `offset` counts from.
        base: PayloadBase,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        length: u32,
        /// Where to.
        to: Register,
    },
    /// Loads something about the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// Where to.
        to: Register,
    },
    /// Sets something about the packet.
    SetMeta {
        /// What: the mark, or that it is traced.
        key: MetaKey,
        /// Where from.
        from: Register,
    },
    /// Loads something about the connection.
    Ct {
        /// What.
        key: CtKey,
        /// Where to.
        to: Register,
    },
    /// Loads the type of an address, [`ADDRESS_TYPE_LOCAL`] for one.
    FibAddressType {
        /// Of which address.
        of: FibAddress,
        /// Where to.
        to: Register,
    },
    /// Ends the rule unless the comparison holds.
    Compare {
        /// How.
        comparison: Comparison,
        /// With what is here.
        register: Register,
        /// What.
        value: Vec<u8>,
    },
    /// `to = (from & mask) ^ xor`; mask and xor have the same length.
    Bitwise {
        /// Where from.
        from: Register,
        /// Where to.
        to: Register,
        /// Bits to keep.
        mask: Vec<u8>,
        /// Bits to turn over.
        xor: Vec<u8>,
    },
    /// Ends the rule unless the key is in the set; in a map, loads the element's data.
    Lookup {
        /// Name of the set or map.
        set: String,
        /// Where the key is.
        key: Register,
        /// Where the data of a map goes.
        to: Option<Register>,
        /// Ends the rule if the key *is* there.
        invert: bool,
    },
    /// Follows the verdict of a verdict map, if the key is there.
    LookupVerdict {
        /// Name of the verdict map.
        map: String,
        /// Where the key is.
        key: Register,
    },
    /// Loads a constant.
    Immediate {
        /// The bytes.
        value: Vec<u8>,
        /// Where to.
        to: Register,
    },
    /// Decides.
    Verdict(Verdict<'static>),
    /// Rewrites destination address and port.
    DestinationNat {
        /// The family of the address.
        family: Family,
        /// Where the address is.
        address: Register,
        /// Where the port is.
        port: Register,
    },
    /// Rewrites the source to the address of the interface by which the packet leaves, with a port chosen at random.
    Masquerade,
    /// Loads `offset` plus a random number below `modulus`, in host order. With a modulus of 1 it is a constant that `nft` prints as it
    /// reads it, wherever it stands; of those that are loaded as bytes it knows no type.
    Random {
        /// Numbers are below this.
        modulus: u32,
        /// What is added to them.
        offset: u32,
        /// Where to.
        to: Register,
    },
    /// Loads a number below `modulus`, in host order: the hash of bytes in registers (`jhash`).
    Hash {
        /// The first register.
        from: Register,
        /// How many bytes.
        length: u32,
        /// Numbers are below this.
        modulus: u32,
        /// What the hash begins with.
        seed: u32,
        /// Where to.
        to: Register,
    },
    /// Drops the packet and answers its sender with ICMP port unreachable.
    RejectPortUnreachable {
        /// The family of the packet.
        family: Family,
    },
    /// Turns a number of 8 bytes from host to network order, in place.
    ToNetworkOrder {
        /// Where it is.
        register: Register,
    },
    /// From now on packets of this connection pass by a flowtable; only in chains of the forward hook.
    Offload {
        /// The name of the flowtable.
        flowtable: String,
    },
    /// Counts packets and bytes.
    Counter,
    /// Puts an element into a map, from registers.
    UpdateSet {
        /// What if it is there.
        update: SetUpdate,
        /// Name of the map; it has the flag [`super::set_flags::DYNAMIC`].
        set: String,
        /// Where the key is.
        key: Register,
        /// Where the data is.
        data: Option<Register>,
        /// How long the element lives, in milliseconds.
        timeout: u64,
    },
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::FibAddressType { .. } => "fib",
            Self::Compare { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Random { .. } => "numgen",
            Self::Hash { .. } => "hash",
            Self::RejectPortUnreachable { .. } => "reject",
            Self::ToNetworkOrder { .. } => "byteorder",
            Self::Offload { .. } => "flow_offload",
            Self::Counter => "counter",
            Self::UpdateSet { .. } => "dynset",
        }
    }

    /// Writes the two attributes of an expression: name and data.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.text(expression::NAME, self.name());
        writer.nest(expression::DATA, |writer| self.write_data(writer));
    }

    /// Attribute numbers are those of `NFTA_<NAME>_*`.
    fn write_data(&self, writer: &mut Writer) {
        match self {
            Self::Payload { base, offset, length, to } => {
                let base = match base {
                    PayloadBase::Network => 1,
                    PayloadBase::Transport => 2,
                };
                numbers(writer, &[(1, to.0), (2, base), (3, *offset), (4, *length)]);
            }
            Self::Meta { key, to } => numbers(writer, &[(2, key.number()), (1, to.0)]),
            Self::SetMeta { key, from } => numbers(writer, &[(2, key.number()), (3, from.0)]),
            Self::Ct { key, to } => write_ct(writer, *key, *to),
            Self::FibAddressType { of, to } => {
                let flags = match of {
                    FibAddress::Source => 1,
                    FibAddress::Destination => 2,
                };
                numbers(writer, &[(1, to.0), (2, 3), (3, flags)]);
            }
            Self::Compare { comparison, register, value } => {
                let operation = match comparison {
                    Comparison::Equal => 0,
                    Comparison::NotEqual => 1,
                    Comparison::Greater => 4,
                };
                numbers(writer, &[(1, register.0), (2, operation)]);
                write_value(writer, 3, value);
            }
            Self::Bitwise { from, to, mask, xor } => {
                let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                numbers(writer, &[(1, from.0), (2, to.0), (3, length)]);
                write_value(writer, 4, mask);
                write_value(writer, 5, xor);
            }
            Self::Lookup { set, key, to, invert } => {
                writer.text(1, set);
                writer.u32_be(2, key.0);
                if let Some(to) = to {
                    writer.u32_be(3, to.0);
                }
                if *invert {
                    writer.u32_be(5, 1);
                }
            }
            Self::LookupVerdict { map, key } => {
                writer.text(1, map);
                numbers(writer, &[(2, key.0), (3, Register::VERDICT.0)]);
            }
            Self::Immediate { value, to } => {
                writer.u32_be(1, to.0);
                write_value(writer, 2, value);
            }
            Self::Verdict(verdict) => {
                writer.u32_be(1, Register::VERDICT.0);
                writer.nest(2, |writer| write_verdict(writer, verdict));
            }
            Self::DestinationNat { family, address, port } => {
                let family = u32::from(family.number());
                numbers(writer, &[(1, 1), (2, family), (3, address.0), (5, port.0)]);
            }
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY
            Self::Masquerade => writer.u32_be(1, 0x10),
            Self::Random { modulus, offset, to } => {
                numbers(writer, &[(1, to.0), (2, *modulus), (3, 1), (4, *offset)]);
            }
            // NFT_HASH_JENKINS
            Self::Hash { from, length, modulus, seed, to } => {
                let values = [(1, from.0), (2, to.0), (3, *length), (4, *modulus), (5, *seed)];
                numbers(writer, &values);
                writer.u32_be(7, 0);
            }
            Self::RejectPortUnreachable { family } => {
                writer.u32_be(1, 0);
                writer.u8(2, if *family == Family::V4 { 3 } else { 4 });
            }
            Self::ToNetworkOrder { register } => {
                numbers(writer, &[(1, register.0), (2, register.0), (3, 1), (4, 8), (5, 8)]);
            }
            Self::Offload { flowtable } => writer.text(1, flowtable),
            Self::Counter => {}
            Self::UpdateSet { update, set, key, data, timeout } => {
                let operation = match update {
                    SetUpdate::Add => 0,
                    SetUpdate::Refresh => 1,
                };
                writer.text(1, set);
                numbers(writer, &[(3, operation), (4, key.0)]);
                if let Some(data) = data {
                    writer.u32_be(5, data.0);
                }
                writer.u64_be(6, *timeout);
            }
        }
    }
}

fn write_ct(writer: &mut Writer, key: CtKey, to: Register) {
    let (key, original) = match key {
        CtKey::State => (0, false),
        CtKey::Status => (2, false),
        CtKey::OriginalDestinationPort => (12, true),
        CtKey::Packets => (14, false),
        CtKey::OriginalDestination(Family::V4) => (20, true),
        CtKey::OriginalDestination(Family::V6) => (22, true),
    };
    numbers(writer, &[(2, key), (1, to.0)]);
    if original {
        // IP_CT_DIR_ORIGINAL
        writer.u8(3, 0);
    }
}

fn numbers(writer: &mut Writer, attributes: &[(u16, u32)]) {
    for (kind, value) in attributes {
        writer.u32_be(*kind, *value);
    }
}

/// Expressions as they stand in a message.
pub fn encoded(expressions: &[Expression]) -> Vec<u8> {
    let mut writer = Writer::new();
    for item in expressions {
        writer.nest(expression::LIST_ITEM, |writer| item.write(writer));
    }
    writer.as_bytes().to_vec()
}

/// Writes data of the value kind.
pub(super) fn write_value(writer: &mut Writer, kind: u16, value: &[u8]) {
    writer.nest(kind, |writer| writer.bytes(data::VALUE, value));
}
