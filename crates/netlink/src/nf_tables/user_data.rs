//! User data: what the kernel keeps for user space without looking at it. libnftnl's format, so that `nft` prints it.
//!
//! A list of type (one byte), length (one byte), value.

/// Longest comment in bytes that `nft` reads back, without the NUL at its end.
pub const MAX_COMMENT: usize = 127;
/// Type of a comment: of tables, chains, rules and elements.
const COMMENT: u8 = 0;
/// Type of a comment of sets.
const SET_COMMENT: u8 = 7;
/// Byte order of a set's keys.
const SET_KEY_BYTE_ORDER: u8 = 0;
/// Byte order of a map's data.
const SET_DATA_BYTE_ORDER: u8 = 1;
/// What a set's key is made of, as expressions.
const SET_KEY_TYPEOF: u8 = 3;
/// What a map's data is made of.
const SET_DATA_TYPEOF: u8 = 4;
/// A rule's fingerprint; above the types that `nft` knows, which skips it.
const RULE_FINGERPRINT: u8 = 0xf0;

/// Appends an entry; a value that is too long is left out.
fn put(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        data.extend([kind, length]);
        data.extend_from_slice(value);
    }
}

/// The entries of user data, as far as they are whole.
fn entries(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let [kind, length, rest @ ..] = data else { return None };
        let (value, next) = rest.split_at_checked(usize::from(*length))?;
        data = next;
        Some((*kind, value))
    })
}

fn put_comment(data: &mut Vec<u8>, kind: u8, comment: &str) {
    let mut text = cut(comment).as_bytes().to_vec();
    text.push(0);
    put(data, kind, &text);
}

/// As much of a comment as fits.
pub fn cut(comment: &str) -> &str {
    let mut end = comment.len().min(MAX_COMMENT);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    &comment[..end]
}

/// User data with a comment, for a table, a chain or an element.
pub fn comment(text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    put_comment(&mut data, COMMENT, text);
    data
}

/// The comment in the user data of a table, a chain, a rule or an element.
pub fn read_comment(data: &[u8]) -> Option<&str> {
    let (_, text) = entries(data).find(|(kind, _)| *kind == COMMENT)?;
    std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()
}

/// User data of a rule: a comment for the reader, and a fingerprint to know the rule again.
pub fn rule(text: Option<&str>, fingerprint: u64) -> Vec<u8> {
    let mut data = text.map(comment).unwrap_or_default();
    put(&mut data, RULE_FINGERPRINT, &fingerprint.to_ne_bytes());
    data
}

/// The fingerprint in the user data of a rule.
pub fn read_fingerprint(data: &[u8]) -> Option<u64> {
    let (_, value) = entries(data).find(|(kind, _)| *kind == RULE_FINGERPRINT)?;
    Some(u64::from_ne_bytes(value.try_into().ok()?))
}

/// A part of a set's key or data that `nft` prints as `typeof`: the expression it would come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeOf {
    /// `ip saddr`.
    Ip4Source,
    /// `ip6 saddr`.
    Ip6Source,
    /// `ip daddr`.
    Ip4Destination,
    /// `ip6 daddr`.
    Ip6Destination,
    /// `meta l4proto`.
    TransportProtocol,
    /// `th dport`.
    DestinationPort,
    /// A verdict: data of verdict maps whose key needs this. Without it `nft` does not look at the key either.
    Verdict,
    /// `numgen random mod 2`: a slot number. The modulus is only an example.
    Slot,
}

impl TypeOf {
    /// The number of the kind of expression, and its properties, in the order libnftnl gives them.
    fn numbers(self) -> (u32, &'static [u32]) {
        const VERDICT: u32 = 1;
        const PAYLOAD: u32 = 7;
        const META: u32 = 9;
        const NUMGEN: u32 = 23;
        match self {
            // Header and field.
            Self::Ip4Source => (PAYLOAD, &[12, 11]),
            Self::Ip6Source => (PAYLOAD, &[13, 8]),
            Self::Ip4Destination => (PAYLOAD, &[12, 12]),
            Self::Ip6Destination => (PAYLOAD, &[13, 9]),
            Self::DestinationPort => (PAYLOAD, &[11, 2]),
            Self::TransportProtocol => (META, &[16]),
            Self::Verdict => (VERDICT, &[]),
            // Random, modulus, offset.
            Self::Slot => (NUMGEN, &[1, 2, 0]),
        }
    }

    fn write(self) -> Vec<u8> {
        let (kind, properties) = self.numbers();
        let mut inside = Vec::new();
        for (index, property) in (0..).zip(properties) {
            put(&mut inside, index, &property.to_ne_bytes());
        }
        expression(kind, &inside)
    }
}

fn expression(kind: u32, inside: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    put(&mut data, 0, &kind.to_ne_bytes());
    put(&mut data, 1, inside);
    data
}

/// A concatenation of parts; one part alone stands for itself.
fn type_of(parts: &[TypeOf]) -> Vec<u8> {
    const CONCATENATION: u32 = 13;
    if let [only] = parts {
        return only.write();
    }
    let mut inside = Vec::new();
    for (index, part) in (0..).zip(parts) {
        put(&mut inside, index, &part.write());
    }
    expression(CONCATENATION, &inside)
}

/// User data of a set: how to print keys and data, and a comment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetUserData<'a> {
    /// Keys are one value in network order, not a concatenation.
    pub key_in_network_order: bool,
    /// What keys are made of; empty where the type says it all.
    pub key: &'a [TypeOf],
    /// What data is made of; empty where the type says it all.
    pub data: &'a [TypeOf],
    /// A comment.
    pub comment: Option<&'a str>,
}

impl SetUserData<'_> {
    /// The bytes for the kernel.
    pub fn to_bytes(&self) -> Vec<u8> {
        const BIG_ENDIAN: u32 = 2;
        let order = if self.key_in_network_order { BIG_ENDIAN } else { 0 };
        let mut data = Vec::new();
        put(&mut data, SET_KEY_BYTE_ORDER, &order.to_ne_bytes());
        put(&mut data, SET_DATA_BYTE_ORDER, &0_u32.to_ne_bytes());
        if !self.key.is_empty() {
            put(&mut data, SET_KEY_TYPEOF, &type_of(self.key));
        }
        if !self.data.is_empty() {
            put(&mut data, SET_DATA_TYPEOF, &type_of(self.data));
        }
        if let Some(comment) = self.comment {
            put_comment(&mut data, SET_COMMENT, comment);
        }
        data
    }
}

#[cfg(test)]
mod tests;
