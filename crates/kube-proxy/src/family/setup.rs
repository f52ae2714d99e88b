//! What one IP family is made of.

use std::sync::Arc;
use std::time::Duration;

use kube_proxy_config::Effective;
use kube_proxy_core::{IpFamily, Proxy, TrackerOptions};

use crate::modes::ModeEntry;
use crate::modes::stale_modes::StaleModeCleanup;
use crate::node::node_ports::NodePortScope;
use crate::serve::health::Health;
use crate::serve::service_health::HealthPorts;
use crate::telemetry::advice::Advice;
use crate::telemetry::metrics::Metrics;

/// What the thread works with.
pub struct Setup {
    /// The family.
    pub family: IpFamily,
    /// Tracker, scheduler and backend, put together.
    pub proxy: Proxy,
    /// The mode of its backend.
    pub mode: &'static ModeEntry,
    /// Where node ports may be used.
    pub node_ports: NodePortScope,
    /// How often to check whether the rules are still there.
    pub check_period: Duration,
    /// What to remove once this mode serves.
    pub leftovers: Option<StaleModeCleanup>,
    /// Where it reports.
    pub health: Arc<Health>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where it says which Services ask for what is not to be had.
    pub advice: Arc<Advice>,
    /// Where it reports health-check node ports.
    pub health_ports: Arc<HealthPorts>,
}

/// What the configuration says to the tracker of a family.
pub fn tracker_options(config: &Effective, family: IpFamily) -> TrackerOptions {
    let bind = config.bind_address;
    TrackerOptions {
        family,
        node_name: config.node_name.as_str().into(),
        node_ip: Some(bind).filter(|ip| !ip.is_unspecified() && IpFamily::of(ip) == family),
        allow_external_ips: config.feature_gates.enabled("AllowServiceExternalIPs"),
        no_local_endpoints: config.no_local_endpoints,
        zone_spill: config.zone_spill,
    }
}
