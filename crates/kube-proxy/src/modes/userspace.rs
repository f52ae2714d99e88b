//! The userspace mode.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::explain::ModeBehavior;
use kube_proxy_core::{IpFamily, Removed};
use kube_proxy_userspace::{Config, Observer, UserspaceBackend};

use super::{Made, ModeEntry, NodeFacts, loopback, variant};
use crate::telemetry::metrics::{Counters, FailureMetrics, ModeMetrics};

pub(super) static ENTRY: ModeEntry = ModeEntry {
    mode: Mode::Userspace,
    metrics: ModeMetrics {
        failures: FailureMetrics::None,
        reports_rules: false,
        counters: Counters::None,
    },
    owns_udp_flows: true,
    connections_in_conntrack: false,
    deprecation: None,
    has_variants: false,
    behavior: |config, family| ModeBehavior {
        loopback: loopback(config, family),
        copies: true,
        ..ModeBehavior::default()
    },
    factory: || {
        Box::new(|config, family, node, observer| {
            let backend = UserspaceBackend::new(settings(config, family, node, observer))?;
            Ok(Made::without_iptables(Box::new(backend)))
        })
    },
    remove: |family, _| kube_proxy_userspace::remove(family).map(Removed::at_once),
    udp_frontends: |_| Ok(Vec::new()),
};

fn settings(config: &Effective, family: IpFamily, node: &NodeFacts, observer: &Observer) -> Config {
    let unspecified = match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let bind = Some(config.bind_address).filter(|ip| IpFamily::of(ip) == family);
    Config {
        family,
        variant: variant(config),
        listen: bind.unwrap_or(unspecified),
        port_range: config.userspace.port_range.clone(),
        udp_idle: config.userspace.udp_timeout,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        localhost_node_ports: config.localhost_node_ports,
        rest: config.userspace.rest,
        splice: true,
        observer: observer.clone(),
    }
}
