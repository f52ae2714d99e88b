//! Changes of Services and EndpointSlices, as the trackers of the families see them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What has changed, and what waits for a sync.
#[derive(Debug, Default)]
pub struct ChangeMetrics {
    endpoints_pending: Gauge,
    endpoints: Counter,
    services_pending: Gauge,
    services: Counter,
}

/// Changes of one kind of object since they were last reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// How many more were seen.
    pub new: u64,
    /// How many more wait; negative if fewer.
    pub pending: i64,
}

impl super::Group for ChangeMetrics {
    #[rustfmt::skip]
    fn register(&self, r: &mut Registry) {
        r.register("sync_proxy_rules_endpoint_changes_pending", "EndpointSlice changes not yet synced", self.endpoints_pending.clone());
        r.register("sync_proxy_rules_endpoint_changes", "EndpointSlice changes", self.endpoints.clone());
        r.register("sync_proxy_rules_service_changes_pending", "Service changes not yet synced", self.services_pending.clone());
        r.register("sync_proxy_rules_service_changes", "Service changes", self.services.clone());
    }
}

impl ChangeMetrics {
    /// New changes were seen, and this many wait.
    pub fn seen(&self, services: Changes, endpoints: Changes) {
        self.services.inc_by(services.new);
        self.services_pending.inc_by(services.pending);
        self.endpoints.inc_by(endpoints.new);
        self.endpoints_pending.inc_by(endpoints.pending);
    }
}
