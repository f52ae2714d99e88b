//! `/metrics/slis` (KEP-3466): the results of health checks, for service level indicators.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Labels of `kubernetes_healthcheck`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    name: String,
    r#type: String,
}

/// Labels of `kubernetes_healthchecks_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    name: String,
    r#type: String,
    status: String,
}

/// The health checks of the metrics server. The only one is `ping`, which succeeds whenever it is asked.
#[derive(Debug)]
pub struct Slis {
    registry: Registry,
    last: Family<CheckLabels, Gauge>,
    all: Family<StatusLabels, Counter>,
}

impl Slis {
    pub(super) fn new() -> Self {
        let (mut registry, last, all) = (Registry::default(), Family::default(), Family::default());
        registry.register(
            "kubernetes_healthcheck",
            "Result of the last health check",
            Family::clone(&last),
        );
        registry.register(
            "kubernetes_healthchecks",
            "Results of all health checks",
            Family::clone(&all),
        );
        Self { registry, last, all }
    }

    /// `/healthz` of the metrics server was asked.
    pub fn pinged(&self) {
        let (name, r#type) = ("ping".to_owned(), "healthz".to_owned());
        self.last.get_or_create(&CheckLabels { name: name.clone(), r#type: r#type.clone() }).set(1);
        let status = "success".to_owned();
        self.all.get_or_create(&StatusLabels { name, r#type, status }).inc();
    }

    /// The exposition text, as [`Metrics::render`](super::Metrics::render).
    pub fn render(&self, open_metrics: bool) -> String {
        super::text::text(&self.registry, open_metrics)
    }
}
