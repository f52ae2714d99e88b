//! What the health and the metrics server answer.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::health::{Health, Verdict};
use crate::http::{Answer, Asked, Handler, Reply};
use crate::metrics::Metrics;

mod debug;
mod metrics;
mod zpages;

pub use metrics::MetricsServer;
pub use zpages::Zpages;

/// The health server: `/healthz` and `/livez`.
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
                self.metrics.healthz_answered(answer.status.as_u16());
                answer
            }
            "/livez" => {
                let answer = verdict(self.health.livez(now, time));
                self.metrics.livez_answered(answer.status.as_u16());
                answer
            }
            _ => Answer::not_found(),
        };
        answer.into()
    }
}

fn verdict(verdict: Verdict) -> Answer {
    Answer::health(verdict.healthy, verdict.body)
}
