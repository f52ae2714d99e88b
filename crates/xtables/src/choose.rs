//! Which of the two iptables a node uses.
//!
//! Rules of both at once would see every packet twice, so all programs on a node have to agree. The kubelet leaves a mark for that.

use kube_proxy_core::{IpFamily, SyncError};

use crate::programs::Programs;
use crate::variant::Variant;

/// Where the kubelet leaves its mark.
const MANGLE: &str = "mangle";

/// Chains that the kubelet keeps in `mangle`, the first for this very purpose (KEP-3178).
const KUBELET_CHAINS: [&str; 2] = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

impl Programs {
    /// The programs to use for a family: those of the variant asked for, or else those that the node uses.
    ///
    /// # Errors
    /// When they are not installed.
    pub fn choose(family: IpFamily, variant: Variant) -> Result<Self, SyncError> {
        let variant = match variant {
            Variant::Auto => detect(),
            named => named,
        };
        Self::find_or_say(family, variant).map_err(|reason| {
            SyncError::Unsupported(format!(
                "there is no working {} for {family} on this node: {reason}; install iptables, or choose the other variant",
                variant.long_name()
            ))
        })
    }
}

/// What the kubelet chose, else what holds more rules, else what works here: first what the plain name stands for.
fn detect() -> Variant {
    let candidates: Vec<(Variant, Vec<Programs>)> = [Variant::Nft, Variant::Legacy]
        .into_iter()
        .map(|variant| (variant, of_both_families(variant)))
        .filter(|(_, programs)| !programs.is_empty())
        .collect();
    let plain = || IpFamily::BOTH.into_iter().find_map(Programs::plain_variant);
    decide(candidates, plain, Programs::work)
}

/// The same among programs that were found.
pub(crate) fn decide(
    candidates: Vec<(Variant, Vec<Programs>)>,
    plain: impl FnOnce() -> Option<Variant>,
    work: impl Fn(&Programs) -> Result<(), SyncError>,
) -> Variant {
    // A node with one of them only: no question.
    if let [(only, _)] = &candidates[..] {
        return *only;
    }
    let hinted = candidates.iter().find(|(_, programs)| programs.iter().any(has_kubelet_chain));
    if let Some((variant, _)) = hinted {
        tracing::info!("iptables: {} as chosen by the kubelet", variant.long_name());
        return *variant;
    }
    let mut best = None;
    let mut most = 0;
    for (variant, programs) in &candidates {
        let rules = programs.iter().map(count_rules).sum();
        if rules > most {
            (best, most) = (Some(*variant), rules);
        }
    }
    if let Some(best) = best {
        tracing::info!("iptables: {}, which holds {most} rules", best.long_name());
        return best;
    }
    let chosen = first_that_works(candidates, plain(), work);
    tracing::info!("iptables: {}, as neither holds any rules", chosen.long_name());
    chosen
}

/// Of two variants without rules, the one that the kernel can serve; the plain one of the node if it can serve both.
/// The second is only asked if the first does not work, as asking brings tables of the legacy variant into being.
fn first_that_works(
    mut candidates: Vec<(Variant, Vec<Programs>)>,
    plain: Option<Variant>,
    work: impl Fn(&Programs) -> Result<(), SyncError>,
) -> Variant {
    candidates.sort_by_key(|(variant, _)| Some(*variant) != plain);
    // A lock that is held says that another program works with it.
    let works = |programs: &Programs| matches!(work(programs), Ok(()) | Err(SyncError::Busy(_)));
    let working = candidates.iter().find(|(_, programs)| programs.iter().any(works));
    let chosen = working.or(candidates.first());
    chosen.map_or(Variant::Nft, |(variant, _)| *variant)
}

fn of_both_families(variant: Variant) -> Vec<Programs> {
    IpFamily::BOTH.into_iter().filter_map(|family| Programs::find(family, variant)).collect()
}

fn has_kubelet_chain(programs: &Programs) -> bool {
    programs.has_chain(MANGLE, |chain| KUBELET_CHAINS.contains(&chain))
}

fn count_rules(programs: &Programs) -> usize {
    let used = ["nat", "filter", MANGLE].into_iter().filter(|table| !programs.is_unused(table));
    used.map(|table| programs.count_rules(table)).sum()
}
