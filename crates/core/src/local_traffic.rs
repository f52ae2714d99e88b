//! How traffic that comes from pods of this node is told from all other traffic.

use ipnet::IpNet;

/// The test for "this packet comes from a local pod" (`detectLocalMode`), of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalTrafficDetector {
    /// Nothing is known: no traffic counts as local.
    #[default]
    None,
    /// The source address is in this network.
    Cidr(IpNet),
    /// The packet came in through this bridge.
    Bridge(String),
    /// The packet came in through an interface whose name starts so.
    InterfacePrefix(String),
}

impl LocalTrafficDetector {
    /// Whether local traffic can be recognised at all.
    pub fn is_known(&self) -> bool {
        *self != Self::None
    }
}
