//! What is on the node already: our chains, whoever wrote them, and the rules of others that lead to them.

use kube_proxy_core::SyncError;
use rustc_hash::FxHashSet;

use crate::fixed::ANTI_MARTIAN;
use crate::layout::{HOOKS, Hook, SHARED_FIREWALL, is_ours};
use crate::names::ChainName;
use crate::programs::{Kernel, split_words};

/// What one table holds that matters to us.
#[derive(Debug, Default)]
pub(crate) struct Existing {
    /// Chains that are ours.
    pub(crate) chains: Vec<ChainName>,
    /// Rules in chains of others that lead to a chain of ours.
    pub(crate) references: Vec<Reference>,
    /// Whether there is a KUBE-FIREWALL.
    pub(crate) shared_firewall: bool,
    /// The rules in it, sorted words each, that are the one against martians; as they were printed.
    pub(crate) anti_martian: Vec<String>,
    /// Rules of ours, for deciding which variant is in use.
    pub(crate) rules: usize,
}

/// A rule in a chain of somebody else that leads to one of ours.
#[derive(Debug)]
pub(crate) struct Reference {
    /// The rule as `iptables-save` prints it, without `-A`.
    pub(crate) rule: String,
    from: String,
    pub(crate) to: ChainName,
    /// Its words, sorted.
    words: Vec<String>,
}

impl Existing {
    /// Reads one table.
    pub(crate) fn read(kernel: &(impl Kernel + ?Sized), table: &str) -> Result<Self, SyncError> {
        let mut existing = Self::default();
        let mut parser = Parser { table, anti_martian: sorted_words(ANTI_MARTIAN) };
        kernel.save(table, &mut |line| parser.line(line, &mut existing))?;
        Ok(existing)
    }

    /// Whether a hook is there, anywhere in its chain.
    pub(crate) fn has(&self, hook: &Hook) -> bool {
        let wanted = sorted_words(&hook.rule());
        self.references
            .iter()
            .any(|reference| reference.from == hook.from && reference.words == wanted)
    }

    /// Chains that rules other than our hooks lead to: they cannot be deleted.
    pub(crate) fn referenced(&self) -> FxHashSet<ChainName> {
        self.references
            .iter()
            .filter(|reference| !reference.is_jump_of_ours())
            .map(|reference| reference.to)
            .collect()
    }
}

impl Reference {
    /// Whether it is one that we, or a Go kube-proxy, would write: from a chain of the kernel to a chain that has a hook.
    pub(crate) fn is_jump_of_ours(&self) -> bool {
        HOOKS.iter().any(|hook| hook.from == self.from && hook.to == self.to.as_str())
    }
}

struct Parser<'a> {
    table: &'a str,
    anti_martian: Vec<String>,
}

impl Parser<'_> {
    fn line(&mut self, line: &str, existing: &mut Existing) {
        if let Some(declared) = line.strip_prefix(':') {
            let chain = declared.split(' ').next().unwrap_or_default();
            if is_ours(self.table, chain) {
                existing.chains.extend(ChainName::new(chain));
            }
            existing.shared_firewall |= self.table == "filter" && chain == SHARED_FIREWALL;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            self.rule(rule, existing);
        }
    }

    fn rule(&mut self, rule: &str, existing: &mut Existing) {
        let (from, body) = rule.split_once(' ').unwrap_or((rule, ""));
        if is_ours(self.table, from) {
            existing.rules += 1;
            return;
        }
        let words = split_words(body);
        let target = words
            .iter()
            .rposition(|word| word == "-j" || word == "-g")
            .and_then(|at| words.get(at + 1))
            .map_or("", String::as_str);
        if from == SHARED_FIREWALL && self.table == "filter" {
            let mut sorted = words.clone();
            sorted.sort_unstable();
            if sorted == self.anti_martian {
                existing.anti_martian.push(rule.to_owned());
            }
        }
        if !is_ours(self.table, target) && target != SHARED_FIREWALL {
            return;
        }
        if let Some(to) = ChainName::new(target) {
            let mut words = words;
            words.sort_unstable();
            existing.references.push(Reference {
                rule: rule.to_owned(),
                from: from.to_owned(),
                to,
                words,
            });
        }
    }
}

/// The words of a rule in no order: programs differ in where they print which match.
fn sorted_words(rule: &str) -> Vec<String> {
    let mut words = split_words(rule);
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests;
