//! What the health and the metrics server answer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::serve::health::{Health, Verdict};
use crate::serve::http::{Answer, Asked, Handler, Reply};
use crate::telemetry::metrics::Metrics;

mod debug;
mod metrics;
mod zpages;

pub use metrics::MetricsServer;
pub use zpages::Zpages;

/// The health server: `/healthz`, `/livez` and `/readyz`.
pub struct HealthServer {
    /// What it answers.
    pub health: Arc<Health>,
    /// Where the answers are counted.
    pub metrics: Arc<Metrics>,
}

impl Handler for HealthServer {
    fn answer(&self, asked: &Asked) -> Reply {
        let (now, time) = (Instant::now(), SystemTime::now());
        let answer = match &*asked.path {
            "/healthz" => {
                let answer = verdict(self.health.healthz(now, time));
                self.metrics.health.healthz_answered(answer.status.as_u16());
                answer
            }
            "/livez" => {
                let answer = verdict(self.health.livez(now, time));
                self.metrics.health.livez_answered(answer.status.as_u16());
                answer
            }
            "/readyz" => verdict(self.health.readyz(now, time)),
            _ => Answer::not_found(),
        };
        answer.into()
    }
}

fn verdict(verdict: Verdict) -> Answer {
    Answer::health(verdict.healthy, verdict.body)
}
