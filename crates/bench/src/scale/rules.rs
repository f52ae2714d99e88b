//! What a mode puts on the node, counted.

use clap::ValueEnum;
use kube_proxy_testkit::iptables::Variant;
use kube_proxy_testkit::netns::Netns;

/// Where the rules of a mode are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Dataplane {
    /// iptables mode with iptables-legacy
    Legacy,
    /// iptables mode with iptables-nft
    Nft,
    /// nftables mode
    Nftables,
    /// ipvs mode, where the kernel has it, with iptables-legacy
    Ipvs,
}

/// Sizes of a ruleset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Number of rules.
    pub(super) rules: usize,
    /// Number of chains.
    pub(super) chains: usize,
}

impl Dataplane {
    /// The proxy mode.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Legacy | Self::Nft => "iptables",
            Self::Nftables => "nftables",
            Self::Ipvs => "ipvs",
        }
    }

    /// Which iptables, where the mode uses one.
    pub(super) fn iptables(self) -> Option<Variant> {
        match self {
            Self::Legacy | Self::Ipvs => Some(Variant::Legacy),
            Self::Nft => Some(Variant::Nft),
            Self::Nftables => None,
        }
    }

    /// Mode, and variant where that makes a difference.
    pub(super) fn label(self) -> String {
        match self.iptables() {
            Some(variant) if self != Self::Ipvs => format!("{}-{variant}", self.mode()),
            _ => self.mode().to_owned(),
        }
    }

    /// Counts the IPv4 rules and chains of a node.
    pub(super) fn count(self, node: &Netns) -> anyhow::Result<Counts> {
        match self.iptables() {
            Some(variant) => Ok(in_iptables_save(&node.output(&variant.program("-save"), &[])?)),
            None => Ok(in_nft_list(&node.output("nft", &["list", "table", "ip", "kube-proxy"])?)),
        }
    }
}

/// Counts the lines of `iptables-save`.
fn in_iptables_save(text: &str) -> Counts {
    let starting = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    Counts { rules: starting("-A "), chains: starting(":") }
}

/// Counts rules and chains of `nft list table`; elements of sets and maps are none.
fn in_nft_list(text: &str) -> Counts {
    let mut counts = Counts::default();
    let mut in_chain = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("chain ") {
            counts.chains += 1;
            in_chain = true;
        } else if line == "}" {
            in_chain = false;
        } else if in_chain && !line.is_empty() && !line.starts_with("type ") {
            counts.rules += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests;
