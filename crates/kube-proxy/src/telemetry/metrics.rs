//! Metrics, by the names of the Go kube-proxy.
//!
//! Each group of metrics is a file here that declares, registers and sets them; [`Metrics`] has the groups.

use std::sync::Arc;

use kube_proxy_core::{IpFamily, PerFamily};
use kube_proxy_iptables::PacketCounts;
use kube_proxy_userspace::Observer;
use prometheus_client::registry::Registry;

use crate::telemetry::traffic::TrafficTotals;

mod changes;
mod component;
mod conntrack;
mod conntrack_table;
mod health;
mod labels;
mod localhost;
mod mode;
mod objects;
mod packets;
mod process;
mod service_ports;
mod slis;
mod sync;
mod text;
mod userspace;

pub use changes::{ChangeMetrics, Changes};
pub use component::Component;
pub use conntrack::ConntrackMetrics;
pub use health::HealthMetrics;
pub use mode::{Counters, FailureMetrics, ModeMetrics};
pub use objects::ObjectMetrics;
pub use service_ports::{Frontends, ServicePortMetrics};
pub use slis::Slis;
pub use sync::SyncMetrics;

use localhost::LocalhostNodePorts;
use packets::Packets;
use userspace::Activities;

/// Metrics that belong together.
trait Group {
    /// Names and help, under the prefix `kubeproxy`. The encoder adds `_total` to counters.
    fn register(&self, registry: &mut Registry);
}

/// All metrics. Setting one is cheap and works from any thread.
#[derive(Debug)]
pub struct Metrics {
    /// Those that every Kubernetes component has.
    pub component: Component,
    /// Those of `/metrics/slis`.
    pub slis: Slis,
    /// Syncs of the families.
    pub sync: SyncMetrics,
    /// Changes that wait for them.
    pub changes: ChangeMetrics,
    /// Service ports that are not served as they ask to be.
    pub service_ports: ServicePortMetrics,
    /// Checks of the UDP flows.
    pub conntrack: ConntrackMetrics,
    /// Answers of the health server.
    pub health: HealthMetrics,
    /// Objects as the source finds them.
    pub objects: ObjectMetrics,
    traffic: Arc<TrafficTotals>,
    packets: Packets,
    localhost: LocalhostNodePorts,
    /// What the userspace mode does, asked for when the metrics are.
    observers: PerFamily<Observer>,
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, and none about traffic.
    pub fn new() -> Self {
        Self::counting_traffic(0)
    }

    /// All metrics at zero, with the traffic of this many service ports of each family.
    pub fn counting_traffic(limit: usize) -> Self {
        let observers = PerFamily::default();
        let mut metrics = Self {
            component: Component::new(),
            slis: Slis::new(),
            sync: SyncMetrics::default(),
            changes: ChangeMetrics::default(),
            service_ports: ServicePortMetrics::default(),
            conntrack: ConntrackMetrics::default(),
            health: HealthMetrics::default(),
            objects: ObjectMetrics::default(),
            traffic: Arc::new(TrafficTotals::new(limit)),
            packets: Packets::default(),
            localhost: LocalhostNodePorts::new(&observers),
            observers,
            registry: Registry::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        self.component.register(&mut self.registry);
        let registry = self.registry.sub_registry_with_prefix("kubeproxy");
        let groups: [&dyn Group; 6] = [
            &self.sync,
            &self.changes,
            &self.service_ports,
            &self.conntrack,
            &self.health,
            &self.objects,
        ];
        for group in groups {
            group.register(registry);
        }
        // What is looked up when it is asked for.
        registry.register_collector(Box::new(Activities(self.observers.clone())));
        registry.register_collector(Box::new(self.traffic.clone()));
        registry.register_collector(Box::new(self.packets.clone()));
        registry.register_collector(Box::new(self.localhost.clone()));
    }

    /// Where the traffic of service ports is counted.
    pub fn traffic(&self) -> &TrafficTotals {
        &self.traffic
    }

    /// Who sees what is copied by this process for a family.
    pub fn observer(&self, family: IpFamily) -> &Observer {
        self.observers.get(family)
    }

    /// The exposition text: `OpenMetrics` if asked for, else the older format that every scraper reads.
    pub fn render(&self, open_metrics: bool) -> String {
        text::text(&self.registry, open_metrics)
    }

    /// Lets the counters of a mode begin at zero, so that a first failure shows as an increase.
    pub fn start(&self, mode: ModeMetrics, families: &[IpFamily]) {
        for &family in families {
            self.sync.start(mode.failures, family);
            self.conntrack.start(family);
            if mode.counters == Counters::RefusedOnLoopback {
                self.localhost.show(family);
            }
        }
    }

    /// Reads what the kernel counts for a mode.
    pub async fn read_counters(&self, counters: Counters) {
        match counters {
            Counters::None => {}
            Counters::Rules => self.packets.read().await,
            Counters::RefusedOnLoopback => self.localhost.read().await,
        }
    }

    /// This many packets were counted by rules, of both families.
    pub fn packets_counted(&self, counts: PacketCounts) {
        self.packets.set(counts);
    }
}

#[cfg(test)]
mod tests;
