//! The rules on the node: which there are, which have to change, and the input that changes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use kube_proxy_core::{Frontend, ObjectCount, ServicePortName};
use kube_proxy_xtables::Check;

use crate::actual::Actual;
use crate::own::MARK;
use crate::rules::{Chain, Rule};

/// The tables in the order in which they are written: nothing is brought to a port before it is let in.
pub(crate) const TABLES: [&str; 2] = ["filter", "nat"];

/// What rules are there for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    Frontend(Frontend),
    Ports(Arc<ServicePortName>),
}

/// Deleting a rule makes the programs go through its chain, so that many deletions cost its square.
/// From this number on a chain is written whole, which costs a few such passes, however many rules change.
const MANY_DELETIONS: usize = 8;

/// The rules on the node, each with what it is there for.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    slots: BTreeMap<Slot, Vec<Rule>>,
    counts: [usize; 2],
}

/// A rule in a chain of the kernel that leads to one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) to: Chain,
    pub(crate) from: &'static str,
    /// The rule without its chain.
    pub(crate) rule: String,
    /// Before all other rules of its chain, or behind them.
    first: bool,
}

/// The ways to our chains. `node_ports` are the destinations that take NodePort traffic, one for each rule.
pub(crate) fn hooks(node_ports: &[String]) -> Vec<Hook> {
    let hook = |to: Chain, from, words: &str, first| Hook {
        to,
        from,
        rule: format!("{words} -j {}", to.name()),
        first,
    };
    let not_own = format!("-m mark ! --mark {MARK:#x}/{MARK:#x}");
    let portals =
        "-m comment --comment \"handle ClusterIPs; NOTE: this must be before the NodePort rules\"";
    let node_port = "-m comment --comment \"handle service NodePorts; NOTE: this must be the last rule in the chain\" -m addrtype --dst-type LOCAL";
    let non_local = "-m conntrack --ctstate NEW -m comment --comment \"Ensure that non-local NodePort traffic can flow\"";
    let firewall =
        "-m conntrack --ctstate NEW -m comment --comment \"kubernetes userspace proxy firewall\"";
    let mut hooks = vec![
        hook(Chain::NonLocal, "INPUT", non_local, true),
        hook(Chain::Firewall, "INPUT", firewall, true),
        hook(Chain::Firewall, "OUTPUT", firewall, true),
        hook(Chain::Firewall, "FORWARD", firewall, true),
        hook(Chain::PortalsContainer, "PREROUTING", portals, true),
        hook(Chain::PortalsHost, "OUTPUT", &format!("{portals} {not_own}"), true),
    ];
    for destination in node_ports {
        let separator = if destination.is_empty() { "" } else { " " };
        let words = format!("{destination}{separator}{node_port}");
        hooks.push(hook(Chain::NodePortContainer, "PREROUTING", &words, false));
        hooks.push(hook(Chain::NodePortHost, "OUTPUT", &format!("{words} {not_own}"), false));
    }
    hooks
}

/// The input of one restore, being made.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Lines about chains and the ways to them, of `filter` and of `nat`.
    text: [String; 2],
    /// The rules of slots, in order; `true` for those that are added.
    changes: Vec<(bool, Rule)>,
    /// Rules that are written.
    written: [usize; 2],
}

fn index(table: &str) -> usize {
    usize::from(table == "nat")
}

impl Batch {
    /// Creates our chains, or empties them, and puts the ways to them right.
    pub(crate) fn begin_anew(&mut self, hooks: &[Hook], existing: &[Actual; 2]) {
        for chain in Chain::ALL {
            self.line(chain, format_args!(":{} - [0:0]", chain.name()));
        }
        let references = || existing.iter().flat_map(|existing| &existing.references);
        for hook in hooks {
            let there = references()
                .any(|reference| reference.to == hook.to && reference.is(hook.from, &hook.rule));
            if !there {
                let how = if hook.first { "-I" } else { "-A" };
                self.line(hook.to, format_args!("{how} {} {}", hook.from, hook.rule));
            }
        }
        for reference in references().filter(|reference| reference.is_hook()) {
            let wanted = hooks
                .iter()
                .any(|hook| reference.to == hook.to && reference.is(hook.from, &hook.rule));
            if !wanted {
                self.line(reference.to, format_args!("-D {}", reference.rule));
            }
        }
    }

