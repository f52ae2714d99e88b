//! `--proxy-mode=auto`: nftables where the kernel and the firewall of the host fit, else iptables.
//!
//! A mode that has rules on the node stays as long as the node can have it: a restart is no time for a change of mode.

use std::sync::OnceLock;

use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::nf_tables::NfTables;
use kube_proxy_nftables::{NftablesBackend, TABLE};
use kube_proxy_xtables::{Programs, Variant};

use crate::modes;
use kube_proxy_config::{Mode, ModeChoice};

/// What a look at the node finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// Why nftables mode is impossible.
    lacks: Option<String>,
    /// Rules of nftables mode are there.
    nftables_rules: bool,
    /// Rules of iptables mode are there.
    iptables_rules: bool,
    /// What would keep masqueraded connections from being forwarded, were it not for the rules of iptables mode.
    firewall: Option<String>,
}

/// The mode for this node. Looks once: later calls say the same.
pub fn of_this_node() -> ModeChoice {
    static CHOICE: OnceLock<ModeChoice> = OnceLock::new();
    CHOICE.get_or_init(|| decide(&look())).clone()
}

/// What would keep masqueraded connections from being forwarded in nftables mode, were it not for the rules of iptables mode.
pub(crate) fn firewall_of_this_node() -> Option<String> {
    look().firewall
}

fn decide(facts: &Facts) -> ModeChoice {
    let (mode, reason) = match facts {
        Facts { lacks: Some(lacks), .. } => (Mode::Iptables, lacks.as_str()),
        Facts { nftables_rules: true, .. } => {
            (Mode::Nftables, "its rules are on this node already")
        }
        Facts { iptables_rules: true, .. } => {
            (Mode::Iptables, "its rules are on this node already")
        }
        Facts { firewall: Some(firewall), .. } => (Mode::Iptables, firewall.as_str()),
        _ => (
            Mode::Nftables,
            "the kernel has what it needs, and no firewall of the host is in its way",
        ),
    };
    ModeChoice { mode, reason: reason.to_owned() }
}

fn look() -> Facts {
    let mut facts = Facts::default();
    for family in IpFamily::BOTH.into_iter().filter(|family| modes::host_has(*family)) {
        // A transaction that the kernel checks and then throws away.
        if let Err(error) = NftablesBackend::new(plain(family)) {
            facts.lacks.get_or_insert_with(|| format!("{family}: {error}"));
        }
        facts.nftables_rules |= has_table(family);
        for variant in [Variant::Nft, Variant::Legacy] {
            if let Some(programs) = Programs::find(family, variant) {
                read(&programs, &mut facts);
            }
        }
    }
    facts
}

/// The least that a backend can be asked to do.
fn plain(family: IpFamily) -> kube_proxy_nftables::Config {
    kube_proxy_nftables::Config {
        family,
        masquerade_all: false,
        masquerade_mark: 1 << 14,
        local_traffic: LocalTrafficDetector::None,
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: false,
        fast_path_choice: false,
    }
}

/// Whether there is a table `kube-proxy`, ours or that of the Go kube-proxy.
fn has_table(family: IpFamily) -> bool {
    let family = match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    };
    NfTables::open(family).and_then(|mut netlink| netlink.table(TABLE)).is_ok_and(|t| t.is_some())
}

/// Reads what one variant of iptables has. What cannot be read says nothing.
fn read(programs: &Programs, facts: &mut Facts) {
    facts.iptables_rules |= programs.has_chain("nat", |chain| chain == "KUBE-SERVICES");
    let mut forward = Forward::default();
    if !programs.is_unused("filter") {
        let _ = programs.each_line("filter", &mut |line| forward.line(line));
    }
    if let Some(what) = forward.drops() {
        facts.firewall.get_or_insert_with(|| format!("{what} ({})", programs.name()));
    }
}

/// What becomes of a forwarded packet that no rule of `FORWARD` knows.
#[derive(Debug, Default)]
struct Forward {
    policy_drops: bool,
    /// The last rule of the chain that is not about kube-proxy.
    last: String,
}

impl Forward {
    /// Takes in a line of `iptables-save`.
    fn line(&mut self, line: &str) {
        if line.starts_with(":FORWARD DROP") {
            self.policy_drops = true;
        } else if line.starts_with("-A FORWARD ") && !line.contains("KUBE-") {
            line.clone_into(&mut self.last);
        }
    }

    fn drops(&self) -> Option<&'static str> {
        // Without a condition: the target follows the chain.
        let unconditional = |target: &str| {
            self.last.strip_prefix("-A FORWARD -j ").is_some_and(|rest| rest.starts_with(target))
        };
        if self.policy_drops {
            Some("the policy of the chain FORWARD is DROP, and nftables mode opens no firewall")
        } else if unconditional("DROP") || unconditional("REJECT") {
            Some("the chain FORWARD ends by refusing the rest, and nftables mode opens no firewall")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
