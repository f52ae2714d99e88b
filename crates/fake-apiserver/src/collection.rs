//! The objects of one type and what happened to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::object::{Object, key};

/// All objects of one type at one resourceVersion, sorted by key.
pub(super) type View = Arc<[Arc<Object>]>;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeKind {
    /// It was created.
    Added,
    /// It was updated.
    Modified,
    /// It was deleted.
    Deleted,
}

/// One write.
#[derive(Debug)]
pub(super) struct Change {
    /// What happened.
    pub(super) kind: ChangeKind,
    /// The object after the write; for a deletion its last content with the resourceVersion of the deletion.
    pub(super) object: Arc<Object>,
    /// The object before the write.
    pub(super) previous: Option<Arc<Object>>,
}

/// The objects of one type.
#[derive(Debug, Default)]
pub(super) struct Collection {
    pub(super) objects: BTreeMap<Box<str>, Arc<Object>>,
    pub(super) history: VecDeque<Change>,
    /// The resourceVersion of the last change.
    pub(super) changed: u64,
    /// The resourceVersion of the newest change that is no longer in the history.
    pub(super) dropped: u64,
}

impl Collection {
    /// The version of the last change at or before a resourceVersion.
    pub(super) fn last_change_at(&self, version: u64) -> u64 {
        if version >= self.changed {
            return self.changed;
        }
        let after = self.history.partition_point(|c| c.object.version <= version);
        after.checked_sub(1).map_or(self.dropped, |at| self.history[at].object.version)
    }

    /// Undoes the changes after a version on a copy of the current objects.
    pub(super) fn view_at(&self, version: u64) -> View {
        if version >= self.changed {
            return self.objects.values().cloned().collect();
        }
        let mut objects = self.objects.clone();
        let undone = self.history.iter().rev().take_while(|c| c.object.version > version);
        for change in undone {
            let key = key(&change.object.namespace, &change.object.name).into();
            match &change.previous {
                Some(previous) => objects.insert(key, Arc::clone(previous)),
                None => objects.remove(&key),
            };
        }
        objects.into_values().collect()
    }
}
