//! Chain names: the hashes that Kubernetes tooling knows, and the names of dispatch chains.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE32_NOPAD;
use kube_proxy_core::{Endpoint, Protocol, ServicePortName};
use sha2::{Digest, Sha256};

/// The longest chain name, in bytes: `XT_EXTENSION_MAXNAMELEN` of `linux/netfilter/x_tables.h` less the final zero.
const MAX_LENGTH: usize = 28;

/// How the name of an endpoint's chain begins, and the length of the hash behind it.
const ENDPOINT: &str = "KUBE-SEP-";
const HASH: usize = 16;

/// The name of a chain, stored in place: there are tens of thousands of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChainName {
    bytes: [u8; MAX_LENGTH],
    length: u8,
}

impl ChainName {
    /// The name, or `None` if no chain can have it.
    pub(crate) fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_LENGTH || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            return None;
        }
        let mut bytes = [0; MAX_LENGTH];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { bytes, length: u8::try_from(text.len()).ok()? })
    }

    /// The name of a chain that is spelled out in this crate.
    pub(crate) fn fixed(text: &'static str) -> Self {
        Self::new(text).expect("names spelled out in this crate are short and printable")
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)])
            .expect("only ASCII is ever stored")
    }

    /// Whether it is the chain of one endpoint, not one of dispatch that begins the same way.
    pub(crate) fn is_of_endpoint(&self) -> bool {
        let hash = self.as_str().strip_prefix(ENDPOINT);
        hash.is_some_and(|hash| hash.len() == HASH && !hash.contains('-'))
    }

    fn hashed(prefix: &str, digest: &str) -> Self {
        Self::new(&format!("{prefix}{digest}"))
            .expect("a prefix of at most 9 characters and 16 of a hash are at most 28")
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The first `length` characters of the base32 SHA-256 of the parts, put together without separators.
fn digest(parts: &[&dyn fmt::Display], length: usize) -> String {
    let mut input = String::new();
    for part in parts {
        fmt::Write::write_fmt(&mut input, format_args!("{part}"))
            .expect("writing to a string does not fail");
    }
    let mut text = BASE32_NOPAD.encode(&Sha256::digest(input.as_bytes()));
    text.truncate(length);
    text
}

/// The names of the chains that one service port may have.
///
/// All end in the same hash, so one `grep` finds all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceChains {
    /// `KUBE-SVC-…`: endpoints for the `Cluster` policy.
    pub(crate) cluster: ChainName,
    /// `KUBE-SVL-…`: endpoints for the `Local` policy.
    pub(crate) local: ChainName,
    /// `KUBE-EXT-…`: where everything sent to a node port, external IP or load-balancer VIP arrives.
    pub(crate) external: ChainName,
    /// `KUBE-FW-…`: the source ranges of the load-balancer VIPs, before `KUBE-EXT-…`.
    pub(crate) firewall: ChainName,
}

impl ServiceChains {
    pub(crate) fn of(name: &ServicePortName) -> Self {
        let digest = digest(&[name, &name.protocol.lower()], HASH);
        Self {
            cluster: ChainName::hashed("KUBE-SVC-", &digest),
            local: ChainName::hashed("KUBE-SVL-", &digest),
            external: ChainName::hashed("KUBE-EXT-", &digest),
            firewall: ChainName::hashed("KUBE-FW-", &digest),
        }
    }
}

/// The chains that a service port may have in table `nat`, each with what it does.
pub fn service_chains(name: &ServicePortName) -> [(String, &'static str); 4] {
    let ServiceChains { cluster, local, external, firewall } = ServiceChains::of(name);
    [
        (cluster, "picks one of its endpoints"),
        (local, "picks one of its endpoints on this node"),
        (external, "what is sent to its external addresses and node port"),
        (firewall, "the source ranges of its load balancer"),
    ]
    .map(|(chain, what)| (chain.to_string(), what))
}

/// `KUBE-SEP-…`: the chain of one endpoint, which only session affinity needs.
pub(crate) fn endpoint_chain(name: &ServicePortName, endpoint: &Endpoint) -> ChainName {
    let digest = digest(&[name, &name.protocol.lower(), endpoint], HASH);
    ChainName::hashed(ENDPOINT, &digest)
}

/// The dispatch chain for one IPv4 prefix, such as `KUBE-SVC-10.96.16.0-20`.
pub(crate) fn ipv4_dispatch_chain(branches: &str, address: Ipv4Addr, length: u8) -> ChainName {
    ChainName::new(&format!("{branches}{address}-{length}"))
        .expect("10 characters of list and 18 of an IPv4 prefix are at most 28")
}

/// The dispatch chain for one IPv6 prefix, such as `KUBE-SVC-112-7Z5UTBZFQKMP`.
///
/// Most prefixes are too long for a name. The rule that jumps there spells it out.
pub(crate) fn ipv6_dispatch_chain(branches: &str, address: Ipv6Addr, length: u8) -> ChainName {
    let digest = digest(&[&address, &"/", &length], 12);
    ChainName::new(&format!("{branches}{length}-{digest}"))
        .expect("10 characters of list, 4 of a length and 12 of a hash are at most 28")
}

/// The dispatch chain for a range of ports, such as `KUBE-EXT-tcp-30000-30015`.
pub(crate) fn port_dispatch_chain(
    branches: &str,
    protocol: Protocol,
    first: u16,
    last: u16,
) -> ChainName {
    let protocol = protocol.lower();
    ChainName::new(&format!("{branches}{protocol}-{first}-{last}"))
        .expect("10 characters of list, 5 of a protocol and 11 of a range are at most 28")
}

#[cfg(test)]
mod tests;
