//! Wiring: from the command line to a running proxy, and nothing else.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use kube_proxy_core::{IpFamily, PerFamily};
use kube_proxy_source::kubernetes::Observer;
use tokio::signal::unix::{SignalKind, signal};

use crate::backends::{self, Created, NodeFacts};
use crate::config::{self, Command, Effective, Loaded, Mode, Start, Task, VersionFormat};
use crate::events::{Event, Events};
use crate::family_thread::{FamilyThread, Inbox, TrafficReader};
use crate::health::{Health, Staleness};
use crate::logging::Verbosity;
use crate::metrics::Metrics;
use crate::node_watch::{NodeNews, NodeWatch};
use crate::router::Router;
use crate::service_health::HealthPorts;
use crate::sources::{self, Source};
use crate::{config_watch, leftovers, logging, node_setup};

mod context;

use context::Context;

/// Longest time to wait for a sync under way at the end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// What the event of the ipvs mode says.
const IPVS_DEPRECATION: &str = "Kubernetes has deprecated the ipvs mode of its own kube-proxy (KEP-5495); \
    this kube-proxy goes on supporting it, nftables is the mode to move to";

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

fn run(start: &Start<'static>) -> anyhow::Result<()> {
    let loaded = match config::load(start)? {
        Command::Print(text) => return print(&text),
        Command::Version(format) => return print(&version(format)),
        Command::Configured(loaded) => *loaded,
    };
    if let Task::WriteConfig(path) = &loaded.task {
        return Ok(config::write_config(&loaded.configuration, path)?);
    }
    let verbosity = logging::init(&loaded.effective.logging)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match loaded.task {
        Task::Run => runtime.block_on(proxy(start, &loaded, verbosity)),
        Task::Cleanup => cleanup(&loaded.effective),
        Task::InitOnly => node_setup::init_only(&loaded.effective),
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
async fn proxy(
    start: &Start<'static>,
    loaded: &Loaded,
    verbosity: Verbosity,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut threads = Vec::new();
    let result = tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
        result = serve(loaded, verbosity, &mut threads) => result.map(|()| "the end of its input"),
        result = config_watch::follow(start, loaded) => result.map(|()| "the end of its configuration"),
    };
    if let Ok(reason) = &result {
        tracing::info!("stopping on {reason}; the rules stay in place");
    }
    stop(&threads).await;
    result.map(|_| ())
}

/// Starts everything and keeps it going; ends only with an error.
async fn serve(
    loaded: &Loaded,
    verbosity: Verbosity,
    threads: &mut Vec<FamilyThread>,
) -> anyhow::Result<()> {
    let config = &loaded.effective;
    tracing::info!(
        "kube-proxy {} starts in {} mode on node {}",
        env!("CARGO_PKG_VERSION"),
        config.mode,
        config.node_name
    );
    tokio::spawn(node_setup::conntrack_settings(config.conntrack.clone()));
    tokio::spawn(node_setup::oom_score(config.oom_score_adj));
    // The source runs first: what it finds waits in the inboxes until the families are ready for it.
    let limit = usize::try_from(config.service_metrics_limit).unwrap_or(usize::MAX);
    let metrics = Arc::new(Metrics::counting_traffic(limit));
    let source = Source::new(config, observer(&metrics)).await?;
    let problems = source.problems();
    let silence = source.silence();
    let (events, writer) = Events::new(&config.node_name, source.poster());
    tokio::spawn(writer.run());
    let inboxes = PerFamily::from_fn(|family| backends::host_has(family).then(Inbox::default));
    let node = NodeWatch::default();
    let senders = PerFamily::from_fn(|family| inboxes.get(family).as_ref().map(Inbox::sender));
    let mut router = Router::new(senders, node.clone());
    let sink = sources::sink(move |event| router.route(event));
    let rest = async {
        let news = node.wait(config).await?;
        let backends = create_backends(config, &news, &metrics)?;
        let families: Vec<IpFamily> = backends.iter().map(|(family, _)| *family).collect();
        metrics.start(config.mode, &families);
        metrics.component.set_gates(&config.feature_gates);
        if let Some(silence) = silence.clone() {
            metrics.component.set_silence(silence);
        }
        let health = Health::new(&families, config.sync_period * 2, staleness(config, silence));
        let health_ports = HealthPorts::per_family();
        let context = Context {
            loaded,
            config,
            news: &news,
            node: &node,
            health: &health,
            metrics: &metrics,
            events: &events,
            health_ports: &health_ports,
        };
        context.start_families(backends, inboxes, threads)?;
        let refresh = {
            let metrics = metrics.clone();
            let readers: Vec<_> = threads.iter().map(FamilyThread::traffic).collect();
            let counts_packets = config.mode == Mode::Iptables;
            move || {
                problems.report(&metrics);
                let (metrics, readers) = (metrics.clone(), readers.clone());
                async move {
                    if counts_packets {
                        metrics.read_packets().await;
                    }
                    if metrics.traffic().is_on() {
                        // All are asked before the first is waited for.
                        let readings: Vec<_> = readers.iter().map(TrafficReader::read).collect();
                        for reading in readings {
                            reading.await;
                        }
                    }
                }
            }
        };
        events.send(Event::starting());
        if config.mode == Mode::Ipvs {
            events.send(Event::ipvs_deprecation(IPVS_DEPRECATION));
        }
        tokio::try_join!(
            context.health_server(),
            context.metrics_server(verbosity, refresh),
            context.service_health_servers(&families),
            node.follow(config, &news, &health, |family, news| {
                context.node_moved(threads, family, news);
            }),
            supervise(threads),
        )
        .map(|_| ())
    };
    tokio::try_join!(source.run(sink), rest).map(|_| ())
}

/// Counts the requests to the API server.
fn observer(metrics: &Arc<Metrics>) -> Observer {
    let metrics = metrics.clone();
    Observer::new(move |answered| metrics.component.requested(answered))
}

/// When the silence of the API server counts, if that is asked for and there is one.
fn staleness(
    config: &Effective,
    silence: Option<impl Fn() -> Duration + Send + Sync + 'static>,
) -> Option<Staleness> {
    Some(Staleness { limit: config.healthz_stale_after?, silence: Box::new(silence?) })
}

/// One backend for each family that this node can use. The primary family must be among them.
fn create_backends(
    config: &Effective,
    news: &NodeNews,
    metrics: &Metrics,
) -> anyhow::Result<Vec<(IpFamily, Created)>> {
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

/// Removes what any mode of any kube-proxy ever writes to a node.
fn cleanup(config: &Effective) -> anyhow::Result<()> {
    let failed = leftovers::remove_all(config);
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not everything was removed: {}", failed.join("; "))
    }
}
