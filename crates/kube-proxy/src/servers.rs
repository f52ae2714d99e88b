//! What the health and the metrics server answer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::config::{KubeProxyConfiguration, Mode};
use crate::health::{Health, Verdict};
use crate::http::{Answer, Handler, Reply};
use crate::metrics::Metrics;

/// The health server: `/healthz` and `/livez`.
pub fn health(health: Arc<Health>, metrics: Arc<Metrics>) -> Arc<Handler> {
    Arc::new(move |path: &str, _: &str| {
        let (now, time) = (Instant::now(), SystemTime::now());
        Reply::from(match path {
            "/healthz" => {
                let answer = verdict(health.healthz(now, time));
                metrics.healthz_answered(answer.status.as_u16());
                answer
            }
            "/livez" => {
                let answer = verdict(health.livez(now, time));
                metrics.livez_answered(answer.status.as_u16());
                answer
            }
            _ => Answer::not_found(),
        })
    })
}

fn verdict(verdict: Verdict) -> Answer {
    Answer::health(verdict.healthy, verdict.body)
}

/// The metrics server: `/metrics`, `/proxyMode`, `/configz` and a plain `/healthz`.
///
/// `refresh` brings metrics up to date that nobody sets by itself.
pub fn metrics<R: Future<Output = ()> + Send + 'static>(
    metrics: Arc<Metrics>,
    mode: Mode,
    configuration: &KubeProxyConfiguration,
    refresh: impl Fn() -> R + Send + Sync + 'static,
) -> Arc<Handler> {
    let configz = serde_json::json!({ "kubeproxy.config.k8s.io": configuration }).to_string();
    Arc::new(move |path: &str, accept: &str| {
        Reply::from(match path {
            "/healthz" => Answer::text("ok"),
            "/proxyMode" => Answer::text(mode.name()),
            "/configz" => {
                Answer { content_type: "application/json", ..Answer::text(configz.clone()) }
            }
            "/metrics" => {
                let open = accept.contains("application/openmetrics-text");
                let (metrics, fresh) = (metrics.clone(), refresh());
                return Box::pin(async move {
                    fresh.await;
                    exposition(&metrics, open)
                });
            }
            _ => Answer::not_found(),
        })
    })
}

fn exposition(metrics: &Metrics, open: bool) -> Answer {
    let content_type = if open {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Answer { content_type, ..Answer::text(metrics.render(open)) }
}
