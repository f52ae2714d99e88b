//! The input of one `iptables-restore --noflush`, built chain by chain.
//!
//! The order of the chains matters twice. A chain must be declared before a rule jumps to it. And iptables-nft (seen with 1.8.9) keeps
//! the names it met in one sorted list that it searches from the start for every line of its input: 10,000 services took 18 s of CPU time.
//! With the chains in descending order, each declared right before its rules, a name is found near the start, and it is 4 s.
//! What is left are the jumps of dispatch, whose order is that of addresses: [`all_chains`] spares a first sync the list altogether.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use kube_proxy_core::ServicePortName;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::canonical::ChainRules;
use crate::layout::{CANARY, MANGLE, Table};
use crate::names::ChainName;
use crate::rules::{Owners, Rules};

mod all_chains;
mod differences;

/// What is remembered of a chain that the kernel accepted: enough to know whether it has to be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// Hash of the text of its rules.
    hash: u64,
    /// How many rules it has.
    pub(crate) rules: u32,
}

/// The parts of a table's input, in their order: rules jump to chains of parts before their own, never behind.
///
/// Within the parts of services, names are in descending order, and so are the parts among each other as far as jumps allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Chains that jump nowhere.
    Targets,
    /// `KUBE-SEP-…`
    Endpoints,
    /// `KUBE-SVL-…`
    Local,
    /// `KUBE-SVC-…`
    Cluster,
    /// `KUBE-EXT-…`
    External,
    /// `KUBE-FW-…`
    Firewall,
    /// Dispatch, from leaves to roots.
    Dispatch,
    /// Chains and rules that lead to all others.
    Hooks,
    /// Stale chains are emptied, all before the first is deleted: they may lead to each other.
    Emptied,
    /// Stale chains are deleted.
    Deleted,
}

/// How many parts there are.
const PARTS: usize = Part::Deleted as usize + 1;

/// What has to be written, for both tables.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    filter: TableText,
    nat: TableText,
    /// What happens to the canary of `mangle`.
    pub(crate) mangle_canary: Option<Canary>,
}

/// What happens to a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    Create,
    Delete,
}

