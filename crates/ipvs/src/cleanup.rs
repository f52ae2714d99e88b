//! Removes what this mode ever writes, of one family.

use std::collections::BTreeSet;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_iptables::Variant;
use kube_proxy_iptables::text::{TextRules, split_words};
use kube_proxy_netlink::ipvs::Change;

use crate::existing::Existing;
use crate::kernel::{Kernel, Node};
use crate::layout::{HOOKS, Hook, OWN_CHAINS, SETS, SHARED_CHAINS, TABLES, hook_rule};
use crate::plan::Item;

/// Removes what the ipvs mode of any kube-proxy left in one family; whether there was anything.
///
/// What is in the networks of `exclude` stays, and so do chains that a running proxy shares, of the variant it uses.
/// No module is loaded; what needs one is looked for where the kernel has it, whatever else it lacks.
///
/// # Errors
/// What could not be removed, and why.
pub fn remove(
    family: IpFamily,
    exclude: &[IpNet],
    in_use: Option<Variant>,
) -> Result<bool, SyncError> {
    let mut node = Node::open_to_remove(family)?;
    let mut found = false;
    // Rules first, as they hold the sets.
    for variant in [Variant::Legacy, Variant::Nft].into_iter().filter(|_| node.has_sets()) {
        let Some(rules) = TextRules::used(family, variant) else { continue };
        for table in TABLES {
            let mut programs = Programs(rules.clone());
            found |= remove_rules(&mut programs, table, in_use == Some(variant))?;
        }
    }
    Ok(remove_objects(family, exclude, &mut node)? || found)
}

/// Somewhere to read rules from and write them to.
pub(crate) trait Rules {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;
    fn restore(&mut self, input: &str) -> Result<(), SyncError>;
}

struct Programs(TextRules);

impl Rules for Programs {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.0.save(table, each)
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        self.0.restore(input)
    }
}

impl Rules for dyn Kernel + '_ {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        Kernel::save(self, table, each)
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        Kernel::restore(self, input)
    }
}

/// Removes everything of the variant that a backend uses.
pub(crate) fn cleanup(
    family: IpFamily,
    exclude: &[IpNet],
    kernel: &mut dyn Kernel,
) -> Result<bool, SyncError> {
    let mut found = false;
    for table in TABLES {
        found |= remove_rules(kernel, table, false)?;
    }
    Ok(remove_objects(family, exclude, kernel)? || found)
}

/// Virtual servers, and then what records that they are ours.
fn remove_objects(
    family: IpFamily,
    exclude: &[IpNet],
    kernel: &mut dyn Kernel,
) -> Result<bool, SyncError> {
    let device = kernel.device()?;
    let existing = Existing::read(kernel, family, device)?;
    let frontends = existing.frontends();
    let ours = existing.servers.keys().filter(|key| existing.is_ours(exclude, key, &frontends));
    let changes: Vec<Change> = ours.map(|key| Change::Delete(*key)).collect();
    kernel.change(&changes)?;
    let mut found = !changes.is_empty() || !existing.sets.is_empty();
    if let Some(device) = device {
        let mut left = existing.addresses.foreign > 0 || existing.addresses.other_family;
        let mut addresses = Vec::new();
        for item in &existing.items {
            match item {
                Item::Address(ip) if exclude.iter().any(|net| net.contains(ip)) => left = true,
                Item::Address(ip) => addresses.push(*ip),
                Item::Entry(..) => {}
            }
        }
        kernel.delete_addresses(device, &addresses)?;
        found |= !addresses.is_empty() || !left;
        if !left {
            kernel.delete_device()?;
        }
    }
    for (set, ..) in SETS.iter().filter(|(set, ..)| existing.sets.contains_key(set)) {
        kernel.destroy_set(&set.name(family))?;
    }
    Ok(found)
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

/// Deletes hooks and chains of one table; whether there were any. Without a chain that only this mode has, nothing in it is ours.
/// Chains that the iptables mode has as well may be in use by it.
fn remove_rules(
    kernel: &mut (impl Rules + ?Sized),
    table: &str,
    keep_shared: bool,
) -> Result<bool, SyncError> {
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
        return Ok(false);
    }
    read?;
    let of_table = |list: &[(&'static str, &'static str)]| -> Vec<&'static str> {
        let of_table = list.iter().filter(|(of, chain)| *of == table && chains.contains(*chain));
        of_table.map(|(_, chain)| *chain).collect()
    };
    let own = of_table(&OWN_CHAINS);
    if own.is_empty() {
        return Ok(false);
    }
    let shared = if keep_shared { Vec::new() } else { of_table(&SHARED_CHAINS) };
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
    kernel.restore(&input).map(|()| true)
}

fn target(rule: &str) -> Option<String> {
    let words = split_words(rule);
    let at = words.iter().rposition(|word| word == "-j" || word == "-g")?;
    words.get(at + 1).cloned()
}
