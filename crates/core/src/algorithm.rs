//! How one of the endpoints is chosen for a new connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// How one of the endpoints is chosen for a new connection, of a client without a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// At random, or in turn.
    #[default]
    Random,
    /// By a hash of the client's address.
    SourceHash,
    /// By a hash of the client's address and port, in a table of which few places change hands with the endpoints: see [`maglev`](crate::maglev).
    Maglev,
    /// The one with the fewest connections.
    LeastConnections,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Random, Self::SourceHash, Self::Maglev, Self::LeastConnections];

    /// The word for it, as the flag and the annotation have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::SourceHash => "source-hash",
            Self::Maglev => "maglev",
            Self::LeastConnections => "least-connections",
        }
    }
}

impl FromStr for Algorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::ALL.into_iter().find(|algorithm| algorithm.name() == text);
        named.ok_or("not random, source-hash, maglev or least-connections")
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the hash of clients begins with: the same on every node, so that all nodes choose the same endpoint.
pub const HASH_SEED: u32 = 0x6b70_7278;

/// Which of so many slots (see [`weight`](crate::weight)) a client gets under [`Algorithm::SourceHash`]: as the kernel's `jhash` says.
pub fn source_slot(client: IpAddr, slots: u32) -> u32 {
    let hash = match client {
        IpAddr::V4(ip) => jhash(&ip.octets(), HASH_SEED),
        IpAddr::V6(ip) => jhash(&ip.octets(), HASH_SEED),
    };
    scaled(hash, slots)
}

/// Which of so many slots a connection from this address and port gets under [`Algorithm::Maglev`]: as the kernel's `jhash` says of a
/// concatenation of both, in which the port takes four bytes.
pub fn connection_slot(client: SocketAddr, slots: u32) -> u32 {
    let [high, low] = client.port().to_be_bytes();
    let hash = match client.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            jhash(&[a, b, c, d, high, low, 0, 0], HASH_SEED)
        }
        IpAddr::V6(ip) => {
            let mut key = [0; 20];
            key[..16].copy_from_slice(&ip.octets());
            key[16..18].copy_from_slice(&[high, low]);
            jhash(&key, HASH_SEED)
        }
    };
    scaled(hash, slots)
}

/// A hash as a number below `slots`, as the kernel's `reciprocal_scale` has it.
fn scaled(hash: u32, slots: u32) -> u32 {
    let scaled = (u64::from(hash) * u64::from(slots)) >> 32;
    u32::try_from(scaled).unwrap_or_default()
}

/// The kernel's `jhash` (Bob Jenkins' lookup3), as nftables has it.
fn jhash(key: &[u8], seed: u32) -> u32 {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let start = 0xdead_beef_u32.wrapping_add(length).wrapping_add(seed);
    let mut state = [start; 3];
    let mut rest = key;
    while rest.len() > 12 {
        let (block, behind) = rest.split_at(12);
        for (word, bytes) in state.iter_mut().zip(block.chunks_exact(4)) {
            let bytes = <[u8; 4]>::try_from(bytes).unwrap_or_default();
            *word = word.wrapping_add(u32::from_ne_bytes(bytes));
        }
        state = mix(state);
        rest = behind;
    }
    for (word, bytes) in state.iter_mut().zip(rest.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = word.wrapping_add(u32::from_le_bytes(padded));
    }
    last_mix(state)
}

fn mix([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    for rotations in [[4, 6, 8], [16, 19, 4]] {
        a = a.wrapping_sub(c) ^ c.rotate_left(rotations[0]);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(rotations[1]);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(rotations[2]);
        b = b.wrapping_add(a);
    }
    [a, b, c]
}

fn last_mix([mut a, mut b, mut c]: [u32; 3]) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

#[cfg(test)]
mod tests;
