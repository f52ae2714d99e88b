//! Dispatch by prefix: a list of rules, split into chains so that a packet walks past tens of rules and not past all.
//!
//! A chain with more rules than fit is replaced by jumps to chains for shorter and shorter ranges of the key (an address, or a protocol
//! and port). What the chain of a prefix holds depends on nothing but the entries within that prefix. So the same entries always give the
//! same chains, however they came about, and an entry that comes or goes touches only the few chains on its path.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::ops::Range;

use kube_proxy_core::Protocol;

use crate::names::ChainName;
use crate::restore::{ChainState, Part, TableText};
use crate::rules::{Rules, written};

/// The root chain stays a plain list up to this many entries.
pub(crate) const LINEAR: usize = 256;

/// Every other chain does up to this many.
pub(crate) const LEAF: usize = 32;

/// How many bits a chain looks at: it holds at most `2^STRIDE` jumps.
const STRIDE: u8 = 4;

/// Whether a list may be split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// It is, once it is long.
    #[default]
    Tree,
    /// It stays a plain list: the kernel limits how deep chains may lead into each other (16 for `nf_tables`), and a few hundred IPv6
    /// addresses can be chosen so that the tree is deeper.
    List,
}

/// Where an entry stands in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// What the tree branches by, from the highest bit on.
    pub(crate) bits: u128,
    /// Entries with the same bits are told apart by these.
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// A range of keys: all that agree in the first `length` bits.
///
/// The order puts a prefix before every longer one within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) bits: u128,
    pub(crate) length: u8,
}

impl Prefix {
    pub(crate) const ROOT: Self = Self { bits: 0, length: 0 };

    /// The last bits within.
    pub(crate) fn last(self) -> u128 {
        self.bits | u128::MAX.checked_shr(self.length.into()).unwrap_or(0)
    }

    fn halves(self) -> [Self; 2] {
        let length = self.length + 1;
        let upper = self.bits | (1 << (128 - u32::from(length)));
        [self.bits, upper].map(|bits| Self { bits, length })
    }

    /// The longest prefix that holds both, of at most `width` bits.
    fn common(first: u128, last: u128, width: u8) -> Self {
        let length = width.min(u8::try_from((first ^ last).leading_zeros()).unwrap_or(width));
        let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        Self { bits: first & !mask, length }
    }
}

/// How the entries of a tree are written.
pub(crate) trait Dispatch<V> {
    /// How many bits a key has: a prefix of that length cannot be split.
    fn width(&self) -> u8;
    /// The prefixes that the root is split into before anything else.
    fn top(&self) -> Vec<Prefix>;
    /// The name of the chain for a prefix.
    fn chain(&self, prefix: Prefix) -> ChainName;
    /// Writes the rule of an entry.
    fn entry(&self, key: &Key, value: &V, rules: &mut Rules<'_>);
    /// Writes the rule that leads to the chain of a prefix; `from_root` if it stands in the root, to which packets must come back.
    fn branch(&self, prefix: Prefix, from_root: bool, rules: &mut Rules<'_>);
    /// Writes the rules that follow the entries in the root.
    fn tail(&self, rules: &mut Rules<'_>);
}

/// The entries, and the chains that the kernel has for them.
#[derive(Debug)]
pub(crate) struct Tree<V> {
    shape: Shape,
    entries: BTreeMap<Key, V>,
    chains: BTreeMap<Prefix, ChainState>,
    /// Bits of the entries that changed since the last rendering.
    dirty: Vec<u128>,
    /// The first rule of the root as it was written last, without its chain.
    first_rule: Option<String>,
}

impl<V> Default for Tree<V> {
    fn default() -> Self {
        Self::new(Shape::default())
    }
}

/// A chain on the way of a packet.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) chain: ChainName,
    /// All that it should hold, without the chain.
    pub(crate) rules: Vec<String>,
    /// The rules that lead on; empty if none does.
    pub(crate) own: Range<usize>,
}

/// What stands in a chain that is not a plain list.
enum Group {
    /// A single entry, written in place.
    Entry(Key),
    /// A chain of its own.
    Chain(Prefix),
}

impl<V> Tree<V> {
    /// How its chains divide.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// An empty tree.
    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            shape,
            entries: BTreeMap::new(),
            chains: BTreeMap::new(),
            dirty: Vec::new(),
            first_rule: None,
        }
    }

