//! Answers of the health server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Answers by status code.
#[derive(Debug, Default)]
pub struct HealthMetrics {
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
}

/// Label `code`: the HTTP status that was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

impl super::Group for HealthMetrics {
    fn register(&self, r: &mut Registry) {
        r.register("proxy_healthz", "Answers of /healthz by status code", self.healthz.clone());
        r.register("proxy_livez", "Answers of /livez by status code", self.livez.clone());
    }
}

impl HealthMetrics {
    /// `/healthz` answered.
    pub fn healthz_answered(&self, code: u16) {
        self.healthz.get_or_create(&CodeLabel { code: code.to_string() }).inc();
    }

    /// `/livez` answered.
    pub fn livez_answered(&self, code: u16) {
        self.livez.get_or_create(&CodeLabel { code: code.to_string() }).inc();
    }
}
