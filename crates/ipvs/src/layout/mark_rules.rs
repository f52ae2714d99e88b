//! The rules that give marks to packets of this node and its pods, and take them back.

use std::collections::BTreeSet;

use super::{Hook, Set, from_local, hook_rule, matches};
use crate::Config;
use crate::marks::Bits;

/// Those of [`OWN_CHAINS`](super::OWN_CHAINS) that are there only while [`Set::Mark`] is.
pub(super) const MARK_CHAINS: [&str; 3] =
    ["KUBE-IPVS-MARK", "KUBE-IPVS-OUT-MARK", "KUBE-IPVS-UNMARK"];

/// Whether a chain is there only while there are marks.
pub(crate) fn is_for_marks(chain: &str) -> bool {
    MARK_CHAINS.contains(&chain)
}

/// Rules of marks, in table `mangle`: they come before those in `nat`, and IPVS comes after these.
///
/// Only the first packet of a connection needs a mark, and replies must never have one: a virtual server by mark takes packets to anywhere.
/// An older version, or the Go kube-proxy, does not know of all this, but removes what it does not know from `KUBE-LOOP-BACK`.
/// So this set has the frontends as well, and no packet gets a mark that leads to endpoints which no program keeps up to date.
pub(super) fn all(config: &Config, bits: Bits) -> Vec<(&'static str, String)> {
    let new = "-m conntrack --ctstate NEW";
    let ours = matches(config, Set::LoopBack, "dst,dst,dst");
    let set = Set::Mark.name(config.family);
    let give = format!("{new} {ours} -j SET --map-set {set} dst,dst --map-mark");
    let (sign, mask) = (bits.sign(), bits.mask());
    let mut rules = Vec::new();
    rules.extend(
        from_local(&config.local_traffic).map(|from| ("KUBE-IPVS-MARK", format!("{from} {give}"))),
    );
    rules.push(("KUBE-IPVS-OUT-MARK", give));
    // What comes after IPVS, such as an overlay network, has no use for it.
    let unmark =
        format!("{new} -m mark --mark {sign:#x}/{sign:#x} -j MARK --set-xmark 0x0/{mask:#x}");
    rules.push(("KUBE-IPVS-UNMARK", unmark));
    rules
}

/// The input that writes the chains of marks again, with the hooks that are missing.
pub(crate) fn mark_input(config: &Config, bits: Bits, missing: &[&Hook]) -> String {
    let mut input = "*mangle\n".to_owned();
    for chain in MARK_CHAINS {
        input.extend([":", chain, " - [0:0]\n"]);
    }
    for (chain, rule) in all(config, bits) {
        input.extend(["-A ", chain, " ", &rule, "\n"]);
    }
    for hook in missing {
        input.extend(["-I ", hook.1, " 1 ", &hook_rule(hook), "\n"]);
    }
    input.push_str("COMMIT\n");
    input
}

/// The input that removes these hooks and chains.
pub(crate) fn unmark_input(hooks: &[&Hook], chains: &BTreeSet<&str>) -> String {
    let mut input = "*mangle\n".to_owned();
    for hook in hooks {
        input.extend(["-D ", hook.1, " ", &hook_rule(hook), "\n"]);
    }
    for chain in chains {
        input.extend([":", chain, " - [0:0]\n-X ", chain, "\n"]);
    }
    input.push_str("COMMIT\n");
    input
}
