//! The Kubernetes API as a source: list and watch of the four kinds.
//!
//! One state machine per kind, all on the caller's runtime:
//!
//! ```text
//!            ┌────────── 410, or the server does not know the version ──────────┐
//!            ▼                                                                  │
//!   list ──▶ streaming list (KEP-3157) ── end of initial events ──▶ watch ──────┤
//!            └─ refused ─▶ pages of 500 ─── last page ────────────▶   ▲         │
//!                                                                     └ dropped, stalled: continue from the last version
//! ```
//!
//! Errors are retried with a growing, jittered delay, as the server asks for if it does. Meanwhile no events come, so traffic keeps its
//! last good state: a list announces what is gone only at its end.

use std::sync::Arc;

use kube_proxy_core::Kind;

use crate::Sink;
use crate::context::Context;
use crate::problems::Problems;

mod accept;
mod api;
mod backoff;
mod body;
mod client;
mod config;
mod events;
mod failure;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod lines;
mod observe;
mod outage;
mod post;
mod rate;
mod retry_after;
mod status;
mod watcher;

use accept::Accept;
use api::Api;
use client::Transport;
pub use config::{ConfigError, KubernetesOptions, Timing};
pub use observe::{Answered, Observer};
pub use post::{PostError, Poster};
pub use status::ApiStatus;

use outage::Outages;
use rate::RateLimit;
use watcher::Watcher;

/// Lists and watches Services, EndpointSlices, the own Node and ServiceCIDRs.
pub struct KubernetesSource {
    shared: Arc<Shared>,
}

/// What the state machines of all kinds share.
struct Shared {
    api: Api,
    node_name: String,
    timing: Timing,
    rate: RateLimit,
    context: Context,
    problems: Problems,
    status: ApiStatus,
    outages: Outages,
}

impl KubernetesSource {
    /// Reads the configuration and prepares the client. Nothing is sent yet, so the server need not be there.
    ///
    /// A runtime of tokio with I/O and time has to be entered, the one that [`run`](Self::run) will be awaited on too.
    ///
    /// # Errors
    /// The kubeconfig cannot be read or makes no sense, or there is none and the process does not run in a cluster.
    pub fn new(options: KubernetesOptions, problems: Problems) -> Result<Self, ConfigError> {
        let settings = config::load(&options)?;
        let server = settings.server.to_string();
        let transport = Transport::new(settings, options.timing.connect);
        let transport = Arc::new(transport.map_err(ConfigError::Client)?);
        let accept = Accept::new(&options.content_type, &options.accept_content_types);
        let shared = Shared {
            api: Api::new(transport, accept, options.timing.response, options.observer),
            node_name: options.node_name,
            timing: options.timing,
            rate: RateLimit::new(options.qps, options.burst),
            context: Context::new(options.trust),
            problems,
            status: ApiStatus::default(),
            outages: Outages::new(server),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Writes to the same server, at a rate of its own.
    pub fn poster(&self, qps: f32, burst: u32) -> Poster {
        Poster::new(self.shared.clone(), qps, burst)
    }

    /// When the server last answered.
    pub fn status(&self) -> ApiStatus {
        self.shared.status.clone()
    }

    /// Lists and watches until the future is dropped; it never ends by itself.
    pub async fn run(self, sink: Sink) {
        let Self { shared } = self;
        // Nodes that start at once, after a power cut or with a new version, do not ask at once.
        tokio::time::sleep(shared.timing.start.mul_f64(backoff::random())).await;
        let watcher = |kind| Watcher::new(shared.clone(), kind, sink.clone()).run();
        let services = watcher(Kind::Service);
        let slices = watcher(Kind::EndpointSlice);
        let node = watcher(Kind::Node);
        let cidrs = watcher(Kind::ServiceCidr);
        let files = shared.api.transport().follow_files(shared.timing.credentials);
        futures::future::join5(services, slices, node, cidrs, files).await;
    }
}
