//! The health-check node ports of Services: load balancers ask them which nodes have a ready endpoint.
//!
//! A Service of type `LoadBalancer` with external policy `Local` has such a port. Each family answers for itself, on all its addresses or on
//! those that take node ports: 200 as long as a ready endpoint is on this node and the proxy keeps up, else 503.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_proxy_core::{IpFamily, ObjectName, PerFamily, ServicePortName, Snapshot};
use tokio::sync::Notify;

mod answer;
mod listen;

pub use listen::{Listeners, Where};

/// The health-check node ports of one family: written by its sync thread, read by the servers.
#[derive(Debug, Default)]
pub struct HealthPorts {
    services: Mutex<BTreeMap<ObjectName, HealthPort>>,
    /// Which ports there are has changed.
    changed: Notify,
}

/// The health-check node port of one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthPort {
    /// The port.
    pub port: NonZeroU16,
    /// Addresses of ready endpoints on this node.
    pub local_endpoints: usize,
}

impl HealthPorts {
    /// Those of both families, empty.
    pub fn per_family() -> PerFamily<Arc<Self>> {
        PerFamily::from_fn(|_: IpFamily| Arc::default())
    }

    /// Takes over what a sync put on the node.
    pub fn update(&self, snapshot: &Snapshot, changed: &BTreeSet<ServicePortName>) {
        let names: BTreeSet<&ObjectName> = changed.iter().map(|name| &name.service).collect();
        let mut services = self.lock();
        let mut other_ports = false;
        for name in names {
            let new = health_port(snapshot, name);
            let old = match new {
                Some(new) => services.insert(name.clone(), new),
                None => services.remove(name),
            };
            other_ports |= old.map(|old| old.port) != new.map(|new| new.port);
        }
        drop(services);
        if other_ports {
            self.changed.notify_one();
        }
    }

    /// That of a Service, if it has one now.
    fn get(&self, service: &ObjectName) -> Option<HealthPort> {
        self.lock().get(service).copied()
    }

    /// All Services with their ports.
    fn ports(&self) -> Vec<(ObjectName, NonZeroU16)> {
        self.lock().iter().map(|(name, health)| (name.clone(), health.port)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectName, HealthPort>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the snapshot says of a Service: endpoints are counted by address, over all its ports.
fn health_port(snapshot: &Snapshot, service: &ObjectName) -> Option<HealthPort> {
    let mut port = None;
    let mut local = BTreeSet::new();
    for (_, entry) in snapshot.ports_of(service) {
        port = port.or(entry.port.policy.health_check_node_port);
        let ready =
            entry.endpoints.iter().filter(|endpoint| endpoint.is_local() && endpoint.is_ready());
        local.extend(ready.map(|endpoint| endpoint.ip));
    }
    Some(HealthPort { port: port?, local_endpoints: local.len() })
}

#[cfg(test)]
mod tests;
