//! What the data path shows to the rest of the program.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kube_proxy_core::ServicePortName;

use crate::service::Service;

/// Sees what the data path does; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    services: Arc<Mutex<Vec<Weak<Service>>>>,
    local_node_ports: Arc<LocalNodePortCounts>,
}

/// What there is of listening at node ports on loopback.
#[derive(Debug, Default)]
pub struct LocalNodePortCounts {
    listeners: AtomicU64,
    failures: AtomicU64,
}

impl LocalNodePortCounts {
    /// Ports that are listened at now.
    pub fn listeners(&self) -> u64 {
        self.listeners.load(Relaxed)
    }

    /// How often one could not be opened.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(crate) fn listening(&self, ports: usize) {
        self.listeners.store(ports as u64, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }
}

/// The activity at one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The service port.
    pub service: ServicePortName,
    /// Connections and UDP sessions that are open.
    pub open: u64,
    /// How often an endpoint could not be reached.
    pub failures: u64,
}

impl Observer {
    fn services(&self) -> MutexGuard<'_, Vec<Weak<Service>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, service: &Arc<Service>) {
        let mut services = self.services();
        if services.len() == services.capacity() {
            services.retain(|service| service.strong_count() > 0);
        }
        services.push(Arc::downgrade(service));
    }

    /// What is counted of [`LocalNodePorts`](crate::LocalNodePorts) that were made with it.
    pub fn local_node_ports(&self) -> &LocalNodePortCounts {
        &self.local_node_ports
    }

    /// The activity of every service port that is served, or still has connections.
    pub fn activity(&self) -> Vec<Activity> {
        let services: Vec<_> = self.services().iter().filter_map(Weak::upgrade).collect();
        let activity = services.iter().map(|service| Activity {
            service: service.name.clone(),
            open: service.counters.open(),
            failures: service.counters.failures(),
        });
        activity.collect()
    }
}
