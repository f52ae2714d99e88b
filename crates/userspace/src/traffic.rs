//! What is counted: connections and bytes, by service port and by endpoint.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kube_proxy_core::{Bytes, ServicePortName, Traffic};

use crate::service::Service;

/// Counters that any thread may raise.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    closed: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    /// A connection, or a UDP session, began.
    pub(crate) fn opened(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// It ended.
    pub(crate) fn closed(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    /// Bytes from the client to the endpoint.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes from the endpoint to the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// An endpoint could not be reached.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.connections.load(Relaxed).saturating_sub(self.closed.load(Relaxed))
    }

    /// How often an endpoint could not be reached.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// As core wants it.
    pub(crate) fn traffic(&self, service: &ServicePortName, to: Option<SocketAddr>) -> Traffic {
        Traffic {
            service: service.clone(),
            endpoint: to,
            connections: self.connections.load(Relaxed),
            bytes: Some(Bytes {
                sent: self.sent.load(Relaxed),
                received: self.received.load(Relaxed),
            }),
        }
    }
}

/// An endpoint with its counters.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) counters: Counters,
}

impl Target {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, counters: Counters::default() }
    }
}

/// Sees what the data path does; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Observer(Arc<Mutex<Vec<Weak<Service>>>>);

/// What goes on at one service port.
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, service: &Arc<Service>) {
        let mut services = self.services();
        if services.len() == services.capacity() {
            services.retain(|service| service.strong_count() > 0);
        }
        services.push(Arc::downgrade(service));
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
