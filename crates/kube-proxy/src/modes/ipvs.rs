//! The ipvs mode.

use std::time::Instant;

use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::IpFamily;
use kube_proxy_core::explain::{ModeBehavior, OtherPorts, SharedEndpoints};
use kube_proxy_iptables::InUse;
use kube_proxy_ipvs::{Config, Connections, IpvsBackend, SHARED_CHAINS};

use super::{Made, ModeEntry, NodeFacts, variant};
use crate::telemetry::metrics::{Counters, FailureMetrics, ModeMetrics};

const DEPRECATION: &str = "Kubernetes has deprecated the ipvs mode of its own kube-proxy (KEP-5495); \
    this kube-proxy continues to support it, nftables is the mode to move to";

pub(super) static ENTRY: ModeEntry = ModeEntry {
    mode: Mode::Ipvs,
    metrics: ModeMetrics {
        failures: FailureMetrics::Restores { partial: false },
        reports_rules: false,
        counters: Counters::None,
    },
    owns_udp_flows: false,
    connections_in_conntrack: true,
    deprecation: Some(DEPRECATION),
    has_variants: false,
    behavior: |config, _| ModeBehavior {
        other_ports: OtherPorts::RefusedAtAll,
        shared_endpoints: if config.ipvs.mark_mask == 0 {
            SharedEndpoints::Always
        } else {
            SharedEndpoints::UnderAffinity
        },
        // The address of a virtual server is on an interface of the node, for all clients or for none.
        passes_for_all: true,
        local_fallback: config.ipvs.local_fallback,
        ..ModeBehavior::default()
    },
    factory: || {
        Box::new(|config, family, node, _| {
            let backend = IpvsBackend::new(settings(config, family, node))?;
            let variant = Some(backend.variant());
            // The first sync of this mode is followed by the removal of iptables mode, except for the chains of both.
            let shared = Some(&SHARED_CHAINS[..]);
            let iptables = InUse { variant, shared, ..InUse::default() };
            Ok(Made { backend: Box::new(backend), iptables })
        })
    },
    remove: |family, running| {
        let over = running.cut_at.is_some_and(|at| at <= Instant::now());
        // Without another mode nothing takes new connections.
        let cut = running.mode.is_none() || over;
        let connections = if cut { Connections::Cut } else { Connections::Keep };
        let (exclude, in_use) = (&running.exclude_cidrs, running.iptables.variant);
        kube_proxy_ipvs::remove(family, exclude, in_use, connections)
    },
    // IPVS keeps its connections to itself: none is left once the virtual server is gone.
    udp_frontends: |_| Ok(Vec::new()),
};

fn settings(config: &Effective, family: IpFamily, node: &NodeFacts) -> Config {
    let ipvs = &config.ipvs;
    Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        mark_mask: ipvs.mark_mask,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        scheduler: ipvs.scheduler.clone(),
        exclude_cidrs: ipvs.exclude_cidrs.clone(),
        strict_arp: ipvs.strict_arp,
        tcp_timeout: ipvs.tcp_timeout,
        tcp_fin_timeout: ipvs.tcp_fin_timeout,
        udp_timeout: ipvs.udp_timeout,
        local_fallback: ipvs.local_fallback,
        drain_timeout: ipvs.drain_timeout,
        variant: variant(config),
    }
}