    /// Removes everything from one table.
    pub(crate) fn remove_all(&mut self, existing: &Actual) {
        let references = || existing.references.iter();
        for reference in references().filter(|reference| reference.is_hook()) {
            self.line(reference.to, format_args!("-D {}", reference.rule));
        }
        for chain in &existing.chains {
            self.line(*chain, format_args!(":{} - [0:0]", chain.name()));
        }
        for chain in &existing.chains {
            // A chain that others lead to cannot go; empty it does nothing.
            if !references().any(|reference| reference.to == *chain && !reference.is_hook()) {
                self.line(*chain, format_args!("-X {}", chain.name()));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.text.iter().all(String::is_empty)
    }

    /// The input.
    pub(crate) fn pieces(&self) -> Vec<&str> {
        let mut pieces = Vec::new();
        for (table, text) in TABLES.iter().zip(&self.text) {
            if !text.is_empty() {
                pieces.extend(["*", table, "\n", text, "COMMIT\n"]);
            }
        }
        pieces
    }

    fn line(&mut self, chain: Chain, line: std::fmt::Arguments<'_>) {
        let text = &mut self.text[index(chain.table())];
        writeln!(text, "{line}").expect("writing to a string does not fail");
    }

    /// Turns the changes into lines. A chain that loses many rules is emptied and gets all of `rules` again, in the same restore,
    /// so that no packet sees it empty.
    pub(crate) fn finish(&mut self, rules: &Rules) {
        let changes = std::mem::take(&mut self.changes);
        let deletions =
            |chain| changes.iter().filter(|(added, (of, _))| !added && *of == chain).count();
        let whole: Vec<Chain> =
            Chain::ALL.into_iter().filter(|chain| deletions(*chain) >= MANY_DELETIONS).collect();
        for chain in &whole {
            self.line(*chain, format_args!(":{} - [0:0]", chain.name()));
        }
        let all = rules.slots.values().flatten().filter(|(chain, _)| whole.contains(chain));
        for rule in all {
            self.rule("-A", rule);
        }
        for (added, rule) in changes.iter().filter(|(_, (chain, _))| !whole.contains(chain)) {
            self.rule(if *added { "-A" } else { "-D" }, rule);
        }
    }

    fn rule(&mut self, how: &str, (chain, rule): &Rule) {
        self.written[index(chain.table())] += usize::from(how == "-A");
        self.line(*chain, format_args!("{how} {} {rule}", chain.name()));
    }
}

impl Rules {
    /// Sets the rules of a slot, and writes what differs.
    pub(crate) fn set(&mut self, slot: &Slot, rules: Vec<Rule>, batch: &mut Batch) {
        let old = if rules.is_empty() {
            self.slots.remove(slot)
        } else if self.slots.get(slot) == Some(&rules) {
            return;
        } else {
            for (chain, _) in &rules {
                self.counts[index(chain.table())] += 1;
            }
            self.slots.insert(slot.clone(), rules)
        };
        let old = old.unwrap_or_default();
        // All of a slot, so that their order stays right.
        for rule in old {
            self.counts[index(rule.0.table())] -= 1;
            batch.changes.push((false, rule));
        }
        let new = self.slots.get(slot).into_iter().flatten();
        batch.changes.extend(new.map(|rule| (true, rule.clone())));
    }

    /// All rules, each with what it is there for.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Slot, &Rule)> {
        self.slots.iter().flat_map(|(slot, rules)| rules.iter().map(move |rule| (slot, rule)))
    }

    /// The rules that are there for one thing.
    pub(crate) fn of(&self, slot: &Slot) -> &[Rule] {
        self.slots.get(slot).map_or(&[], |rules| rules)
    }

    /// What the report says.
    pub(crate) fn counts(&self, batch: &Batch) -> Vec<ObjectCount> {
        let counts = TABLES.iter().enumerate();
        counts
            .map(|(at, table)| ObjectCount {
                kind: table,
                written: batch.written[at],
                total: self.counts[at],
            })
            .collect()
    }

    /// What has to be there: the chains, the hooks, and one rule of each chain that has any.
    pub(crate) fn checks(&self, hooks: &[Hook]) -> Vec<Check> {
        let chains = Chain::ALL.into_iter();
        let chains = chains.map(|chain| Check::Chain { table: chain.table(), chain: chain.name() });
        let rules = hooks.iter().map(|hook| Check::Rule {
            table: hook.to.table(),
            chain: hook.from,
            rule: hook.rule.clone(),
        });
        // The chains come first: the programs take a rule that leads to a missing chain for an error.
        let mut checks: Vec<_> = chains.chain(rules).collect();
        let mut seen = Vec::new();
        for (chain, rule) in self.slots.values().flatten() {
            if !seen.contains(chain) {
                seen.push(*chain);
                let (table, chain, rule) = (chain.table(), chain.name(), rule.clone());
                checks.push(Check::Rule { table, chain, rule });
            }
            if seen.len() == Chain::ALL.len() {
                break;
            }
        }
        checks.sort_by_key(|check| index(check.table()));
        checks
    }
}

#[cfg(test)]
mod tests;
