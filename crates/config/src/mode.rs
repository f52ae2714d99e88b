//! The proxy modes, and the ways to recognise local traffic, by name.

use std::fmt;

/// A proxy mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Packet rules of iptables.
    Iptables,
    /// Virtual servers of IPVS.
    Ipvs,
    /// Rules and maps of nftables.
    Nftables,
    /// Connections copied by this process.
    Userspace,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 4] = [Self::Iptables, Self::Ipvs, Self::Nftables, Self::Userspace];

    /// Its name in flags, files and `/proxyMode`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
            Self::Userspace => "userspace",
        }
    }

    /// The mode of a name; names are case-sensitive.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// The section of the configuration that holds the sync periods.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Iptables | Self::Userspace => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Instead of a mode: the one that fits the node.
pub(crate) const AUTO: &str = "auto";

/// A mode that was chosen for the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModeChoice {
    /// The mode.
    pub mode: Mode,
    /// Why, as the second half of a sentence.
    pub reason: String,
}

/// Where the mode comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeOrigin {
    /// It was asked for by name.
    Named,
    /// Nothing was said about it.
    Default,
    /// `auto`; this is the reason for what was chosen.
    Chosen(String),
}

/// The names of `detectLocalMode`.
pub(crate) mod detect_local {
    pub(crate) const CLUSTER_CIDR: &str = "ClusterCIDR";
    pub(crate) const NODE_CIDR: &str = "NodeCIDR";
    pub(crate) const BRIDGE: &str = "BridgeInterface";
    pub(crate) const INTERFACE_PREFIX: &str = "InterfaceNamePrefix";
}

/// Of `nodePortAddresses`: the node's own address of each family.
pub(crate) const PRIMARY: &str = "primary";
/// Of `nodePortAddresses`: the loopback networks.
pub(crate) const LOCALHOST: &str = "localhost";
/// Of `nodePortAddresses`: every address.
pub(crate) const ALL: &str = "all";

/// What a health or metrics address is when its server is turned off.
/// Only flags and variables can leave the address empty; in a file empty means the default, so this word is written.
pub(crate) const DISABLED: &str = "disabled";
