//! The answer of `/debug/services`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::endpoints::Endpoint;
use super::names::{FrontendKind, Policy, ServicePortId};

/// What this node serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Services {
    /// The name of the node.
    pub node: String,
    /// The proxy mode, as in `--proxy-mode`.
    pub mode: String,
    /// The version of the program.
    pub version: String,
    /// The state of each IP family that the proxy serves.
    pub families: Vec<Family>,
    /// The service ports of all families, sorted by family and name.
    pub service_ports: Vec<ServicePort>,
}

/// The state of one IP family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Family {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// When the last sync succeeded (RFC 3339); absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced: Option<String>,
    /// How long, in seconds, the oldest change has waited to be written; absent when nothing waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_seconds: Option<f64>,
    /// Why the last sync failed; absent when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The address of this node, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ip: Option<IpAddr>,
    /// The zone of this node, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Changes of Services and endpoints since then are remembered (RFC 3339), earlier ones no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_since: Option<String>,
}

/// One port of one Service in one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServicePort {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// The name.
    #[serde(flatten)]
    pub id: ServicePortId,
    /// The cluster IP.
    pub cluster_ip: IpAddr,
    /// The port on the cluster IP, the external IPs and the load-balancer VIPs.
    pub port: u16,
    /// Where it is reached, also where another service port has the frontend.
    pub frontends: Vec<Frontend>,
    /// `spec.internalTrafficPolicy`: for the cluster IP.
    pub internal_traffic_policy: Policy,
    /// `spec.externalTrafficPolicy`; absent without a frontend that it applies to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<Policy>,
    /// What becomes of external traffic under the policy `Local` without local endpoints: `drop`, `reject` or `passthrough`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_local_endpoints: Option<String>,
    /// How few ready endpoints the zone of this node may have left before those of other zones join them: a number or a percentage; absent for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_spill_below: Option<String>,
    /// Connections to endpoints that left are ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_dead_connections: bool,
    /// Whether established connections go through the flowtable, as the annotation says; absent without it, and in modes that do not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fast_path: Option<FastPath>,
    /// The timeout of `ClientIP` session affinity in seconds; absent without affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_seconds: Option<u64>,
    /// How an endpoint is chosen: `source-hash` or `least-connections`; absent where it is at random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lb_algorithm: Option<String>,
    /// Who may use the load-balancer VIPs; empty for everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    /// `spec.healthCheckNodePort`, where it applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// The last change of the Service or its endpoints; absent if it was before `changesSince` of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<Change>,
    /// Endpoints that some frontend uses on this node.
    pub endpoints_used: usize,
    /// Endpoints that are ready, wherever they are.
    pub endpoints_ready: usize,
    /// All endpoints.
    pub endpoints_total: usize,
    /// What was counted since this process started; absent unless that was asked for (`counters=true`), and where nothing is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Counters>,
    /// The endpoints, sorted by address; empty when the question left them out (`endpoints=none`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// What becomes of the annotation `kube-proxy.io/fast-path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum FastPath {
    /// Established connections go through the flowtable.
    On,
    /// All packets go through the rules.
    Off,
    /// It is asked for, and the kernel has none.
    Lacking,
}

/// What was counted of a service port since this process started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counters {
    /// New connections; for UDP, new flows. Absent beyond the limit (`--service-metrics-limit`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// Attempts to connect that were refused or dropped, by the reason as in `kubeproxy_service_refused_connections_total`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}

/// A destination that a service port offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Frontend {
    /// What it is.
    pub kind: FrontendKind,
    /// Its address; absent for a node port, which is on the addresses of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Which endpoints its traffic may use.
    pub policy: Policy,
    /// The service port that has it instead: this one is not reachable here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ServicePortId>,
    /// The service ports that ask for it in vain, because this one has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contested_by: Vec<ServicePortId>,
}
