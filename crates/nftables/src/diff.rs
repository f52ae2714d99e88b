//! What has to change on the node.

use rustc_hash::FxHashSet;

use crate::chain::Chain;
use crate::element::{Item, SetId};

/// Changes to the table, in an order that holds at every moment: chains come before what leads to them and go after it,
/// and of an element that changes the old form goes before the new one comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Diff {
    /// Chains to make, with their rules.
    pub(crate) new_chains: Vec<Chain>,
    /// Chains that nothing leads to any more, to be deleted afterwards.
    pub(crate) stale_chains: Vec<Chain>,
    /// Sets that lose all their elements before the added ones come.
    pub(crate) flushed: Vec<SetId>,
    /// Elements to delete.
    pub(crate) deleted: PerSet,
    /// Elements to add.
    pub(crate) added: PerSet,
}

impl Diff {
    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.new_chains.is_empty()
            && self.stale_chains.is_empty()
            && self.flushed.is_empty()
            && self.deleted.is_empty()
            && self.added.is_empty()
    }

    /// Makes the chains exist that added elements lead to.
    pub(crate) fn need_chains_of_added(&mut self, known: &mut FxHashSet<Chain>) {
        let added = self.added.iter().flat_map(|(_, items)| items);
        let needed: Vec<_> = added.filter_map(Item::chain).collect();
        for chain in needed {
            self.need_chain(chain, known);
        }
    }

    /// Makes a chain exist, and first the one that it leads to.
    pub(crate) fn need_chain(&mut self, chain: Chain, known: &mut FxHashSet<Chain>) {
        if chain == Chain::Reject || known.contains(&chain) {
            return;
        }
        if let Some(next) = chain.leads_to() {
            self.need_chain(next, known);
        }
        known.insert(chain);
        self.new_chains.push(chain);
    }

    /// Gives a set these elements and no others, whatever it holds.
    pub(crate) fn replace(&mut self, set: SetId, items: impl IntoIterator<Item = Item>) {
        self.flushed.push(set);
        items.into_iter().for_each(|item| self.added.push(set, item));
    }

    /// Adds what turns one list of elements into another.
    pub(crate) fn compare(
        &mut self,
        mut before: Vec<(SetId, Item)>,
        mut after: Vec<(SetId, Item)>,
    ) {
        let key = |(set, item): &(SetId, Item)| (*set, item.key);
        before.sort_unstable_by_key(key);
        after.sort_unstable_by_key(key);
        let mut before = before.into_iter().peekable();
        for (set, item) in after {
            while let Some((old_set, old)) = before.next_if(|old| key(old) < (set, item.key)) {
                self.deleted.push(old_set, old);
            }
            match before.next_if(|old| key(old) == (set, item.key)) {
                Some((_, old)) if old == item => {}
                Some((old_set, old)) => {
                    self.deleted.push(old_set, old);
                    self.added.push(set, item);
                }
                None => self.added.push(set, item),
            }
        }
        for (set, old) in before {
            self.deleted.push(set, old);
        }
    }
}

/// Elements, by set.
#[derive(Clone, Debug)]
pub(crate) struct PerSet([Vec<Item>; SetId::ALL.len()]);

impl Default for PerSet {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Vec::new()))
    }
}

impl PerSet {
    /// Adds one.
    pub(crate) fn push(&mut self, set: SetId, item: Item) {
        self.0[set as usize].push(item);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    /// Those of one set.
    pub(crate) fn of(&self, set: SetId) -> &[Item] {
        &self.0[set as usize]
    }

    /// Takes out those of one set.
    pub(crate) fn take(&mut self, set: SetId) -> Vec<Item> {
        std::mem::take(&mut self.0[set as usize])
    }

    /// The sets that have any, with what they have.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SetId, &[Item])> {
        let all = SetId::ALL.iter().zip(&self.0);
        all.map(|(set, items)| (*set, items.as_slice())).filter(|(_, items)| !items.is_empty())
    }
}

#[cfg(test)]
mod tests;
