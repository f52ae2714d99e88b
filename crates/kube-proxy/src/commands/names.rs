//! Names as commands print them.

use std::net::SocketAddr;

use crate::debug::{Counters, FastPath, Frontend, FrontendKind, ServicePortId};

/// `namespace/name:port`.
pub(super) fn service_port(id: &ServicePortId) -> String {
    format!("{}/{}", id.namespace, port_of(id))
}

/// `name:port`.
pub(super) fn port_of(id: &ServicePortId) -> String {
    let ServicePortId { name, port_name, .. } = id;
    if port_name.is_empty() { name.clone() } else { format!("{name}:{port_name}") }
}

/// `10.96.0.10:80/tcp` or `:30080/tcp`.
pub(super) fn frontend(frontend: &Frontend, protocol: &str) -> String {
    let place = match frontend.address {
        Some(ip) => SocketAddr::new(ip, frontend.port).to_string(),
        None => format!(":{}", frontend.port),
    };
    format!("{place}/{}", protocol.to_lowercase())
}

pub(super) fn fast_path(fast_path: FastPath) -> &'static str {
    match fast_path {
        FastPath::On => "established connections go through the flowtable",
        FastPath::Off => "all packets go through the rules",
        FastPath::Lacking => {
            "asked for, but this kernel has no flowtable; all packets go through the rules"
        }
    }
}

/// `12 connections; refused or dropped: no-endpoints=3`.
pub(super) fn counters(counters: &Counters) -> String {
    let connections = counters.connections.map(|count| format!("{count} connections"));
    let refused = refused(counters).map(|refused| format!("refused or dropped: {refused}"));
    connections.into_iter().chain(refused).collect::<Vec<_>>().join("; ")
}

/// `no-endpoints=3,source-ranges=1`; `None` if there was none.
pub(super) fn refused(counters: &Counters) -> Option<String> {
    let some = counters.refused.iter().filter(|(_, count)| **count > 0);
    let texts: Vec<_> = some.map(|(reason, count)| format!("{reason}={count}")).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

pub(super) fn kind(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "cluster IP",
        FrontendKind::LoadBalancerVip => "load-balancer VIP",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::NodePort => "node port",
    }
}
