//! What is counted: connections and bytes, by service port and by endpoint.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kube_proxy_core::{ServicePortName, Traffic, TrafficBytes};

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
            bytes: Some(TrafficBytes {
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
