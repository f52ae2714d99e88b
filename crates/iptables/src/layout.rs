//! The fixed part of the rules: tables, hooks, chains that always exist, and which chains are ours.

use kube_proxy_xtables::SHARED_FIREWALL;

use crate::names::ChainName;

/// A table that holds rules of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Filter,
    Nat,
}

impl Table {
    /// In the order in which a restore writes them: nothing is let in by `nat` that `filter` does not know yet.
    pub(crate) const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// A rule in a chain of the kernel that sends packets to a chain of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) table: Table,
    /// The kernel's chain.
    pub(crate) from: &'static str,
    /// Only for packets that start a connection.
    pub(crate) new_only: bool,
    /// Empty for none.
    pub(crate) comment: &'static str,
    /// Our chain.
    pub(crate) to: &'static str,
}

const fn hook(
    table: Table,
    from: &'static str,
    new_only: bool,
    comment: &'static str,
    to: &'static str,
) -> Hook {
    Hook { table, from, new_only, comment, to }
}

const SERVICES: &str = "kubernetes service portals";
const EXTERNAL: &str = "kubernetes externally-visible service portals";
const FIREWALL: &str = "kubernetes load balancer firewall";

/// Every hook. Each is put first in its chain, so of two hooks of one chain the later one here is met first.
#[rustfmt::skip]
pub(crate) const HOOKS: [Hook; 14] = [
    hook(Table::Filter, "INPUT",       true,  EXTERNAL, "KUBE-EXTERNAL-SERVICES"),
    hook(Table::Filter, "FORWARD",     true,  EXTERNAL, "KUBE-EXTERNAL-SERVICES"),
    hook(Table::Filter, "INPUT",       false, "kubernetes health check service ports", "KUBE-NODEPORTS"),
    hook(Table::Filter, "FORWARD",     true,  SERVICES, "KUBE-SERVICES"),
    hook(Table::Filter, "OUTPUT",      true,  SERVICES, "KUBE-SERVICES"),
    hook(Table::Filter, "FORWARD",     false, "kubernetes forwarding rules", "KUBE-FORWARD"),
    hook(Table::Filter, "INPUT",       true,  FIREWALL, "KUBE-PROXY-FIREWALL"),
    hook(Table::Filter, "OUTPUT",      true,  FIREWALL, "KUBE-PROXY-FIREWALL"),
    hook(Table::Filter, "FORWARD",     true,  FIREWALL, "KUBE-PROXY-FIREWALL"),
    hook(Table::Nat,    "OUTPUT",      false, SERVICES, "KUBE-SERVICES"),
    hook(Table::Nat,    "PREROUTING",  false, SERVICES, "KUBE-SERVICES"),
    hook(Table::Nat,    "POSTROUTING", false, "kubernetes postrouting rules", "KUBE-POSTROUTING"),
    hook(Table::Filter, "INPUT",       false, "", SHARED_FIREWALL),
    hook(Table::Filter, "OUTPUT",      false, "", SHARED_FIREWALL),
];

impl Hook {
    /// The rule without its chain, as `iptables-save` prints it.
    pub(crate) fn rule(&self) -> String {
        let mut rule = String::new();
        if self.new_only {
            rule.push_str("-m conntrack --ctstate NEW ");
        }
        if !self.comment.is_empty() {
            rule.extend(["-m comment --comment \"", self.comment, "\" "]);
        }
        rule + "-j " + self.to
    }
}

/// The chain that is there only to be found missing after another program flushed everything.
pub(crate) const CANARY: &str = "KUBE-PROXY-CANARY";

/// The table that holds nothing of ours but the canary.
pub(crate) const MANGLE: &str = "mangle";

/// Chains that always exist besides the roots of the dispatch lists.
const FIXED_FILTER: [&str; 8] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-EXTERNAL-NODEPORTS",
    "KUBE-NODEPORTS",
    "KUBE-FORWARD",
    "KUBE-HAIRPIN",
    "KUBE-PROXY-FIREWALL",
    CANARY,
];
const FIXED_NAT: [&str; 6] = [
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-SEP-HAIRPIN",
    CANARY,
];

/// How names of chains begin that a Go kube-proxy takes for its own: any in `nat` that it did not write it deletes as stale.
/// Every chain of ours in `nat` that it has no chain for begins so.
const DYNAMIC: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"];

/// Where hairpin traffic is recognised, and how names of the chains below begin.
/// In `filter` a Go kube-proxy deletes nothing, and the names could not be told from those of the list of health checks.
pub(crate) fn hairpin(table: Table) -> (&'static str, &'static str) {
    match table {
        Table::Filter => ("KUBE-HAIRPIN", "KUBE-HPIN-"),
        Table::Nat => ("KUBE-SEP-HAIRPIN", "KUBE-SEP-"),
    }
}

/// Whether a chain is deleted where it is not needed: it comes and goes with services, or an earlier version had it in `nat`.
pub(crate) fn is_dynamic(chain: &str) -> bool {
    let (former, below) = hairpin(Table::Filter);
    chain == former || DYNAMIC.iter().chain([&below]).any(|prefix| chain.starts_with(prefix))
}

/// Whether a chain is ours alone, to be emptied and deleted. The table is given by name: `mangle` counts too.
pub(crate) fn is_ours(table: &str, chain: &str) -> bool {
    match table {
        "nat" => FIXED_NAT.contains(&chain) || is_dynamic(chain),
        "filter" => FIXED_FILTER.contains(&chain) || is_dynamic(chain),
        MANGLE => chain == CANARY,
        _ => false,
    }
}

/// The canary's name as a chain name.
pub(crate) fn canary() -> ChainName {
    ChainName::fixed(CANARY)
}
