//! The two iptables.

/// Which implementation of iptables in the kernel holds the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The one that the node's kubelet uses; without a kubelet the one that holds more rules; else [`Nft`](Self::Nft).
    #[default]
    Auto,
    /// xtables (`iptables-legacy`).
    Legacy,
    /// `nf_tables` (`iptables-nft`).
    Nft,
}

impl Variant {
    /// The end of the program names; `auto` has none of its own.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    /// Such as `iptables-nft`.
    pub fn long_name(self) -> String {
        format!("iptables-{}", self.name())
    }
}
