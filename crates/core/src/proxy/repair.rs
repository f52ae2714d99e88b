//! What repeats is repaired, not repeated: how deep the next sync goes after some that were refused.

use crate::{Refusal, Repair, Scope, SyncError};

/// This many refusals of a full sync, of whatever objects, count as one that repeats.
const ANY: usize = 4;

/// How deep a sync went after one that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RepairLevel {
    /// Everything was compared with what is on the node.
    Full,
    /// The object that was refused was written again.
    Object,
    /// Everything was written again.
    Table,
}

impl RepairLevel {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Full, Self::Object, Self::Table];

    /// Its name, as the label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Object => "object",
            Self::Table => "table",
        }
    }
}

/// The refusals since the last success. The level rises from one to the next and never falls before a success.
#[derive(Debug, Default)]
pub(super) struct Escalation {
    /// Those of full syncs and of what led to the first; `None` where the object is not known.
    refusals: Vec<Option<Refusal>>,
    level: Option<RepairLevel>,
}

impl Escalation {
    /// Takes in how a sync ended. Failures of other kinds neither raise the level nor lower it.
    pub(super) fn ended<T>(&mut self, result: &Result<T, SyncError>) {
        let refusal = match result {
            Ok(_) => return *self = Self::default(),
            Err(SyncError::RefusedObject { refusal, .. }) => Some(refusal.clone()),
            Err(SyncError::NotFound(_) | SyncError::Refused(_)) => None,
            Err(SyncError::Unsupported(_) | SyncError::Busy(_) | SyncError::Io { .. }) => return,
        };
        let repeats = self.refusals.contains(&refusal) || self.refusals.len() + 1 >= ANY;
        self.level = Some(match self.level {
            None => RepairLevel::Full,
            Some(RepairLevel::Full) if !repeats => RepairLevel::Full,
            Some(RepairLevel::Full) if refusal.is_some() => RepairLevel::Object,
            Some(_) => RepairLevel::Table,
        });
        self.refusals.push(refusal);
        if self.refusals.len() > ANY {
            self.refusals.remove(0);
        }
    }

    /// How deep the next sync goes, if the last one was refused.
    pub(super) fn level(&self) -> Option<RepairLevel> {
        self.level
    }

    /// The scope of the next sync, if it goes deeper than a full one.
    pub(super) fn scope(&self) -> Option<Scope<'_>> {
        match (self.level?, self.refusals.last()?) {
            (RepairLevel::Full, _) => None,
            (RepairLevel::Object, Some(refusal)) => Some(Scope::Repair(Repair::Object(refusal))),
            (RepairLevel::Object, None) | (RepairLevel::Table, _) => {
                Some(Scope::Repair(Repair::Table))
            }
        }
    }
}

#[cfg(test)]
mod tests;