impl Batch {
    pub(crate) fn table(&mut self, table: Table) -> &mut TableText {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    fn tables(&self) -> [(Table, &TableText); 2] {
        [(Table::Filter, &self.filter), (Table::Nat, &self.nat)]
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.mangle_canary.is_none() && self.tables().iter().all(|(_, text)| text.is_empty())
    }

    /// How many rules it writes into a table.
    pub(crate) fn written(&self, table: Table) -> usize {
        match table {
            Table::Filter => self.filter.rules,
            Table::Nat => self.nat.rules,
        }
    }

    /// The input in pieces, to be written one after the other.
    pub(crate) fn pieces(&self) -> Vec<&str> {
        self.pieces_after(|table, _| vec![start(table)])
    }

    /// The input in pieces, with each table after what begins it.
    fn pieces_after(&self, begin: impl Fn(Table, &TableText) -> Vec<&'static str>) -> Vec<&str> {
        let mut pieces = Vec::new();
        for (table, text) in self.tables() {
            if !text.is_empty() {
                pieces.extend(begin(table, text));
                pieces.extend(text.parts.iter().map(|part| &*part.text));
                pieces.push("COMMIT\n");
            }
        }
        if let Some(canary) = self.mangle_canary {
            pieces.extend(["*", MANGLE, "\n:", CANARY, " - [0:0]\n"]);
            if canary == Canary::Delete {
                pieces.extend(["-X ", CANARY, "\n"]);
            }
            pieces.push("COMMIT\n");
        }
        pieces
    }

    /// The text of one line, counted from 1 as `iptables-restore` does.
    #[cfg(test)]
    pub(crate) fn line(&self, number: usize) -> Option<String> {
        let text: String = self.pieces().concat();
        text.lines().nth(number.checked_sub(1)?).map(ToOwned::to_owned)
    }

    /// The chain that a line is about; `None` if it is about a whole table.
    pub(crate) fn chain_of_line(&self, number: usize) -> Option<(Table, String)> {
        let text: String = self.pieces().concat();
        let before = || text.lines().take(number);
        let table = before().filter_map(|line| line.strip_prefix('*')).last()?;
        let table = Table::ALL.into_iter().find(|known| known.name() == table)?;
        let line = before().nth(number.checked_sub(1)?)?;
        let mut words = line.split(' ');
        let first = words.next()?;
        let chain = match first.strip_prefix(':') {
            Some(declared) => declared,
            None => words.next().filter(|_| first.starts_with('-'))?,
        };
        Some((table, chain.to_owned()))
    }

    /// The service because of which a line was written.
    pub(crate) fn owner_of_line(&self, number: usize) -> Option<Arc<ServicePortName>> {
        let mut line = number.checked_sub(1)?;
        for (_, text) in self.tables() {
            if text.is_empty() {
                continue;
            }
            // The name of the table comes before the parts, COMMIT behind.
            line = line.checked_sub(1)?;
            for part in &text.parts {
                if line < part.lines {
                    return part.owner_of_line(line);
                }
                line -= part.lines;
            }
            line = line.checked_sub(1)?;
        }
        None
    }
}

/// The input for one table.
#[derive(Debug, Default)]
pub(crate) struct TableText {
    parts: [PartText; PARTS],
    rules: usize,
    /// Every chain that is to be there.
    declared: FxHashSet<ChainName>,
    /// What the chains of ours on the node hold, where that was read.
    pub(crate) held: FxHashMap<ChainName, ChainRules>,
    /// Whether a rule is put into a chain that is not ours: none of ours was there yet, or another program removed it.
    hooks: bool,
}

#[derive(Debug, Default)]
struct PartText {
    text: String,
    lines: usize,
    owners: Owners,
}

impl TableText {
    fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.lines == 0)
    }

    /// Writes a chain, unless it turns out to be what is there already.
    pub(crate) fn chain(
        &mut self,
        part: Part,
        name: ChainName,
        there: Option<ChainState>,
        write: impl FnOnce(&mut Rules<'_>),
    ) -> ChainState {
        let part = &mut self.parts[part as usize];
        let (start, owners) = (part.text.len(), part.owners.len());
        let first_line = part.lines;
        part.declare(name);
        let body = part.text.len();
        let mut rules = Rules {
            text: &mut part.text,
            chain: name,
            owners: &mut part.owners,
            first_line: part.lines,
            count: 0,
        };
        write(&mut rules);
        let count = rules.count;
        let state = ChainState { hash: hash(&part.text[body..]), rules: count };
        self.declared.insert(name);
        let held = self.held.get(&name).filter(|held| held.rules == count);
        if there == Some(state) || held == Some(&ChainRules::of(name, &part.text[body..])) {
            part.text.truncate(start);
            part.owners.truncate(owners);
            part.lines = first_line;
            return state;
        }
        part.lines += count as usize;
        if part.owners.len() > owners {
            part.owners.push((part.lines, None));
        }
        self.rules += count as usize;
        state
    }

    /// Creates a chain or empties it, unless it is known to be there and empty.
    pub(crate) fn declare(&mut self, name: ChainName) {
        if self.held.get(&name).is_none_or(|held| held.rules > 0) {
            self.parts[Part::Targets as usize].declare(name);
        }
        self.declared.insert(name);
    }

    /// Empties and deletes chains that no rule leads to any more but their own.
    pub(crate) fn delete(&mut self, mut names: Vec<ChainName>) {
        names.sort_unstable_by(|a, b| b.cmp(a));
        // Endpoint chains, by far the most in what a Go kube-proxy leaves, jump to no other than KUBE-MARK-MASQ, so they go first.
        let (endpoints, others): (Vec<_>, Vec<_>) =
            names.into_iter().partition(ChainName::is_of_endpoint);
        for name in &endpoints {
            self.parts[Part::Deleted as usize].declare(*name);
            self.parts[Part::Deleted as usize].delete(*name);
        }
        for name in &others {
            self.parts[Part::Emptied as usize].declare(*name);
            self.parts[Part::Deleted as usize].delete(*name);
        }
    }

    /// Any command on a rule of a chain that is not ours, such as `-I INPUT 1 …`.
    pub(crate) fn command(&mut self, line: &str) {
        self.parts[Part::Hooks as usize].line(&[line]);
        self.rules += 1;
        self.hooks = true;
    }

    /// Whether a chain is to be there.
    pub(crate) fn declares(&self, name: ChainName) -> bool {
        self.declared.contains(&name)
    }
}

impl PartText {
    fn line(&mut self, words: &[&str]) {
        self.text.extend(words.iter().copied());
        self.text.push('\n');
        self.lines += 1;
    }

    fn declare(&mut self, name: ChainName) {
        self.line(&[":", name.as_str(), " - [0:0]"]);
    }

    fn delete(&mut self, name: ChainName) {
        self.line(&["-X ", name.as_str()]);
    }

    fn owner_of_line(&self, line: usize) -> Option<Arc<ServicePortName>> {
        let after = self.owners.partition_point(|(first, _)| *first <= line);
        self.owners.get(after.checked_sub(1)?)?.1.clone()
    }
}

/// The line that a table begins with.
fn start(table: Table) -> &'static str {
    match table {
        Table::Filter => "*filter\n",
        Table::Nat => "*nat\n",
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests;
