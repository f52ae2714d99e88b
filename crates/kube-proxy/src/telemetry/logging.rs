//! Logs through tracing: text or JSON lines.

use std::io::{IsTerminal, stderr, stdout};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use kube_proxy_config::LoggingSettings;

mod recent;

pub use recent::recent;

/// Sets up logging for the whole process; can be done once.
///
/// Lines go to standard error, as klog's do; when split, only errors and warnings do and the rest goes to standard output.
pub fn init(settings: &LoggingSettings) -> Result<Verbosity, TryInitError> {
    let colour = stderr().is_terminal() && !settings.split_stream;
    let layer = fmt::layer().with_ansi(colour);
    let layer = match (settings.json, settings.split_stream) {
        (false, false) => layer.with_target(false).with_writer(stderr.and(memory)).boxed(),
        (true, false) => layer.json().flatten_event(true).with_writer(stderr.and(memory)).boxed(),
        (false, true) => layer.with_target(false).with_writer(split().and(memory)).boxed(),
        (true, true) => layer.json().flatten_event(true).with_writer(split().and(memory)).boxed(),
    };
    let (targets, handle) = reload::Layer::new(targets(settings));
    tracing_subscriber::registry().with(layer.with_filter(targets)).try_init()?;
    Ok(Verbosity { settings: settings.clone(), handle })
}

/// Changes the verbosity while the program runs.
#[derive(Clone, Debug)]
pub struct Verbosity {
    settings: LoggingSettings,
    handle: reload::Handle<Targets, Registry>,
}

impl Verbosity {
    /// Sets it, for everything that `vmodule` does not name.
    ///
    /// # Errors
    /// Logging has ended.
    pub fn set(&self, verbosity: u32) -> Result<(), reload::Error> {
        let settings = LoggingSettings { verbosity, ..self.settings.clone() };
        self.handle.reload(targets(&settings))
    }
}

/// The last lines also stay in memory.
fn memory() -> recent::Recent {
    recent::Recent
}

/// Warnings and errors to standard error, the rest to standard output.
fn split() -> impl for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static {
    stderr.with_max_level(Level::WARN).or_else(stdout)
}

/// What is logged: our own crates by the verbosity, libraries two steps more quietly, single modules by `vmodule`.
fn targets(settings: &LoggingSettings) -> Targets {
    let mut targets = Targets::new()
        .with_default(level(settings.verbosity.saturating_sub(6)))
        .with_target("kube_proxy", level(settings.verbosity));
    for module in &settings.vmodule {
        // Patterns name files of the Go version; the part before the first `*` is taken as a module of ours.
        let prefix = module.file_pattern.split('*').next().unwrap_or_default();
        if !prefix.is_empty() {
            let target = format!("kube_proxy_{prefix}");
            targets = targets.with_target(target, level(module.verbosity));
        }
    }
    targets
}

/// klog's numbers: 0 to 3 inform, 4 and 5 are for debugging, more traces.
fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4..=5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
