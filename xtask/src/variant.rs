//! The two iptables: one writes to the kernel's old tables, one to `nf_tables`.

use std::fmt;

use clap::ValueEnum;

/// Which iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// iptables-legacy
    Legacy,
    /// iptables-nft
    Nft,
}

impl Variant {
    /// Its name in flags.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Nft => "nft",
        }
    }

    /// A program of this variant for IPv4: `iptables`, or with a suffix such as `-save`.
    pub(crate) fn program(self, suffix: &str) -> String {
        format!("iptables-{self}{suffix}")
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
