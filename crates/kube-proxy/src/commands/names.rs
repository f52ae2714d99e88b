//! Names as commands print them.

use std::net::SocketAddr;

use crate::debug::{Frontend, FrontendKind, ServicePortId};

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

pub(super) fn kind(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::ClusterIp => "cluster IP",
        FrontendKind::LoadBalancerVip => "load-balancer VIP",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::NodePort => "node port",
    }
}
