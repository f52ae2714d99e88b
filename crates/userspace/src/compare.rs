//! What differs on the node, object by object, for people who ask.

use std::collections::BTreeMap;

use kube_proxy_core::{Deviation, Difference, SyncError};
use kube_proxy_xtables::{Programs, split_words};

use crate::rules::Chain;
use crate::table::{Hook, Rules, Slot, TABLES};

/// The rules of one chain by their words, sorted, as programs differ in where they print which match; with how many there are of each.
type Listed = BTreeMap<(Chain, Vec<String>), (usize, String)>;

/// Compares what was written with what the programs list.
pub(crate) fn compare(
    programs: &Programs,
    rules: &Rules,
    hooks: &[Hook],
) -> Result<Vec<Difference>, SyncError> {
    let (mut chains, mut own, mut others) = (Vec::new(), Listed::new(), Vec::new());
    for table in TABLES {
        programs.each_line(table, &mut |line| {
            if let Some(declared) = line.strip_prefix(':') {
                let name = declared.split(' ').next().unwrap_or_default();
                chains.extend(Chain::named(table, name));
            } else if let Some(rule) = line.strip_prefix("-A ") {
                let (from, body) = rule.split_once(' ').unwrap_or((rule, ""));
                match Chain::named(table, from) {
                    Some(chain) => {
                        let listed = own.entry((chain, sorted(body))).or_default();
                        *listed = (listed.0 + 1, body.to_owned());
                    }
                    None => others.push((table, from.to_owned(), sorted(body))),
                }
            }
        })?;
    }
    let mut differences = Vec::new();
    for chain in Chain::ALL.into_iter().filter(|chain| !chains.contains(chain)) {
        let name = format!("{} {}", chain.table(), chain.name());
        differences.push(Difference::new("chain", name, Deviation::Missing));
    }
    for hook in hooks {
        let way = (hook.to.table(), hook.from.to_owned(), sorted(&hook.rule));
        if !others.contains(&way) {
            let name = format!("{} -A {} {}", hook.to.table(), hook.from, hook.rule);
            differences.push(Difference::new("rule", name, Deviation::Missing));
        }
    }
    for (slot, (chain, rule)) in rules.all() {
        match own.get_mut(&(*chain, sorted(rule))) {
            Some((count, _)) if *count > 0 => *count -= 1,
            _ => {
                let service = match slot {
                    Slot::Ports(name) => Some((**name).clone()),
                    Slot::Frontend(_) => None,
                };
                let missing = Difference::new("rule", text(*chain, rule), Deviation::Missing);
                differences.push(Difference { service, ..missing });
            }
        }
    }
    for ((chain, _), (count, rule)) in own {
        let unexpected = Difference::new("rule", text(chain, &rule), Deviation::Unexpected);
        differences.extend(std::iter::repeat_n(unexpected, count));
    }
    Ok(differences)
}

fn text(chain: Chain, rule: &str) -> String {
    format!("{} -A {} {rule}", chain.table(), chain.name())
}

/// What programs list for a plain `REJECT`: its default.
const DEFAULT_REJECTION: [&str; 2] = ["icmp-port-unreachable", "icmp6-port-unreachable"];

fn sorted(rule: &str) -> Vec<String> {
    let mut words = split_words(rule);
    let default = words.windows(2).position(|pair| {
        pair[0] == "--reject-with" && DEFAULT_REJECTION.contains(&pair[1].as_str())
    });
    if let Some(at) = default {
        words.drain(at..at + 2);
    }
    words.sort_unstable();
    words
}
