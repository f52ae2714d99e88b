//! Removes what this mode ever writes, of one family.

use std::collections::BTreeSet;

use kube_proxy_core::SyncError;
use kube_proxy_iptables::text::split_words;
use kube_proxy_netlink::ipvs::Change;

use crate::Config;
use crate::existing::Existing;
use crate::kernel::Kernel;
use crate::layout::{HOOKS, Hook, OWN_CHAINS, SETS, SHARED_CHAINS, TABLES, hook_rule};
use crate::plan::Item;

/// Rules first, as they hold the sets; then virtual servers, and last what records that they are ours.
pub(crate) fn cleanup(config: &Config, kernel: &mut dyn Kernel) -> Result<(), SyncError> {
    for table in TABLES {
        remove_rules(kernel, table)?;
    }
    let device = kernel.device()?;
    let existing = Existing::read(kernel, config.family, device)?;
    let frontends = existing.frontends();
    let ours = existing.servers.keys().filter(|key| existing.is_ours(config, key, &frontends));
    let changes: Vec<Change> = ours.map(|key| Change::Delete(*key)).collect();
    kernel.change(&changes)?;
    if let Some(device) = device {
        let mut left = existing.addresses.foreign > 0 || existing.addresses.other_family;
        let mut addresses = Vec::new();
        for item in &existing.items {
            match item {
                Item::Address(ip) if config.excludes(ip) => left = true,
                Item::Address(ip) => addresses.push(*ip),
                Item::Entry(..) => {}
            }
        }
        kernel.delete_addresses(device, &addresses)?;
        if !left {
            kernel.delete_device()?;
        }
    }
    for (set, ..) in SETS.iter().filter(|(set, ..)| existing.sets.contains_key(set)) {
        kernel.destroy_set(&set.name(config.family))?;
    }
    Ok(())
}

/// Whether a line of `iptables-save` is this hook, its words in any order.
pub(crate) fn is_hook(line: &str, hook: &Hook) -> bool {
    let Some(rule) = line.strip_prefix("-A ") else { return false };
    let Some((from, rule)) = rule.split_once(' ') else { return false };
    from == hook.1 && sorted(rule) == sorted(&hook_rule(hook))
}

fn sorted(rule: &str) -> Vec<String> {
    let mut words = split_words(rule);
    words.sort_unstable();
    words
}

/// Deletes hooks and chains of one table. Without a chain that only this mode has, nothing in it is ours.
fn remove_rules(kernel: &mut dyn Kernel, table: &str) -> Result<(), SyncError> {
    let mut chains = BTreeSet::new();
    let mut rules = Vec::new();
    // A table that this kernel does not have holds nothing.
    let read = kernel.save(table, &mut |line| {
        if let Some(chain) = line.strip_prefix(':') {
            chains.insert(chain.split(' ').next().unwrap_or_default().to_owned());
        } else if let Some(rule) = line.strip_prefix("-A ") {
            rules.push(rule.to_owned());
        }
    });
    if read.is_err() && table == "mangle" {
        return Ok(());
    }
    read?;
    let of_table = |list: &[(&'static str, &'static str)]| -> Vec<&'static str> {
        let of_table = list.iter().filter(|(of, chain)| *of == table && chains.contains(*chain));
        of_table.map(|(_, chain)| *chain).collect()
    };
    let own = of_table(&OWN_CHAINS);
    if own.is_empty() {
        return Ok(());
    }
    let shared = of_table(&SHARED_CHAINS);
    let ours = |chain: &str| own.contains(&chain) || shared.contains(&chain);
    let mut input = format!("*{table}\n");
    let mut needed = BTreeSet::new();
    for rule in &rules {
        let (from, _) = rule.split_once(' ').unwrap_or((rule, ""));
        let Some(target) = target(rule).filter(|target| ours(target) && !ours(from)) else {
            continue;
        };
        if HOOKS.iter().any(|hook| hook.0 == table && hook.1 == from && hook.3 == target) {
            input.extend(["-D ", rule, "\n"]);
        } else {
            needed.insert(target);
        }
    }
    let all: Vec<&str> = own.iter().chain(&shared).copied().collect();
    for chain in &all {
        input.extend([":", chain, " - [0:0]\n"]);
    }
    // Rules of others, or of the iptables mode, may still lead to some.
    for chain in all.iter().filter(|chain| !needed.contains(**chain)) {
        input.extend(["-X ", chain, "\n"]);
    }
    input.push_str("COMMIT\n");
    kernel.restore(&input)
}

fn target(rule: &str) -> Option<String> {
    let words = split_words(rule);
    let at = words.iter().rposition(|word| word == "-j" || word == "-g")?;
    words.get(at + 1).cloned()
}
