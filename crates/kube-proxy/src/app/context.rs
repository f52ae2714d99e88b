//! What the parts share while they are put together.

use std::sync::{Arc, Mutex};

use kube_proxy_core::PerFamily;

use crate::debug::Silence;
use crate::family::client::FamilyClient;
use crate::family::startup::Startup;
use crate::node::watch::NodeWatch;
use crate::serve::health::Health;
use crate::serve::service_health::HealthPorts;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use kube_proxy_config::{Effective, Loaded};

/// What the parts share.
pub(super) struct Context<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) config: &'a Effective,
    pub(super) node: &'a NodeWatch,
    pub(super) startup: &'a Startup,
    pub(super) health: &'a Arc<Health>,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) events: &'a Events,
    /// For how long the API server has been silent; `None` without one.
    pub(super) silence: Option<Arc<Silence>>,
    pub(super) health_ports: &'a PerFamily<Arc<HealthPorts>>,
    /// Whom to ask about each family, once they run.
    pub(super) families: &'a Arc<Mutex<Vec<FamilyClient>>>,
}
