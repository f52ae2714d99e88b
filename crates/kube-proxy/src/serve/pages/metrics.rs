//! The metrics server.

use std::pin::Pin;
use std::sync::Arc;

use super::debug;
use super::zpages::Zpages;
use crate::serve::http::{Answer, Asked, Handler, Reply};
use crate::telemetry::logging::Verbosity;
use crate::telemetry::metrics::Metrics;
use kube_proxy_config::{KubeProxyConfiguration, Mode};

/// Brings metrics up to date that no event sets.
type Refresh = dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

/// `/metrics`, `/metrics/slis`, `/proxyMode`, `/configz`, `/flagz`, `/statusz`, a plain `/healthz`, pages about Services, and with profiling `/debug/…`.
pub struct MetricsServer {
    metrics: Arc<Metrics>,
    mode: Mode,
    configz: String,
    zpages: Zpages,
    /// Changed by `/debug/flags/v`; `None` without profiling.
    verbosity: Option<Verbosity>,
    /// What else is below `/debug/`, and `/explain`.
    debug: Option<Arc<dyn Handler>>,
    refresh: Box<Refresh>,
}

impl MetricsServer {
    /// `verbosity` turns profiling on; `debug` answers what else is below `/debug/`, and `/explain`; `refresh` is called before metrics are read.
    pub fn new<R: Future<Output = ()> + Send + 'static>(
        metrics: Arc<Metrics>,
        mode: Mode,
        configuration: &KubeProxyConfiguration,
        zpages: Zpages,
        verbosity: Option<Verbosity>,
        debug: Option<Arc<dyn Handler>>,
        refresh: impl Fn() -> R + Send + Sync + 'static,
    ) -> Self {
        let refresh: Box<Refresh> = Box::new(move || Box::pin(refresh()));
        let configz = serde_json::json!({ "kubeproxy.config.k8s.io": configuration }).to_string();
        Self { metrics, mode, configz, zpages, verbosity, debug, refresh }
    }
}

/// Whether a path is that of a page about Services.
fn is_about_services(path: &str) -> bool {
    path.starts_with("/debug/") || path == "/explain" || path.starts_with("/explain/")
}

fn exposition(asked: &Asked, render: impl Fn(bool) -> String) -> Answer {
    let open = asked.accept.contains("application/openmetrics-text");
    let content_type = if open {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Answer::ok(content_type, render(open))
}

impl Handler for MetricsServer {
    fn answer(&self, asked: &Asked) -> Reply {
        let answer = match &*asked.path {
            "/healthz" => {
                self.metrics.slis.pinged();
                Answer::text("ok")
            }
            "/proxyMode" => Answer::text(self.mode.name()),
            "/configz" => Answer::ok("application/json", self.configz.clone()),
            "/metrics" => {
                let (fresh, metrics) = ((self.refresh)(), self.metrics.clone());
                let asked = asked.clone();
                return Reply::Later(Box::pin(async move {
                    fresh.await;
                    exposition(&asked, |open| metrics.render(open))
                }));
            }
            "/metrics/slis" => exposition(asked, |open| self.metrics.slis.render(open)),
            "/flagz" | "/statusz" => self.zpages.answer(asked),
            path if debug::is_profiling(path) => match &self.verbosity {
                Some(verbosity) => return debug::answer(asked, verbosity),
                None => Answer::not_found(),
            },
            path if is_about_services(path) => match &self.debug {
                Some(debug) => return debug.answer(asked),
                None => Answer::not_found(),
            },
            _ => Answer::not_found(),
        };
        answer.into()
    }

    fn reads_body(&self, path: &str) -> bool {
        self.verbosity.is_some() && path == debug::VERBOSITY
    }
}
