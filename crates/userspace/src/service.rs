//! One service port as the data path sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube_proxy_core::{ProxyProtocol, ServicePortName};

use crate::balance::{Balancer, Class, Endpoints};
use crate::limits::Complaint;
use crate::relay::Means;
use crate::traffic::{Counters, Target};

/// What every listener of a family shares.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// A UDP session that was silent for so long ends.
    pub(crate) udp_idle: Duration,
    /// How bytes are moved.
    pub(crate) means: Means,
    /// Sockets ran out on the way to endpoints.
    pub(crate) dialing: Complaint,
    /// Sockets ran out for new connections of clients.
    pub(crate) accepting: Complaint,
}

/// A service port: its balancing state and its counters. Listeners and connections share it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServicePortName,
    pub(crate) counters: Counters,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    balancer: Balancer,
    proxy_protocol: Option<ProxyProtocol>,
}

impl Service {
    pub(crate) fn new(name: ServicePortName, balancer: Balancer) -> Self {
        let state = Mutex::new(State { balancer, proxy_protocol: None });
        Self { name, counters: Counters::default(), state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the snapshot says now.
    pub(crate) fn update(&self, endpoints: Endpoints, proxy_protocol: Option<ProxyProtocol>) {
        let mut state = self.state();
        state.balancer.update(endpoints, Instant::now());
        state.proxy_protocol = proxy_protocol;
    }

    /// The next endpoint for a client; `again` if the last one could not be reached.
    pub(crate) fn pick(&self, class: Class, client: IpAddr, again: bool) -> Option<Arc<Target>> {
        self.state().balancer.pick(class, client, again, Instant::now())
    }

    /// An endpoint could not be reached.
    pub(crate) fn failed(&self, target: &Target) {
        self.counters.failed();
        target.counters.failed();
        self.state().balancer.failed(target.address, Instant::now());
    }

    /// Whether an endpoint still answers, so that UDP sessions with it go on.
    pub(crate) fn serves(&self, endpoint: &SocketAddr) -> bool {
        self.state().balancer.serves(endpoint)
    }

    /// What connections to endpoints begin with.
    pub(crate) fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        self.state().proxy_protocol
    }

    /// The endpoints with their counters.
    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        self.state().balancer.targets().cloned().collect()
    }
}

/// Counts a connection for as long as it is there.
pub(crate) struct Counted {
    pub(crate) service: Arc<Service>,
    pub(crate) target: Arc<Target>,
}

impl Counted {
    pub(crate) fn begin(service: Arc<Service>, target: Arc<Target>) -> Self {
        service.counters.opened();
        target.counters.opened();
        Self { service, target }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.service.counters.sent(bytes);
        self.target.counters.sent(bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.service.counters.received(bytes);
        self.target.counters.received(bytes);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.service.counters.closed();
        self.target.counters.closed();
    }
}
