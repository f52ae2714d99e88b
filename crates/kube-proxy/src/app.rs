//! Wiring: from the command line to a running proxy, and nothing else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use kube_proxy_core::{
    Intervals, IpFamily, PerFamily, Proxy, ProxyBackend, SyncError, TrackerOptions,
};
use kube_proxy_userspace::Observer;
use tokio::signal::unix::{SignalKind, signal};

use crate::backends::{self, NodeFacts};
use crate::config::{self, Command, Effective, Loaded, Start, Task, VersionFormat};
use crate::family_thread::{FamilyThread, Inbox, Setup};
use crate::health::Health;
use crate::http::{self, Handler};
use crate::metrics::Metrics;
use crate::node_watch::{NodeNews, NodeWatch};
use crate::router::Router;
use crate::sources::{self, Source};
use crate::{logging, node_setup, servers};

/// Longest time to wait for a sync under way at the end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// Without any reason to, the rules of a small cluster are written anew after this time.
const MAX_SYNC_INTERVAL: Duration = Duration::from_hours(1);

/// The whole program.
pub fn main() -> ExitCode {
    match run(&Start::of_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: it may not be set up yet, and a person at a terminal is the likely reader.
            let _ = writeln!(std::io::stderr(), "kube-proxy: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, except those that a message before them tells already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| match cause.to_string() {
        cause if told.is_empty() => cause,
        cause if told.contains(&cause) => told,
        cause => format!("{told}: {cause}"),
    })
}

fn run(start: &Start<'_>) -> anyhow::Result<()> {
    let loaded = match config::load(start)? {
        Command::Help(text) => return print(&text),
        Command::Version(format) => return print(&version(format)),
        Command::Configured(loaded) => *loaded,
    };
    if let Task::WriteConfig(path) = &loaded.task {
        return Ok(config::write_config(&loaded.configuration, path)?);
    }
    logging::init(&loaded.effective.logging)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match loaded.task {
        Task::Run => runtime.block_on(proxy(&loaded)),
        Task::Cleanup => runtime.block_on(cleanup(&loaded.effective)),
        Task::InitOnly => {
            node_setup::apply(&loaded.effective);
            Ok(())
        }
        Task::WriteConfig(_) => Ok(()),
    };
    // Something may be stuck in a name look-up or a file that never answers; the end does not wait for it.
    runtime.shutdown_background();
    result
}

fn print(text: &str) -> anyhow::Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn version(format: VersionFormat) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match format {
        VersionFormat::Raw => format!("{own}\n"),
        _ => format!("kube-proxy {own} for Kubernetes 1.{}\n", config::KUBERNETES_MINOR),
    }
}

/// Runs until told to stop, or until something makes it impossible to go on. The rules stay in place either way.
async fn proxy(loaded: &Loaded) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut threads = Vec::new();
    let result = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        result = serve(loaded, &mut threads) => result.map(|()| "the end of its input"),
    };
    if let Ok(reason) = &result {
        tracing::info!("stopping on {reason}; the rules stay in place");
    }
    stop(&threads).await;
    result.map(|_| ())
}

/// Starts everything and keeps it going; ends only with an error.
async fn serve(loaded: &Loaded, threads: &mut Vec<FamilyThread>) -> anyhow::Result<()> {
    let config = &loaded.effective;
    backends::check_mode(config.mode).map_err(anyhow::Error::msg)?;
    tracing::info!(
        "kube-proxy {} starts in {} mode on node {}",
        env!("CARGO_PKG_VERSION"),
        config.mode,
        config.node_name
    );
    node_setup::apply(config);
    // The source runs first: what it finds waits in the inboxes until the families are ready for it.
    let source = Source::new(config).await?;
    let problems = source.problems();
    let inboxes = PerFamily::from_fn(|family| backends::host_has(family).then(Inbox::default));
    let node = NodeWatch::default();
    let senders = PerFamily::from_fn(|family| inboxes.get(family).as_ref().map(Inbox::sender));
    let mut router = Router::new(senders, node.clone());
    let sink = sources::sink(move |event| router.route(event));
    let rest = async {
        let news = node.wait(config).await?;
        let metrics = Arc::new(Metrics::new());
        let backends = create_backends(config, &news, &metrics)?;
        let families: Vec<IpFamily> = backends.iter().map(|(family, _)| *family).collect();
        let health = Health::new(&families, config.sync_period * 2);
        let context = Context { config, node: &news, health: &health, metrics: &metrics };
        context.start_families(backends, inboxes, threads)?;
        let refresh = {
            let metrics = metrics.clone();
            move || problems.report(&metrics)
        };
        tokio::try_join!(
            context.server("health", config.healthz_address, {
                servers::health(health.clone(), metrics.clone())
            }),
            context.server("metrics", config.metrics_address, {
                servers::metrics(metrics.clone(), config.mode, &loaded.configuration, refresh)
            }),
            node.follow(config, &news, &health),
            supervise(threads),
        )
        .map(|_| ())
    };
    tokio::try_join!(source.run(sink), rest).map(|_| ())
}

