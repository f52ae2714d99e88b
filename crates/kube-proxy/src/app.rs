//! Wiring: from the command line to a running proxy, and nothing else.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kube_proxy_core::{IpFamily, PerFamily};
use kube_proxy_source::kubernetes::Observer;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands;
use crate::debug::Silence;
use crate::family::router::Router;
use crate::family::startup::Startup;
use crate::family::thread::{FamilyThread, Inbox};
use crate::modes;
use crate::modes::{choice, stale_modes};
use crate::node::setup;
use crate::node::watch::NodeWatch;
use crate::serve::health::{Health, Staleness};
use crate::serve::service_health::HealthPorts;
use crate::sources::{self, Source};
use crate::tasks;
use crate::telemetry::events::Events;
use crate::telemetry::logging;
use crate::telemetry::logging::Verbosity;
use crate::telemetry::metrics::Metrics;
use kube_proxy_config::{
    self as config, Command, Effective, Loaded, ModeOrigin, Start, Task, VersionFormat,
};

pub mod config_watch;
mod context;
mod families;
mod servers;

use context::Context;

/// Longest time to wait for a sync under way at the end.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// What log and event say when no mode is set.
const MODE_UNSET: &str = "the proxy mode is not set, so it is iptables; from Kubernetes 1.40 on the default is nftables (KEP-5343): \
    set `mode` or --proxy-mode to iptables, nftables or auto";

/// The whole program.
pub fn main() -> ExitCode {
    tasks::end_process_on_panic();
    let start = Start::of_process(&choice::of_this_node);
    if let Some(code) = commands::run(&start.args) {
        return code;
    }
    match run(&start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not through the log: it may not be set up yet, and a person at a terminal is the likely reader.
            let _ = writeln!(std::io::stderr(), "kube-proxy: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, except those that a message before them reports already.
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
        Task::InitOnly => setup::init_only(&loaded.effective),
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

/// Runs until told to stop, or until something makes it impossible to continue. The rules stay in place either way.
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
        result = tasks::named("configuration file", config_watch::follow(start, loaded)) => result.map(|()| "the end of its configuration"),
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
    match &loaded.mode_origin {
        ModeOrigin::Named => {}
        ModeOrigin::Default => tracing::warn!("{MODE_UNSET}"),
        ModeOrigin::Chosen(reason) => {
            tracing::info!(mode = %config.mode, "chose the proxy mode: {reason}");
        }
    }
    tasks::spawn("conntrack settings", setup::conntrack_settings(config.conntrack.clone()));
    tasks::spawn("OOM score", setup::oom_score(config.oom_score_adj));
    // Source and servers run first: what the source finds waits in the inboxes until the families are ready for it.
    let limit = usize::try_from(config.service_metrics_limit).unwrap_or(usize::MAX);
    let metrics = Arc::new(Metrics::counting_traffic(limit));
    let source = Source::new(config, observer(&metrics))?;
    metrics.component.set_gates(&config.feature_gates);
    metrics.conntrack.read_table(setup::NETFILTER);
    let silence = source.silence();
    if let Some(silence) = silence.clone() {
        metrics.component.set_silence(silence);
    }
    let (events, writer) = Events::new(&config.node_name, source.poster());
    tasks::spawn("events", writer.run());
    let host: Vec<_> = IpFamily::BOTH.into_iter().filter(|f| modes::host_has(*f)).collect();
    let inboxes = PerFamily::from_fn(|family| host.contains(&family).then(Inbox::default));
    let senders = PerFamily::from_fn(|family| inboxes.get(family).as_ref().map(Inbox::sender));
    let (node, startup) = (NodeWatch::default(), Startup::default());
    let mut router = Router::new(senders, node.clone(), startup.clone());
    let sink = sources::sink(move |event| router.route(event));
    let context = Context {
        loaded,
        config,
        node: &node,
        startup: &startup,
        silence: silence.clone().map(|silence| Arc::new(silence) as Arc<Silence>),
        health: &Health::new(&host, config.sync_period * 2, staleness(config, silence)),
        metrics: &metrics,
        events: &events,
        health_ports: &HealthPorts::per_family(),
        families: &Arc::default(),
    };
    let problems = source.problems();
    tokio::try_join!(
        tasks::named("source", source.run(sink)),
        tasks::named("health server", context.health_server()),
        tasks::named("metrics server", context.metrics_server(verbosity, problems)),
        tasks::named("start", async {
            startup.follow(config, &node, context.health).await;
            Ok(())
        }),
        tasks::named("node", async {
            node.report(context.health).await;
            Ok(())
        }),
        tasks::named("families", context.families(inboxes, threads)),
    )
    .map(|_| ())
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
    let failed = stale_modes::remove_all(config);
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("not everything was removed: {}", failed.join("; "))
    }
}