    /// Adds or replaces an entry.
    pub(crate) fn insert(&mut self, key: Key, value: V) {
        self.entries.insert(key, value);
        self.dirty.push(key.bits);
    }

    /// Removes an entry, if it is there.
    pub(crate) fn remove(&mut self, key: Key) {
        if self.entries.remove(&key).is_some() {
            self.dirty.push(key.bits);
        }
    }

    /// An entry, to change it where that changes no rule.
    pub(crate) fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Rules in all chains.
    pub(crate) fn rule_count(&self) -> usize {
        self.chains.values().map(|chain| chain.rules as usize).sum()
    }

    /// The first rule of the root, without its chain; `None` if that is empty.
    pub(crate) fn first_rule(&self) -> Option<&str> {
        self.first_rule.as_deref()
    }

    /// Writes the chains that differ from what is there, and deletes those that are no longer needed.
    pub(crate) fn render(&mut self, dispatch: &impl Dispatch<V>, text: &mut TableText) {
        if self.dirty.is_empty() && !self.chains.is_empty() {
            return;
        }
        self.dirty.sort_unstable();
        self.dirty.dedup();
        self.visit(Prefix::ROOT, dispatch, text);
        self.dirty.clear();
    }

    /// Writes the chain of a prefix, and before it those that it leads to.
    fn visit(&mut self, prefix: Prefix, dispatch: &impl Dispatch<V>, text: &mut TableText) {
        let there = self.chains.get(&prefix).copied();
        if there.is_some() && !self.is_dirty(prefix) {
            return;
        }
        let groups = self.groups(prefix, dispatch);
        let children: Vec<Prefix> = groups
            .iter()
            .filter_map(|group| match group {
                Group::Chain(child) => Some(*child),
                Group::Entry(_) => None,
            })
            .collect();
        self.delete_between(prefix, &children, dispatch, text);
        for child in children.into_iter().rev() {
            self.visit(child, dispatch, text);
        }
        let name = dispatch.chain(prefix);
        let mut first_rule = None;
        let state = text.chain(Part::Dispatch, name, there, |rules| {
            let start = rules.text.len();
            self.write(prefix, &groups, dispatch, rules);
            if prefix == Prefix::ROOT {
                first_rule = first_rule_of(&rules.text[start..]);
            }
        });
        if prefix == Prefix::ROOT {
            self.first_rule = first_rule;
        }
        self.chains.insert(prefix, state);
    }

    fn write(
        &self,
        prefix: Prefix,
        groups: &[Group],
        dispatch: &impl Dispatch<V>,
        rules: &mut Rules<'_>,
    ) {
        for group in groups {
            self.write_group(prefix, group, dispatch, rules);
        }
        if prefix == Prefix::ROOT {
            dispatch.tail(rules);
        }
    }

    fn write_group(
        &self,
        prefix: Prefix,
        group: &Group,
        dispatch: &impl Dispatch<V>,
        rules: &mut Rules<'_>,
    ) {
        match group {
            Group::Entry(key) => {
                if let Some(value) = self.entries.get(key) {
                    dispatch.entry(key, value, rules);
                }
            }
            Group::Chain(child) => dispatch.branch(*child, prefix == Prefix::ROOT, rules),
        }
    }

    /// The chains that a packet with this key passes, from the root on.
    pub(crate) fn way_to(&self, key: &Key, dispatch: &impl Dispatch<V>) -> Vec<Passed> {
        let mut way = Vec::new();
        let mut next = Some(Prefix::ROOT);
        while let Some(prefix) = next.take() {
            let groups = self.groups(prefix, dispatch);
            let mut own = 0..0;
            let chain = dispatch.chain(prefix);
            let rules = written(chain, |rules| {
                for group in &groups {
                    let before = rules.count as usize;
                    self.write_group(prefix, group, dispatch, rules);
                    let leads = match group {
                        Group::Entry(entry) => entry == key,
                        Group::Chain(child) => (child.bits..=child.last()).contains(&key.bits),
                    };
                    if leads {
                        own = before..rules.count as usize;
                        next = match group {
                            Group::Chain(child) => Some(*child),
                            Group::Entry(_) => None,
                        };
                    }
                }
                if prefix == Prefix::ROOT {
                    dispatch.tail(rules);
                }
            });
            way.push(Passed { chain, rules, own });
        }
        way
    }