/// One backend for each family that this node can use. The primary family must be among them.
fn create_backends(
    config: &Effective,
    news: &NodeNews,
    metrics: &Metrics,
) -> anyhow::Result<Vec<(IpFamily, Box<dyn ProxyBackend>)>> {
    let primary = config.primary_family(&news.addresses());
    let mut backends = Vec::new();
    for family in IpFamily::BOTH {
        let facts = NodeFacts { ip: news.address(config, family), pod_cidrs: news.pod_cidrs() };
        let created = if backends::host_has(family) {
            backends::create(config, family, &facts, metrics.observer(family))
                .map_err(|error| anyhow!(error))
        } else {
            Err(anyhow!("this host has no {family}"))
        };
        match created {
            Ok(backend) => backends.push((family, backend)),
            Err(error) if family == primary => return Err(error),
            Err(error) => tracing::warn!("{family} is not served: {error:#}"),
        }
    }
    let facts = config::NodeFacts {
        primary,
        dual_stack: backends.len() == 2,
        addresses: news.addresses(),
        pod_cidrs: news.pod_cidrs(),
    };
    config.check_start_up(&facts)?;
    for warning in config.start_up_warnings(&facts) {
        tracing::warn!("{warning}");
    }
    Ok(backends)
}

/// What the parts share while they are put together.
struct Context<'a> {
    config: &'a Effective,
    node: &'a NodeNews,
    health: &'a Arc<Health>,
    metrics: &'a Arc<Metrics>,
}

impl Context<'_> {
    fn start_families(
        &self,
        backends: Vec<(IpFamily, Box<dyn ProxyBackend>)>,
        mut inboxes: PerFamily<Option<Inbox>>,
        threads: &mut Vec<FamilyThread>,
    ) -> anyhow::Result<()> {
        for (family, backend) in backends {
            let inbox = inboxes.get_mut(family).take().unwrap_or_default();
            let proxy = Proxy::new(self.tracker(family), self.intervals(), backend);
            let setup = Setup {
                family,
                proxy,
                mode: self.config.mode,
                node_ports: backends::node_port_scope(self.config, family, self.node),
                check_period: self.config.sync_period,
                health: self.health.clone(),
                metrics: self.metrics.clone(),
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

    /// Runs one server; without an address it just never ends.
    async fn server(
        &self,
        what: &str,
        address: Option<SocketAddr>,
        handler: Arc<Handler>,
    ) -> anyhow::Result<()> {
        let Some(address) = address else { return std::future::pending().await };
        let listener = http::bind(what, address, self.config.bind_address_hard_fail)
            .await
            .with_context(|| format!("cannot listen on {address} for {what}"))?;
        http::serve(listener, handler).await;
        Ok(())
    }
}

/// Notices a family that ended although nobody asked it to.
async fn supervise(threads: &[FamilyThread]) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if threads.iter().any(FamilyThread::has_ended) {
            bail!("a sync thread ended unexpectedly; see the log above");
        }
    }
}

/// Lets a sync that is under way come to its end, for a while.
async fn stop(threads: &[FamilyThread]) {
    threads.iter().for_each(FamilyThread::stop);
    let patience = Instant::now() + STOP_WAIT;
    while !threads.iter().all(FamilyThread::has_ended) {
        if Instant::now() > patience {
            tracing::warn!("a sync is still under way; leaving without it");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Removes what any mode of this program ever writes to a node.
async fn cleanup(config: &Effective) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for mode in backends::MODES {
        // Removing takes no preparation of the node.
        let config = &Effective { mode, localhost_node_ports: false, ..config.clone() };
        for family in IpFamily::BOTH.into_iter().filter(|family| backends::host_has(*family)) {
            let mut backend =
                match backends::create(config, family, &NodeFacts::default(), &Observer::default())
                {
                    Ok(backend) => backend,
                    Err(SyncError::Unsupported(reason)) => {
                        tracing::warn!("nothing to remove of mode {mode}, {family}: {reason}");
                        continue;
                    }
                    Err(error) => {
                        failed.push(format!("{mode}, {family}: {error}"));
                        continue;
                    }
                };
            match backend.cleanup().await {
                Ok(()) => tracing::info!("removed what mode {mode} has for {family}"),
                Err(error) => failed.push(format!("{mode}, {family}: {error}")),
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not everything was removed: {}", failed.join("; "))
    }
}
