//! The last changes of Services and endpoints that reached a family: when they were received, and when the kernel had them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use kube_proxy_core::tracker::ObjectChange;

/// Most changes that are remembered.
const MOST: usize = 512;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What changed.
    pub object: ObjectChange,
    /// When this process received it.
    pub received: SystemTime,
    /// When the node had it: the end of the sync that carried it out, also where nothing had to be written. `None` while it waits.
    pub in_kernel: Option<SystemTime>,
}

/// The last changes, as others see them.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The oldest first.
    pub last: Arc<[Change]>,
    /// Every change since then is there.
    pub since: SystemTime,
}

/// The last changes of one family.
#[derive(Debug)]
pub(super) struct History {
    changes: VecDeque<Change>,
    since: SystemTime,
}

impl History {
    pub(super) fn new(now: SystemTime) -> Self {
        Self { changes: VecDeque::new(), since: now }
    }

    /// Adds changes that came with one event.
    pub(super) fn add(
        &mut self,
        objects: impl Iterator<Item = ObjectChange>,
        received: SystemTime,
    ) {
        for object in objects {
            if self.changes.len() == MOST
                && let Some(dropped) = self.changes.pop_front()
            {
                self.since = dropped.received;
            }
            self.changes.push_back(Change { object, received, in_kernel: None });
        }
    }

    /// The node has everything that was received so far.
    pub(super) fn written(&mut self, now: SystemTime) {
        let waiting = self.changes.iter_mut().rev().take_while(|c| c.in_kernel.is_none());
        waiting.for_each(|change| change.in_kernel = Some(now));
    }

    pub(super) fn changes(&self) -> Changes {
        Changes { last: self.changes.iter().cloned().collect(), since: self.since }
    }
}

#[cfg(test)]
mod tests;
