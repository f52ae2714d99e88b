//! The parts of the table that not every node needs: without them a table is as if there were no such feature.

use crate::Config;
use crate::element::SetId;
use crate::state::State;

/// Which of them are there, or are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The map that counts what source ranges drop.
    pub(crate) counts_dropped: bool,
    /// The flowtable.
    pub(crate) flowtable: bool,
    /// The sets of frontends that are in the fast path, or not, other than the rest of the node.
    pub(crate) choices: bool,
}

impl Parts {
    /// All of them.
    pub(crate) const ALL: Self = Self { counts_dropped: true, flowtable: true, choices: true };

    /// Those that a state needs.
    pub(crate) fn of(config: &Config, state: &State) -> Self {
        let choices = state.has_fast_path_choices();
        Self {
            counts_dropped: config.count_refused,
            flowtable: config.offload_after.is_some() || choices,
            choices,
        }
    }

    /// Whether the table has a set.
    pub(crate) fn has(self, set: SetId) -> bool {
        match set {
            SetId::FirewallDropped => self.counts_dropped,
            SetId::FastPathIps | SetId::FastPathNodeports => self.choices,
            _ => true,
        }
    }

    /// The sets of the table, in its order.
    pub(crate) fn sets(self) -> impl Iterator<Item = SetId> {
        SetId::ALL.into_iter().filter(move |set| self.has(*set))
    }

    /// The sets that these have and others have not.
    pub(crate) fn sets_beyond(self, others: Self) -> impl Iterator<Item = SetId> {
        self.sets().filter(move |set| !others.has(*set))
    }
}
