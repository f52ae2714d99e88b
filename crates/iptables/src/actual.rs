//! What is on the node already: our chains, of any origin, and the rules of others that lead to them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use kube_proxy_core::{Frontend, Protocol, SyncError};
use kube_proxy_xtables::{SHARED_FIREWALL, split_words};
use rustc_hash::FxHashMap;

use crate::canonical::ChainRules;
use crate::fixed::ANTI_MARTIAN;
use crate::kernel::Kernel;
use crate::layout::{HOOKS, Hook, is_ours};
use crate::names::ChainName;

/// What one table holds that matters to us.
#[derive(Debug, Default)]
pub(crate) struct Actual {
    /// Its name.
    table: String,
    /// Chains that are ours.
    pub(crate) chains: Vec<ChainName>,
    /// Rules in chains of others that lead to a chain of ours.
    pub(crate) references: Vec<Reference>,
    /// Whether there is a KUBE-FIREWALL.
    pub(crate) shared_firewall: bool,
    /// The rules in it, sorted words each, that are the one against martians; as they were printed.
    pub(crate) anti_martian: Vec<String>,
    /// What each chain of ours holds.
    pub(crate) held: FxHashMap<ChainName, ChainRules>,
    /// UDP destinations that rules of ours translate, wherever they lead.
    pub(crate) udp: BTreeSet<Frontend>,
    /// Whether a rule of ours counts packets in an object of the kernel.
    pub(crate) counts: bool,
}

/// A rule in a chain of another program that leads to one of ours.
#[derive(Debug)]
pub(crate) struct Reference {
    /// The rule as `iptables-save` prints it, without `-A`.
    pub(crate) rule: String,
    from: String,
    pub(crate) to: ChainName,
    /// Its words, sorted.
    words: Vec<String>,
}

impl Actual {
    /// Reads one table.
    pub(crate) fn read(kernel: &(impl Kernel + ?Sized), table: &str) -> Result<Self, SyncError> {
        let mut result = Ok(());
        let existing = Self::of_listing(table, |each| result = kernel.save(table, each));
        result.map(|()| existing)
    }

    /// Reads what a table is listed as: `list` hands over its chains and rules.
    pub(crate) fn of_listing(table: &str, list: impl FnOnce(&mut dyn FnMut(&str))) -> Self {
        let mut existing = Self { table: table.to_owned(), ..Self::default() };
        let mut parser = Parser { table, anti_martian: sorted_words(ANTI_MARTIAN) };
        list(&mut |line| parser.line(line, &mut existing));
        existing
    }

    /// Whether a hook is there, anywhere in its chain.
    pub(crate) fn has(&self, hook: &Hook) -> bool {
        self.rules_of(hook).next().is_some()
    }

    /// The rules that are a hook, as `iptables-save` prints them, without `-A`.
    pub(crate) fn rules_of(&self, hook: &Hook) -> impl Iterator<Item = &str> {
        let (wanted, from) = (sorted_words(&hook.rule()), hook.from);
        let references = self.references.iter();
        let is_hook =
            move |reference: &&Reference| reference.from == from && reference.words == wanted;
        references.filter(is_hook).map(|reference| &*reference.rule)
    }

    /// Chains of ours that are to go: those that rules other than our hooks lead to, which cannot be deleted, and the others.
    /// Says in the log who leads to the first.
    pub(crate) fn part_by_references(
        &self,
        goes: impl Fn(&ChainName) -> bool,
    ) -> (Vec<ChainName>, Vec<ChainName>) {
        let mut referring: FxHashMap<ChainName, Vec<&str>> = FxHashMap::default();
        for reference in self.references.iter().filter(|reference| !reference.is_jump_of_ours()) {
            referring.entry(reference.to).or_default().push(&reference.rule);
        }
        let (kept, deleted): (Vec<_>, Vec<_>) = self
            .chains
            .iter()
            .filter(|chain| goes(chain))
            .copied()
            .partition(|chain| referring.contains_key(chain));
        for chain in &kept {
            let rules = &referring[chain];
            tracing::warn!(
                table = self.table,
                %chain,
                rules = %format_args!("-A {}", rules.join("; -A ")),
                "chain emptied and kept, because rules of others lead to it"
            );
        }
        (kept, deleted)
    }

    /// Whether a chain of ours holds any rules.
    pub(crate) fn holds_rules(&self, chain: ChainName) -> bool {
        self.held.get(&chain).is_some_and(|held| held.rules > 0)
    }
}

impl Reference {
    /// Whether it is one that we, or a Go kube-proxy of any version, would write.
    ///
    /// Old versions sent all packets where later ones send those of new connections; the comments were always these.
    /// Without its comment it is not deleted: iptables-nft leaves out what it has no words for (1.8.9: a look into a set), and would then
    /// take another program's rule for the one that was meant.
    pub(crate) fn is_jump_of_ours(&self) -> bool {
        let hooks = HOOKS.iter().filter(|hook| hook.from == self.from);
        hooks.filter(|hook| hook.to == self.to.as_str()).any(|hook| {
            [hook.new_only, false]
                .into_iter()
                .any(|new_only| self.words == sorted_words(&Hook { new_only, ..*hook }.rule()))
        })
    }
}

struct Parser<'a> {
    table: &'a str,
    anti_martian: Vec<String>,
}

impl Parser<'_> {
    fn line(&mut self, line: &str, existing: &mut Actual) {
        if let Some(declared) = line.strip_prefix(':') {
            let chain = declared.split(' ').next().unwrap_or_default();
            if let Some(chain) = ChainName::new(chain).filter(|_| is_ours(self.table, chain)) {
                existing.chains.push(chain);
                existing.held.insert(chain, ChainRules::default());
            }
            existing.shared_firewall |= self.table == "filter" && chain == SHARED_FIREWALL;
        } else if let Some(rule) = line.strip_prefix("-A ") {
            self.rule(rule, existing);
        }
    }

    fn rule(&mut self, rule: &str, existing: &mut Actual) {
        let (from, body) = rule.split_once(' ').unwrap_or((rule, ""));
        if is_ours(self.table, from) {
            if let Some(held) = ChainName::new(from).and_then(|from| existing.held.get_mut(&from)) {
                held.push(body);
            }
            existing.counts |= body.contains("-m nfacct ");
            if self.table == "nat" && body.contains("-p udp ") {
                existing.udp.extend(udp_frontend(from, body));
            }
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

/// The UDP destination that a rule in a chain of ours is about.
fn udp_frontend(chain: &str, rule: &str) -> Option<Frontend> {
    let words = split_words(rule);
    let after = |word: &str| {
        let at = words.iter().position(|other| other == word)?;
        // Not one that the rule excludes.
        (at == 0 || words[at - 1] != "!").then(|| words.get(at + 1))?
    };
    let port = after("--dport")?.parse().ok()?;
    if chain == NODE_PORTS || chain.starts_with(NODE_PORTS_BRANCH) {
        return Some(Frontend::NodePort(Protocol::Udp, port));
    }
    let net: IpNet = after("-d")?.parse().ok()?;
    let address: Option<IpAddr> = (net.prefix_len() == net.max_prefix_len()).then(|| net.addr());
    Some(Frontend::address(Protocol::Udp, address?, port))
}

/// Where node ports are looked up, and how the chains for UDP below it begin.
const NODE_PORTS: &str = "KUBE-NODEPORTS";
const NODE_PORTS_BRANCH: &str = "KUBE-EXT-udp-";

/// The words of a rule in no order: programs differ in where they print which match.
fn sorted_words(rule: &str) -> Vec<String> {
    let mut words = split_words(rule);
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests;
