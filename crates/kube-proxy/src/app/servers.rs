//! The health server, the metrics server, and the health-check node ports of Services.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kube_proxy_core::{IpFamily, NodePortAddresses};
use tokio::sync::watch;

use super::context::Context;
use crate::commands;
use crate::debug::DebugPages;
use crate::family::client::FamilyClient;
use crate::modes;
use crate::node::local_addresses;
use crate::node::watch::NodeStatus;
use crate::serve::http::{self, Handler, Limits};
use crate::serve::pages::{HealthServer, MetricsServer, Zpages};
use crate::serve::service_health::{Listeners, Where};
use crate::sources::ProblemReport;
use crate::telemetry::events::Event;
use crate::telemetry::logging::Verbosity;
use crate::telemetry::profiling;

/// Longest time for the last events before the process ends.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Metrics that are being read.
type Refreshing = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Context<'_> {
    pub(super) async fn health_server(&self) -> anyhow::Result<()> {
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let handler = Arc::new(HealthServer { health, metrics });
        let served = self.server("health", self.config.healthz_address, Limits::default(), handler);
        self.tell(served.await, Event::health_server_failed).await
    }

    pub(super) async fn metrics_server(
        &self,
        verbosity: Verbosity,
        problems: ProblemReport,
    ) -> anyhow::Result<()> {
        let zpages = Zpages {
            started: SystemTime::now(),
            flags: self.loaded.flags.clone(),
            gates: self.config.feature_gates.clone(),
        };
        let profiling = self.config.profiling;
        let handler = Arc::new(MetricsServer::new(
            self.metrics.clone(),
            self.config.mode,
            &self.loaded.configuration,
            zpages,
            profiling.then_some(verbosity),
            self.config.debug_pages.then(|| self.debug_pages()),
            self.refresh(problems),
        ));
        let mut limits = Limits::default();
        if profiling {
            limits.connection += profiling::MAX_DURATION;
        }
        let served = self.server("metrics", self.config.metrics_address, limits, handler);
        self.tell(served.await, Event::metrics_server_failed).await
    }

    fn debug_pages(&self) -> Arc<dyn Handler> {
        let (node, mode) = (self.config.node_name.clone(), self.config.mode.name());
        let (config, watch) = (self.config.clone(), self.node.clone());
        let facts = Arc::new(move |family| {
            modes::packet_facts::of_node(&config, family, &watch.news())
                .map_err(|error| format!("cannot list the addresses of this node: {error}"))
        });
        let silence = self.silence.clone();
        Arc::new(DebugPages::new(
            node,
            mode,
            self.families.clone(),
            facts,
            self.metrics.clone(),
            silence,
            commands::is_command,
        ))
    }

    /// Brings the metrics up to date that no event sets.
    fn refresh(
        &self,
        problems: ProblemReport,
    ) -> impl Fn() -> Refreshing + Send + Sync + 'static + use<> {
        let (metrics, families) = (self.metrics.clone(), self.families.clone());
        let counters = modes::entry(self.config.mode).metrics.counters;
        move || {
            problems.report(&metrics);
            let families = families.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let metrics = metrics.clone();
            Box::pin(async move {
                metrics.read_counters(counters).await;
                if metrics.traffic().is_on() {
                    // All are asked before the first is waited for.
                    let readings: Vec<_> =
                        families.iter().map(FamilyClient::read_traffic).collect();
                    for reading in readings {
                        reading.await;
                    }
                }
            })
        }
    }

    /// Runs one server; without an address it just never ends.
    async fn server(
        &self,
        what: &str,
        address: Option<SocketAddr>,
        limits: Limits,
        handler: Arc<dyn Handler>,
    ) -> anyhow::Result<()> {
        let Some(address) = address else { return std::future::pending().await };
        let listener = http::bind(what, address, self.config.bind_address_hard_fail)
            .await
            .with_context(|| format!("cannot listen on {address} for {what}"))?;
        http::serve(listener, limits, handler).await;
        Ok(())
    }

    /// An error ends the process: an event says so before.
    async fn tell(
        &self,
        result: anyhow::Result<()>,
        event: fn(&str) -> Event,
    ) -> anyhow::Result<()> {
        if let Err(error) = &result {
            self.events.send(event(&format!("{error:#}")));
            self.events.flush(LAST_EVENTS).await;
        }
        result
    }

    /// The health-check node ports of Services, of these families. Never ends.
    pub(super) async fn service_health_servers(&self, families: &[IpFamily]) -> anyhow::Result<()> {
        let run = async |family| {
            if families.contains(&family) {
                self.listen_for_services(family).await
            } else {
                std::future::pending().await
            }
        };
        tokio::try_join!(run(IpFamily::V4), run(IpFamily::V6)).map(|_| ())
    }

    async fn listen_for_services(&self, family: IpFamily) -> anyhow::Result<()> {
        let scope = |news: &NodeStatus| {
            self.config.node_port_addresses(family, news.address(self.config, family))
        };
        let node = self.node.subscribe();
        let everywhere = scope(&node.borrow()) == NodePortAddresses::All;
        // Where every address is meant, it does not matter which there are.
        let local = if everywhere {
            None
        } else {
            Some(local_addresses::follow().context("cannot start a thread")?)
        };
        let (sender, place) =
            watch::channel(Where { scope: scope(&node.borrow()), local: Vec::new() });
        let listeners = Listeners {
            family,
            ports: self.health_ports.get(family).clone(),
            health: self.health.clone(),
            events: self.events.clone(),
            place,
        };
        tokio::join!(listeners.run(), follow_place(sender, node, local, scope));
        Ok(())
    }
}

/// Keeps up to date where health-check node ports are: the node may move, and addresses come and go. Never ends.
async fn follow_place(
    place: watch::Sender<Where>,
    mut node: watch::Receiver<NodeStatus>,
    mut local: Option<watch::Receiver<Vec<IpAddr>>>,
    scope: impl Fn(&NodeStatus) -> NodePortAddresses,
) {
    loop {
        let now = Where {
            scope: scope(&node.borrow_and_update()),
            local: match &mut local {
                Some(local) => local.borrow_and_update().clone(),
                None => Vec::new(),
            },
        };
        place.send_if_modified(|known| {
            let differs = *known != now;
            *known = now;
            differs
        });
        let local_changed = async {
            match &mut local {
                Some(local) => wait_for(local).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait_for(&mut node) => {}
            () = local_changed => {}
        }
    }
}

/// Waits for a change; indefinitely when none can come any more.
async fn wait_for<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
