//! The iptables mode.

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::IpFamily;
use kube_proxy_core::explain::{LoopbackNodePorts, ModeBehavior};
use kube_proxy_iptables::{Config, IptablesBackend};

use super::{Made, ModeEntry, NodeFacts, loopback, variant};
use crate::telemetry::metrics::{Counters, FailureMetrics, ModeMetrics};

pub(super) static ENTRY: ModeEntry = ModeEntry {
    mode: Mode::Iptables,
    metrics: ModeMetrics {
        failures: FailureMetrics::Restores { partial: true },
        reports_rules: true,
        counters: Counters::Rules,
    },
    owns_udp_flows: false,
    connections_in_conntrack: true,
    deprecation: None,
    has_variants: true,
    behavior: |config, family| ModeBehavior {
        // The kernel does not route the loopback addresses of IPv6.
        loopback: match family {
            IpFamily::V4 => loopback(config, family),
            IpFamily::V6 => LoopbackNodePorts::NotServed,
        },
        ..ModeBehavior::default()
    },
    factory: || {
        Box::new(|config, family, node, _| {
            let backend = IptablesBackend::new(settings(config, family, node))?;
            let iptables = backend.in_use();
            Ok(Made { backend: Box::new(backend), iptables })
        })
    },
    remove: |family, running| kube_proxy_iptables::remove(family, running.iptables),
    udp_frontends: |family| Ok(kube_proxy_iptables::udp_frontends(family)),
};

fn settings(config: &Effective, family: IpFamily, node: &NodeFacts) -> Config {
    Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        localhost_node_ports: config.localhost_node_ports,
        drop_invalid: !config.conntrack.tcp_be_liberal && !be_liberal(),
        variant: variant(config),
    }
}

/// Whether the kernel already lets TCP packets outside the window pass, so that they are not to be dropped as invalid.
fn be_liberal() -> bool {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
        .is_ok_and(|value| value.trim() != "0")
}
