//! Removes what this mode ever writes, of one family.
//!
//! Another mode that has begun to serve translates new connections before IPVS sees them.
//! Those that are there already go through IPVS, by packet, as long as their virtual server is there; conntrack knows how they are
//! masqueraded, so they need no rule in `nat`. What they do need is kept until they end: see [`Kept`].

use std::collections::BTreeSet;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, Removed, SyncError};
use kube_proxy_netlink::ipvs::{Change, ServerKey};
use kube_proxy_xtables::{Programs, Variant, split_words};

use crate::actual::{Actual, Addresses};
use crate::kept::{KEPT_CHAINS, Kept};
use crate::kernel::{Kernel, Node};
use crate::layout::{HOOKS, Hook, OWN_CHAINS, SETS, SHARED_CHAINS, TABLES, hook_rule};
use crate::marks::KnownMarks;
use crate::plan::Item;

/// What becomes of connections through the virtual servers that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// They are cut.
    Cut,
    /// What they need stays until they end; new ones are another mode's.
    Keep,
}

/// Removes what the ipvs mode of any kube-proxy left in one family.
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
    connections: Connections,
) -> Result<Removed, SyncError> {
    let mut node = Node::open_to_remove(family)?;
    let plan = Plan::new(family, exclude, connections, &mut node)?;
    let mut found = false;
    let mut failures = Vec::new();
    // Rules first, as they hold the sets.
    for variant in [Variant::Legacy, Variant::Nft].into_iter().filter(|_| node.has_sets()) {
        let Some(mut programs) = Programs::find(family, variant) else { continue };
        for table in TABLES {
            // Without a chain that only this mode has, nothing in a table is ours.
            if !programs.may_have_chain(table, |chain| OWN_CHAINS.contains(&(table, chain))) {
                continue;
            }
            match remove_rules(&mut programs, table, in_use == Some(variant), plan.keeps()) {
                Ok(any) => found |= any,
                Err(error) => failures.push(error),
            }
        }
    }
    if let Some(failure) = SyncError::of_parts(failures) {
        return Err(failure);
    }
    plan.carry_out(exclude, found, &mut node)
}

/// Somewhere to read rules from and write them to.
pub(crate) trait Rules {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError>;
    fn restore(&mut self, input: &str) -> Result<(), SyncError>;
}

impl Rules for Programs {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        self.each_line(table, each)
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        self.restore_text(&[input]).map_err(|failure| failure.error)
    }
}

#[cfg(test)]
impl Rules for dyn Kernel + '_ {
    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        Kernel::save(self, table, each)
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        Kernel::restore(self, input)
    }
}

/// The same of a kernel that a test made.
#[cfg(test)]
pub(crate) fn cleanup(
    family: IpFamily,
    exclude: &[IpNet],
    connections: Connections,
    kernel: &mut dyn Kernel,
) -> Result<Removed, SyncError> {
    let plan = Plan::new(family, exclude, connections, kernel)?;
    let mut found = false;
    for table in TABLES {
        found |= remove_rules(kernel, table, false, plan.keeps())?;
    }
    plan.carry_out(exclude, found, kernel)
}

/// What there is beside rules, and what of it goes.
struct Plan {
    family: IpFamily,
    device: Option<u32>,
    existing: Actual,
    kept: Kept,
    /// Virtual servers of ours that go.
    idle: Vec<ServerKey>,
}

impl Plan {
    fn new(
        family: IpFamily,
        exclude: &[IpNet],
        connections: Connections,
        kernel: &mut dyn Kernel,
    ) -> Result<Self, SyncError> {
        let device = kernel.device()?;
        let existing = Actual::read(kernel, family, device)?;
        let records = existing.records(KnownMarks::default());
        let is_ours = |key: &&ServerKey| existing.is_ours(exclude, key, &records);
        let ours: Vec<_> = existing.servers.keys().filter(is_ours).copied().collect();
        let kept = match connections {
            Connections::Keep if !ours.is_empty() => {
                let mask = existing.known_marks(KnownMarks::default()).mask;
                Kept::new(&ours, &kernel.connections()?, (&existing.marks(), mask))
            }
            _ => Kept::default(),
        };
        let idle = ours.into_iter().filter(|key| !kept.contains(key)).collect();
        Ok(Self { family, device, existing, kept, idle })
    }

    /// Whether anything has to stay for now.
    fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Virtual servers, and then what records that they are ours. `found` reports whether there were rules.
    fn carry_out(
        &self,
        exclude: &[IpNet],
        found: bool,
        kernel: &mut dyn Kernel,
    ) -> Result<Removed, SyncError> {
        let mut changes: Vec<Change> = self.idle.iter().copied().map(Change::Delete).collect();
        // What the other mode has no rule for, such as a Service that is deleted, must not lead to its endpoints indefinitely.
        for key in self.kept.servers() {
            let live = kernel.destinations(key)?.into_iter().filter(|found| found.weight > 0);
            changes.extend(live.map(|found| Change::SetDestination(key, found.address, 0)));
        }
        kernel.change(&changes)?;
        let mut found = found || !changes.is_empty() || !self.existing.sets.is_empty();
        if let Some(device) = self.device {
            found |= self.remove_addresses(exclude, device, kernel)?;
        }
        self.remove_sets(kernel)?;
        Ok(match self.kept.connections() {
            0 if found => Removed::All,
            0 => Removed::Nothing,
            connections => Removed::Waiting { connections },
        })
    }

    /// Addresses, and the interface when nothing else is on it; whether anything was removed.
    fn remove_addresses(
        &self,
        exclude: &[IpNet],
        device: u32,
        kernel: &mut dyn Kernel,
    ) -> Result<bool, SyncError> {
        let all = self.existing.addresses.device.iter().copied();
        let goes = |ip: &std::net::IpAddr| {
            !exclude.iter().any(|net| net.contains(ip)) && !self.kept.has_address(ip)
        };
        let addresses: Vec<_> = all.filter(goes).collect();
        kernel.delete_addresses(device, &addresses)?;
        // Read again: of two families that are removed at the same time, one finds it empty.
        let left = Addresses::sort(&kernel.addresses()?, Some(device), self.family);
        let empty = left.device.is_empty() && left.foreign == 0 && !left.other_family;
        if empty {
            kernel.delete_device()?;
        }
        Ok(empty || !addresses.is_empty())
    }

    fn remove_sets(&self, kernel: &mut dyn Kernel) -> Result<(), SyncError> {
        for (set, ..) in SETS.iter().rev().filter(|(set, ..)| self.existing.sets.contains_key(set))
        {
            let name = set.name(self.family);
            if !self.kept.needs_set(*set) {
                kernel.destroy_set(&name)?;
                continue;
            }
            let of_set = self.existing.items.iter().filter_map(|item| match item {
                Item::Entry(of, entry) if of == set => Some(*entry),
                _ => None,
            });
            let unneeded: Vec<_> =
                of_set.filter(|entry| !self.kept.needs_entry(*set, entry)).collect();
            if !unneeded.is_empty() {
                kernel.delete_entries(&name, &unneeded)?;
            }
        }
        Ok(())
    }
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
/// Chains that the iptables mode has as well may be in use by it; [`KEPT_CHAINS`] may be needed for connections.
fn remove_rules(
    kernel: &mut (impl Rules + ?Sized),
    table: &str,
    keep_shared: bool,
    keep_filter: bool,
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
    let mut own = of_table(&OWN_CHAINS);
    own.retain(|chain| !(keep_filter && KEPT_CHAINS.contains(chain)));
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

#[cfg(test)]
mod tests;
