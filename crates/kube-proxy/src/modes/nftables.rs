//! The nftables mode.

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::explain::{LoopbackNodePorts, ModeBehavior, OtherPorts};
use kube_proxy_core::{IpFamily, Removed};
use kube_proxy_nftables::{Config, NftablesBackend, WatchGroup};

use super::{Made, ModeEntry, NodeFacts, localhost};
use crate::telemetry::metrics::{Counters, FailureMetrics, ModeMetrics};

pub(super) static ENTRY: ModeEntry = ModeEntry {
    mode: Mode::Nftables,
    metrics: ModeMetrics {
        failures: FailureMetrics::Nftables,
        reports_rules: false,
        counters: Counters::RefusedOnLoopback,
    },
    owns_udp_flows: false,
    connections_in_conntrack: true,
    deprecation: None,
    has_variants: false,
    behavior: |config, family| ModeBehavior {
        loopback: if config.listens_on_localhost(family) {
            LoopbackNodePorts::Copied
        } else {
            LoopbackNodePorts::NotServed
        },
        refused_on_loopback: config.refused_on_localhost(family),
        other_ports: OtherPorts::RefusedAtClusterIps,
        ..ModeBehavior::default()
    },
    factory: || {
        let group = WatchGroup::default();
        Box::new(move |config, family, node, observer| {
            let backend = NftablesBackend::new(settings(config, family, node))?.in_group(&group);
            let backend = localhost::with_node_ports(config, family, observer, Box::new(backend))?;
            Ok(Made::without_iptables(backend))
        })
    },
    remove: |family, _| kube_proxy_nftables::remove(family).map(Removed::at_once),
    udp_frontends: kube_proxy_nftables::udp_frontends,
};

fn settings(config: &Effective, family: IpFamily, node: &NodeFacts) -> Config {
    Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        refused_on_loopback: config.refused_on_localhost(family),
        offload_after: config.offload_after,
        count_refused: config.service_metrics_limit > 0,
        fast_path_choice: true,
    }
}
