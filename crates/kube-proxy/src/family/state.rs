//! What others see of a family: how far it is, and its service ports.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::history::{Change, Changes};
use kube_proxy_core::{
    Conflict, IpFamily, ObjectName, ServiceEntry, ServicePort, ServicePortName, Session, Tracker,
};

/// Which service ports are meant. By default all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceFilter {
    /// Those in this namespace.
    pub namespace: Option<String>,
    /// Those of Services with this name.
    pub name: Option<String>,
}

/// The session of a client, if it has one; or why that is not known.
pub type FoundSession = Result<Option<Session>, String>;

/// How far a family is.
#[derive(Clone, Debug)]
pub struct FamilyState {
    /// The family.
    pub family: IpFamily,
    /// When the last sync succeeded.
    pub synced: Option<SystemTime>,
    /// For how long a change has waited to be written.
    pub waiting: Option<Duration>,
    /// Why the last sync failed, if it did.
    pub failure: Option<String>,
    /// The address of this node.
    pub node_ip: Option<IpAddr>,
    /// The last changes of Services and endpoints.
    pub changes: Changes,
    /// Services ask for a fast path that the node does not have.
    pub lacks_fast_path: bool,
    /// The zone of this node.
    pub zone: Option<Arc<str>>,
}

/// Service ports of a family as of its last sync.
#[derive(Clone, Debug)]
pub struct FamilyServices {
    /// How far the family is.
    pub state: FamilyState,
    /// Those asked for, sorted by name.
    pub ports: Vec<ServedPort>,
    /// All frontends that several service ports ask for.
    pub conflicts: Vec<Conflict>,
}

/// A service port.
#[derive(Clone, Debug)]
pub struct ServedPort {
    /// Its name.
    pub name: ServicePortName,
    /// What the backend has of it.
    pub entry: Arc<ServiceEntry>,
    /// What its Service asks for, where it lost frontends to others.
    pub requested: Option<ServicePort>,
}

impl ServiceFilter {
    /// Whether a service port is meant.
    pub fn matches(&self, name: &ServicePortName) -> bool {
        self.matches_service(&name.service)
    }

    /// Whether the ports of a Service are meant.
    pub fn matches_service(&self, name: &ObjectName) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
        is(&self.namespace, &name.namespace) && is(&self.name, &name.name)
    }
}

impl FamilyState {
    /// The last change of each Service that changed, or whose endpoints did.
    pub(crate) fn last_changes(&self) -> HashMap<&ObjectName, &Change> {
        self.changes.last.iter().map(|change| (&change.object.service, change)).collect()
    }
}

impl FamilyServices {
    /// Those of a tracker, as of its last fold.
    pub(crate) fn of(tracker: &Tracker, filter: &ServiceFilter, state: FamilyState) -> Self {
        let entries = tracker.snapshot().services.iter();
        let served = |(name, entry): (&ServicePortName, &Arc<ServiceEntry>)| ServedPort {
            name: name.clone(),
            entry: entry.clone(),
            requested: tracker.requested(name).filter(|port| **port != entry.port).cloned(),
        };
        let ports = entries.filter(|(name, _)| filter.matches(name)).map(served).collect();
        Self { state, ports, conflicts: tracker.conflicts() }
    }
}
