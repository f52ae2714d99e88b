//! One service port as the data path sees it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use kube_proxy_core::conntrack::PATIENCE;
use kube_proxy_core::{Endpoint, ServicePortName, Session, TrafficPolicy};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::balance::{Balancer, Endpoints};
use crate::copy_strategy::CopyStrategy;
use crate::limits::{Descriptors, LogOnce, share};
use crate::own;
use crate::proxy_header::ProxyProtocol;
use crate::traffic::{Counters, Target};

/// What every listener of a family shares.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// A UDP session that was silent for so long ends.
    pub(crate) udp_idle: Duration,
    /// How bytes are moved.
    pub(crate) strategy: CopyStrategy,
    /// Sockets ran out on the way to endpoints.
    pub(crate) dialing: LogOnce,
    /// Sockets ran out for new connections of clients.
    pub(crate) accepting: LogOnce,
    /// Sockets towards endpoints could not be marked.
    pub(crate) marking: LogOnce,
}

impl Shared {
    /// Marks a socket towards an endpoint. Without the mark it works, but nothing keeps it from coming back here.
    pub(crate) fn mark(&self, socket: &impl std::os::fd::AsFd) {
        match own::mark(socket) {
            Ok(()) => self.marking.over(),
            Err(error) => self.marking.once(|| {
                tracing::warn!(
                    %error,
                    "cannot mark connections to endpoints; loops through this node are bounded only"
                );
            }),
        }
    }
}

/// A service port: its balancing state and its counters. Listeners and connections share it.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: ServicePortName,
    pub(crate) counters: Counters,
    /// What its connections and sessions hold.
    descriptors: AtomicU64,
    full: LogOnce,
    state: Mutex<State>,
    /// Every endpoint, whatever its state, while connections to those that left are to be ended. Nothing before that is wanted.
    present: OnceLock<watch::Sender<Present>>,
}

type Present = Option<Arc<[Endpoint]>>;

#[derive(Debug)]
struct State {
    balancer: Balancer,
    proxy_protocol: Option<ProxyProtocol>,
}

impl Service {
    pub(crate) fn new(name: ServicePortName, balancer: Balancer) -> Self {
        let state = Mutex::new(State { balancer, proxy_protocol: None });
        Self {
            name,
            counters: Counters::default(),
            descriptors: AtomicU64::new(0),
            full: LogOnce::default(),
            state,
            present: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Descriptors for a connection or session, unless this service port has its share already.
    pub(crate) fn reserve(self: &Arc<Self>, count: u64) -> Option<Reserved> {
        let held = self.descriptors.fetch_add(count, Relaxed) + count;
        let reserved =
            Reserved { service: self.clone(), count, _descriptors: Descriptors::take(count) };
        let share = share();
        if held <= share {
            if held < share / 2 {
                self.full.over();
            }
            return Some(reserved);
        }
        self.counters.failed();
        self.full.once(|| {
            tracing::error!(
                service = %self.name,
                descriptors = held - count,
                "new clients are refused: connections of this service port hold as many file descriptors as are left for all others"
            );
        });
        None
    }

    /// Takes over what the snapshot says now.
    pub(crate) fn update(&self, endpoints: Endpoints, proxy_protocol: Option<ProxyProtocol>) {
        let mut state = self.state();
        state.balancer.update(endpoints, Instant::now());
        state.proxy_protocol = proxy_protocol;
    }

    /// Says which endpoints there are, if connections to those that left are to be ended.
    pub(crate) fn set_present(&self, present: Present) {
        if present.is_some() || self.present.get().is_some() {
            self.present.get_or_init(|| watch::channel(None).0).send_replace(present);
        }
    }

    /// Ends when an endpoint has left; `None` if connections to it are not to be ended then.
    pub(crate) fn departure(
        &self,
        endpoint: SocketAddr,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let present = self.present.get().filter(|present| present.borrow().is_some())?.subscribe();
        Some(has_left(present, endpoint))
    }

    /// The next endpoint for a client; `failed` is the last one, if it could not be reached.
    pub(crate) fn pick(
        &self,
        policy: TrafficPolicy,
        client: SocketAddr,
        failed: Option<SocketAddr>,
    ) -> Option<Arc<Target>> {
        self.state().balancer.pick(policy, client, failed, Instant::now())
    }

    /// The session of a client.
    pub(crate) fn session(&self, policy: TrafficPolicy, client: IpAddr) -> Option<Session> {
        self.state().balancer.remembered(policy, client, Instant::now())
    }

    /// An endpoint could not be reached.
    pub(crate) fn failed(&self, target: &Target) {
        self.counters.failed();
        target.counters.failed();
        self.state().balancer.failed(target.address, Instant::now());
    }

    /// Whether an endpoint still answers, so that UDP sessions with it continue.
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

/// Waits until an endpoint is missing for long enough.
async fn has_left(mut present: watch::Receiver<Present>, endpoint: SocketAddr) {
    let is_missing = |present: &Present| {
        let search = |all: &Arc<[Endpoint]>| {
            all.binary_search_by_key(&endpoint, Endpoint::socket_address).is_err()
        };
        present.as_ref().is_some_and(search)
    };
    // The sender is dropped together with the service port, which this connection holds.
    while present.wait_for(is_missing).await.is_ok() {
        let is_back = present.wait_for(|present| !is_missing(present));
        if timeout(PATIENCE, is_back).await.is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Descriptors of a service port, given back when dropped.
pub(crate) struct Reserved {
    service: Arc<Service>,
    count: u64,
    _descriptors: Descriptors,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.service.descriptors.fetch_sub(self.count, Relaxed);
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
