//! Names and kinds that several answers have.

use serde::{Deserialize, Serialize};

/// The name of a service port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServicePortId {
    /// The namespace of the Service.
    pub namespace: String,
    /// The name of the Service.
    pub name: String,
    /// The name of the port; empty when it has none.
    pub port_name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

impl ServicePortId {
    /// `namespace/name:port`, or `namespace/name` where the port has no name.
    pub fn name(&self) -> String {
        let Self { namespace, name, port_name, .. } = self;
        let port = if port_name.is_empty() { String::new() } else { format!(":{port_name}") };
        format!("{namespace}/{name}{port}")
    }
}

/// What a frontend is to its service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FrontendKind {
    /// The cluster IP.
    ClusterIp,
    /// A load-balancer VIP.
    LoadBalancerVip,
    /// An external IP.
    ExternalIp,
    /// A node port.
    NodePort,
}

/// Which endpoints traffic may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Policy {
    /// Every endpoint of the cluster.
    Cluster,
    /// Only endpoints on this node.
    Local,
}
