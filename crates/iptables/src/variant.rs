//! Which of the two iptables a node uses.
//!
//! Rules of both at once would see every packet twice, so all programs on a node have to agree. The kubelet leaves a mark for that.

use kube_proxy_core::{IpFamily, SyncError};

use crate::Variant;
use crate::layout::MANGLE;
use crate::programs::{Kernel, Programs};

/// Chains that the kubelet keeps in `mangle`, the first for this very purpose (KEP-3178).
const KUBELET_CHAINS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/// The programs to use for a family: those asked for, or else those that the node uses.
pub(crate) fn choose(family: IpFamily, wanted: Variant) -> Result<Programs, SyncError> {
    let wanted = match wanted {
        Variant::Auto => detect(),
        named => named,
    };
    if let Some(programs) = Programs::find(family, wanted) {
        return Ok(programs);
    }
    Err(SyncError::Unsupported(format!(
        "there is no {} program for {family} on this node: install iptables, or choose the other variant",
        wanted.long_name()
    )))
}

/// What the kubelet chose, else what holds more rules, else nft.
fn detect() -> Variant {
    let candidates: Vec<(Variant, Vec<Programs>)> = [Variant::Nft, Variant::Legacy]
        .into_iter()
        .map(|variant| (variant, of_both_families(variant)))
        .filter(|(_, programs)| !programs.is_empty())
        .collect();
    // A node with one of them only: no question.
    if let [(only, _)] = &candidates[..] {
        return *only;
    }
    let hinted = candidates.iter().find(|(_, programs)| programs.iter().any(has_kubelet_chain));
    if let Some((variant, _)) = hinted {
        tracing::info!("iptables: {} as chosen by the kubelet", variant.long_name());
        return *variant;
    }
    let mut best = (Variant::Nft, 0);
    for (variant, programs) in &candidates {
        let rules = programs.iter().map(count_rules).sum();
        if rules > best.1 {
            best = (*variant, rules);
        }
    }
    tracing::info!("iptables: {}, which holds {} rules", best.0.long_name(), best.1);
    best.0
}

fn of_both_families(variant: Variant) -> Vec<Programs> {
    IpFamily::BOTH.into_iter().filter_map(|family| Programs::find(family, variant)).collect()
}

fn has_kubelet_chain(programs: &Programs) -> bool {
    let mut found = false;
    let mut look = |line: &str| {
        let chain = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
        found |= chain.is_some_and(|chain| KUBELET_CHAINS.contains(&chain));
    };
    // A table that cannot be read holds no hint.
    let readable = !programs.is_unused(MANGLE) && programs.save(MANGLE, &mut look).is_ok();
    readable && found
}

fn count_rules(programs: &Programs) -> usize {
    let mut rules = 0;
    for table in ["nat", "filter", MANGLE] {
        let mut count = |line: &str| rules += usize::from(line.starts_with("-A "));
        if !programs.is_unused(table) {
            // What cannot be read counts for nothing.
            let _ = programs.save(table, &mut count);
        }
    }
    rules
}
