//! Numbers of elements.

use crate::diff::Diff;
use crate::element::SetId;

/// The number of elements in each set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts([usize; SetId::ALL.len()]);

impl Counts {
    /// The number of elements in a set.
    pub(crate) fn of(&self, set: SetId) -> usize {
        self.0[set as usize]
    }

    /// Counts an element.
    pub(crate) fn add(&mut self, set: SetId) {
        self.0[set as usize] += 1;
    }

    /// Follows the changes of a transaction.
    pub(crate) fn change(&mut self, diff: &Diff) {
        for set in &diff.flushed {
            self.0[*set as usize] = 0;
        }
        for (set, items) in diff.added.iter() {
            self.0[set as usize] += items.len();
        }
        for (set, items) in diff.deleted.iter() {
            self.0[set as usize] = self.0[set as usize].saturating_sub(items.len());
        }
    }

    /// The number of elements in all sets.
    pub(crate) fn elements(&self) -> usize {
        self.0.iter().sum()
    }
}
