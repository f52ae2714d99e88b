//! Service ports that are not served as they ask to be.

use kube_proxy_core::{IpFamily, ServiceEntry, TrafficPolicy};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{FamilyLabel, gauge};

/// How many there are, by reason.
#[derive(Debug, Default)]
pub struct ServicePortMetrics {
    no_local_endpoints: Family<PolicyLabels, Gauge>,
    refused: Family<FamilyLabel, Gauge>,
    contested: Family<FamilyLabel, Gauge>,
    lacking_algorithm: Family<FamilyLabel, Gauge>,
    without_fast_path: Family<FamilyLabel, Gauge>,
}

/// Labels `traffic_policy` and `ip_family`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    traffic_policy: &'static str,
    ip_family: String,
}

impl super::Group for ServicePortMetrics {
    #[rustfmt::skip]
    fn register(&self, r: &mut Registry) {
        r.register("sync_proxy_rules_no_local_endpoints_total", "Service ports with a Local traffic policy and no local endpoint", self.no_local_endpoints.clone());
        r.register("refused_service_ports", "Service ports that the kernel refused, or an address of which this node needs otherwise (see the log)", self.refused.clone());
        r.register("contested_frontends", "Addresses and node ports that more than one service port asks for; one has it (see the log)", self.contested.clone());
        r.register("services_without_their_lb_algorithm", "Services whose annotation asks for an algorithm that this mode does not have; they get the random choice (see the log)", self.lacking_algorithm.clone());
        r.register("services_without_their_fast_path", "Services whose annotation asks for the fast path on a kernel that has none (see the log)", self.without_fast_path.clone());
    }
}

impl ServicePortMetrics {
    /// This many service ports have a `Local` policy and no local endpoint.
    pub fn no_local_endpoints(&self, family: IpFamily, policy: Frontends, count: usize) {
        let traffic_policy = match policy {
            Frontends::Internal => "internal",
            Frontends::External => "external",
        };
        let labels = PolicyLabels { traffic_policy, ip_family: family.to_string() };
        self.no_local_endpoints.get_or_create(&labels).set(gauge(count));
    }

    /// This many were refused by the last sync.
    pub fn refused(&self, family: IpFamily, count: usize) {
        self.refused.get_or_create(&family.into()).set(gauge(count));
    }

    /// The number of Services that ask for an algorithm which the mode does not have.
    pub fn lacking_algorithm(&self, family: IpFamily, count: usize) {
        self.lacking_algorithm.get_or_create(&family.into()).set(gauge(count));
    }

    /// The number of Services that ask for a fast path in vain.
    pub fn without_fast_path(&self, family: IpFamily, count: usize) {
        self.without_fast_path.get_or_create(&family.into()).set(gauge(count));
    }

    /// The number of frontends that more than one service port asks for.
    pub fn contested_frontends(&self, family: IpFamily, count: usize) {
        self.contested.get_or_create(&family.into()).set(gauge(count));
    }
}

/// Which frontends a traffic policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontends {
    /// The cluster IP.
    Internal,
    /// All others.
    External,
}

impl Frontends {
    /// Whether these frontends of a service port are restricted to local endpoints and there is none, though there are some elsewhere.
    pub fn lack_local_endpoints(self, entry: &ServiceEntry) -> bool {
        let policy = match self {
            Self::Internal => entry.port.policy.internal_traffic_policy,
            Self::External => entry.port.policy.external_traffic_policy,
        };
        policy == TrafficPolicy::Local
            && entry.choice.local.is_empty()
            && entry.choice.has_any_endpoint
    }
}