    /// The root, and in it the rules that follow the entries.
    pub(crate) fn root_with_tail(&self, dispatch: &impl Dispatch<V>) -> Passed {
        let groups = self.groups(Prefix::ROOT, dispatch);
        let chain = dispatch.chain(Prefix::ROOT);
        let mut start = 0;
        let rules = written(chain, |rules| {
            for group in &groups {
                self.write_group(Prefix::ROOT, group, dispatch, rules);
            }
            start = rules.count as usize;
            dispatch.tail(rules);
        });
        Passed { chain, own: start..rules.len(), rules }
    }

    /// Deletes the chains within `prefix` that are in none of its children.
    fn delete_between(
        &mut self,
        prefix: Prefix,
        children: &[Prefix],
        dispatch: &impl Dispatch<V>,
        text: &mut TableText,
    ) {
        let mut stale = Vec::new();
        let mut from = Excluded(prefix);
        for child in children {
            stale.extend(self.chains.range((from, Excluded(*child))).map(|(chain, _)| *chain));
            // Nothing within the child: every prefix up to the longest one at its very end is.
            from = Excluded(Prefix { bits: child.last(), length: u8::MAX });
        }
        let end = Included(Prefix { bits: prefix.last(), length: u8::MAX });
        stale.extend(self.chains.range((from, end)).map(|(chain, _)| *chain));
        for chain in &stale {
            self.chains.remove(chain);
        }
        text.delete(stale.into_iter().map(|chain| dispatch.chain(chain)).collect());
    }

    /// What the chain of `prefix` holds.
    fn groups(&self, prefix: Prefix, dispatch: &impl Dispatch<V>) -> Vec<Group> {
        let root = prefix == Prefix::ROOT;
        let capacity = match self.shape {
            Shape::List => usize::MAX,
            Shape::Tree if root => LINEAR,
            Shape::Tree => LEAF,
        };
        if self.fits(prefix, capacity) || prefix.length >= dispatch.width() {
            return self.within(prefix).map(|(k, _)| Group::Entry(*k)).collect();
        }
        let mut groups = Vec::new();
        if root {
            for top in dispatch.top() {
                self.split(top, STRIDE - 1, dispatch.width(), &mut groups);
            }
        } else {
            for half in prefix.halves() {
                self.split(half, STRIDE - 1, dispatch.width(), &mut groups);
            }
        }
        groups
    }

    /// Halves a prefix until what is in it fits into a chain, at most `depth` times.
    fn split(&self, prefix: Prefix, depth: u8, width: u8, groups: &mut Vec<Group>) {
        let mut within = self.within(prefix).map(|(key, _)| *key);
        let Some(first) = within.next() else {
            return;
        };
        if within.next().is_none() {
            groups.push(Group::Entry(first));
        } else if self.fits(prefix, LEAF) || prefix.length >= width {
            groups.push(Group::Chain(prefix));
        } else if depth > 0 {
            for half in prefix.halves() {
                self.split(half, depth - 1, width, groups);
            }
        } else {
            let last = self.within(prefix).next_back().map_or(first, |(k, _)| *k);
            groups.push(Group::Chain(Prefix::common(first.bits, last.bits, width)));
        }
    }

    fn fits(&self, prefix: Prefix, capacity: usize) -> bool {
        self.within(prefix).nth(capacity).is_none()
    }

    fn within(&self, prefix: Prefix) -> impl DoubleEndedIterator<Item = (&Key, &V)> {
        let first = Key { bits: prefix.bits, protocol: Protocol::Tcp, port: 0 };
        let last = Key { bits: prefix.last(), protocol: Protocol::Sctp, port: u16::MAX };
        self.entries.range(first..=last)
    }

    /// Whether an entry within the prefix changed.
    fn is_dirty(&self, prefix: Prefix) -> bool {
        let first = self.dirty.partition_point(|bits| *bits < prefix.bits);
        self.dirty.get(first).is_some_and(|bits| *bits <= prefix.last())
    }
}

/// The first of some lines `-A CHAIN RULE`, without its chain.
fn first_rule_of(lines: &str) -> Option<String> {
    let mut words = lines.lines().next()?.splitn(3, ' ');
    words.nth(2).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests;
