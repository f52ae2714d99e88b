//! Which changes of objects made a difference, for a history of them.

use std::collections::VecDeque;
use std::time::SystemTime;

use crate::{EndpointSlice, Kind, ObjectName};

/// Most changes that are kept until they are taken; of more, the oldest are dropped.
const MOST: usize = 512;

/// A change of an object that made a difference to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectChange {
    /// The Service that is affected.
    pub service: ObjectName,
    /// [`Kind::Service`] or [`Kind::EndpointSlice`].
    pub kind: Kind,
    /// The object that changed: the Service, or one of its slices.
    pub object: ObjectName,
    /// What happened to it.
    pub what: What,
    /// The endpoints of the slice; `None` for a Service, and for a slice that is gone.
    pub endpoints: Option<EndpointCount>,
    /// When that happened which led to this version of the slice, if the slice says so.
    pub trigger_time: Option<SystemTime>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is different.
    Changed,
    /// It is gone, or no longer of this family.
    Removed,
}

/// The endpoints of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointCount {
    /// Those that are ready.
    pub ready: usize,
    /// All.
    pub total: usize,
}

impl EndpointCount {
    pub(super) fn of(slice: &EndpointSlice) -> Self {
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready).count();
        Self { ready, total: slice.endpoints.len() }
    }
}

impl ObjectChange {
    pub(super) fn of_service(name: &ObjectName, what: What) -> Self {
        Self {
            service: name.clone(),
            kind: Kind::Service,
            object: name.clone(),
            what,
            endpoints: None,
            trigger_time: None,
        }
    }

    pub(super) fn of_slice(service: &ObjectName, slice: &ObjectName, what: What) -> Self {
        Self {
            service: service.clone(),
            kind: Kind::EndpointSlice,
            object: slice.clone(),
            what,
            endpoints: None,
            trigger_time: None,
        }
    }
}

/// Changes that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct ObjectChanges(VecDeque<ObjectChange>);

impl ObjectChanges {
    pub(super) fn push(&mut self, change: ObjectChange) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(change);
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = ObjectChange> + '_ {
        self.0.drain(..)
    }
}

#[cfg(test)]
mod tests;
