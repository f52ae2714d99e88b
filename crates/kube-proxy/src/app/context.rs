//! The parts that are put together once the node is known.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kube_proxy_core::{Intervals, IpFamily, NodePortAddresses, PerFamily, Proxy, TrackerOptions};
use tokio::sync::watch;

use crate::backends::{self, Created, NodeFacts};
use crate::config::{Effective, Loaded, Mode, NodePorts};
use crate::events::{Event, Events};
use crate::family_thread::{FamilyThread, Inbox, Replacement, Setup};
use crate::health::Health;
use crate::http::{self, Handler, Limits};
use crate::leftovers::Leftovers;
use crate::local_addresses;
use crate::logging::Verbosity;
use crate::metrics::Metrics;
use crate::node_watch::{NodeNews, NodeWatch};
use crate::profiling;
use crate::servers::{HealthServer, MetricsServer, Zpages};
use crate::service_health::{HealthPorts, Listeners, Where};

/// Without any reason to, the rules of a small cluster are written anew after this time.
const MAX_SYNC_INTERVAL: Duration = Duration::from_hours(1);
/// Longest time for the last events before the process ends.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// What the parts share while they are put together.
pub(super) struct Context<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) config: &'a Effective,
    /// The node as it was at the start.
    pub(super) news: &'a NodeNews,
    pub(super) node: &'a NodeWatch,
    pub(super) health: &'a Arc<Health>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) events: &'a Events,
    pub(super) health_ports: &'a PerFamily<Arc<HealthPorts>>,
}

impl Context<'_> {
    pub(super) fn start_families(
        &self,
        backends: Vec<(IpFamily, Created)>,
        mut inboxes: PerFamily<Option<Inbox>>,
        threads: &mut Vec<FamilyThread>,
    ) -> anyhow::Result<()> {
        for (family, Created { backend, running }) in backends {
            let inbox = inboxes.get_mut(family).take().unwrap_or_default();
            let proxy = Proxy::new(self.tracker(family), self.intervals(), backend);
            let setup = Setup {
                family,
                proxy,
                mode: self.config.mode,
                node_ports: backends::node_port_scope(self.config, family, self.news),
                check_period: self.config.sync_period,
                leftovers: Leftovers { family, running, retry: self.config.sync_period },
                health: self.health.clone(),
                metrics: self.metrics.clone(),
                health_ports: self.health_ports.get(family).clone(),
            };
            threads.push(FamilyThread::start(setup, inbox).context("cannot start a thread")?);
        }
        Ok(())
    }

    fn tracker(&self, family: IpFamily) -> TrackerOptions {
        let bind = self.config.bind_address;
        TrackerOptions {
            family,
            node_name: self.config.node_name.as_str().into(),
            node_ip: Some(bind).filter(|ip| !ip.is_unspecified() && IpFamily::of(ip) == family),
            allow_external_ips: self.config.feature_gates.enabled("AllowServiceExternalIPs"),
        }
    }

    fn intervals(&self) -> Intervals {
        Intervals {
            min: self.config.min_sync_period,
            retry: self.config.sync_period,
            max: Some(MAX_SYNC_INTERVAL),
        }
    }

    /// The node has another address of a family now: where rules depend on it, the family goes on with a backend for that one.
    pub(super) fn node_moved(&self, threads: &[FamilyThread], family: IpFamily, news: &NodeNews) {
        let thread = threads.iter().find(|thread| thread.family() == family);
        let (Some(thread), NodePorts::Primary) = (thread, &self.config.node_ports) else { return };
        if self.config.mode == Mode::Userspace {
            // Another backend would mean other listeners, and the end of all connections.
            tracing::warn!(%family, "the address of this node changed; node ports follow when this process is started anew");
            return;
        }
        let facts =
            NodeFacts { ip: news.address(self.config, family), pod_cidrs: news.pod_cidrs() };
        let config = self.config.clone();
        let observer = self.metrics.observer(family).clone();
        thread.replace_backend(Replacement {
            create: Box::new(move || {
                backends::create(&config, family, &facts, &observer).map(|created| created.backend)
            }),
            node_ports: backends::node_port_scope(self.config, family, news),
        });
    }

    pub(super) async fn health_server(&self) -> anyhow::Result<()> {
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let handler = Arc::new(HealthServer { health, metrics });
        let served = self.server("health", self.config.healthz_address, Limits::default(), handler);
        self.tell(served.await, Event::health_server_failed).await
    }

    pub(super) async fn metrics_server<R: Future<Output = ()> + Send + 'static>(
        &self,
        verbosity: Verbosity,
        refresh: impl Fn() -> R + Send + Sync + 'static,
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
            refresh,
        ));
        let mut limits = Limits::default();
        if profiling {
            limits.connection += profiling::MAX_DURATION;
        }
        let served = self.server("metrics", self.config.metrics_address, limits, handler);
        self.tell(served.await, Event::metrics_server_failed).await
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
        let scope = |news: &NodeNews| {
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
    mut node: watch::Receiver<NodeNews>,
    mut local: Option<watch::Receiver<Vec<IpAddr>>>,
    scope: impl Fn(&NodeNews) -> NodePortAddresses,
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

/// Waits for a change; for ever when none can come any more.
async fn wait_for<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
