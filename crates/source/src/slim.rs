//! Kubernetes objects with only the fields that a proxy uses.
//!
//! Everything else, above all `metadata.managedFields`, is skipped by the parser without being stored.
//! Strings borrow from the input where it can be borrowed from.
//! As in the API server, `null` is the same as an absent field, and a wrongly typed value makes the object undecodable.
//! Whether a value of the right type makes sense is for [`normalise`](crate::normalise) to say.

use serde::Deserialize;

mod keyed;
mod scalar;

pub use keyed::{Annotations, Labels};
pub use scalar::{Int, List, Text};

/// `metadata`, of all kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Meta<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub namespace: Option<Text<'a>>,
    #[serde(borrow)]
    pub resource_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub deletion_timestamp: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub labels: Option<Labels<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub annotations: Option<Annotations<'a>>,
}

/// A Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Service<'a> {
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub metadata: Option<Meta<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub spec: Option<ServiceSpec<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub status: Option<ServiceStatus<'a>>,
}

/// `spec` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceSpec<'a> {
    #[serde(borrow, rename = "type")]
    pub type_: Option<Text<'a>>,
    #[serde(borrow, rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    #[serde(borrow, rename = "clusterIPs", default)]
    pub cluster_ips: List<Text<'a>>,
    #[serde(borrow, default)]
    pub ip_families: List<Text<'a>>,
    #[serde(borrow, rename = "externalIPs", default)]
    pub external_ips: List<Text<'a>>,
    #[serde(borrow, default)]
    pub load_balancer_source_ranges: List<Text<'a>>,
    #[serde(borrow)]
    pub internal_traffic_policy: Option<Text<'a>>,
    #[serde(borrow)]
    pub external_traffic_policy: Option<Text<'a>>,
    #[serde(borrow)]
    pub session_affinity: Option<Text<'a>>,
    #[serde(default, deserialize_with = "scalar::object")]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    pub health_check_node_port: Option<Int>,
    #[serde(borrow, default)]
    pub ports: List<ServicePort<'a>>,
}

/// `spec.sessionAffinityConfig` of a Service.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct SessionAffinityConfig {
    #[serde(rename = "clientIP", default, deserialize_with = "scalar::object")]
    pub client_ip: Option<ClientIpConfig>,
}

/// `spec.sessionAffinityConfig.clientIP` of a Service.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ClientIpConfig {
    pub timeout_seconds: Option<Int>,
}

/// One of `spec.ports` of a Service. The target port is the business of those who make EndpointSlices.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServicePort<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
    pub port: Option<Int>,
    pub node_port: Option<Int>,
}

/// `status` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceStatus<'a> {
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub load_balancer: Option<LoadBalancerStatus<'a>>,
}

/// `status.loadBalancer` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LoadBalancerStatus<'a> {
    #[serde(borrow, default)]
    pub ingress: List<Ingress<'a>>,
}

/// One of `status.loadBalancer.ingress` of a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Ingress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    #[serde(borrow)]
    pub ip_mode: Option<Text<'a>>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct EndpointSlice<'a> {
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub metadata: Option<Meta<'a>>,
    #[serde(borrow)]
    pub address_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub ports: List<EndpointPort<'a>>,
    #[serde(borrow, default)]
    pub endpoints: List<Endpoint<'a>>,
}

/// One of `ports` of an EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct EndpointPort<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    #[serde(borrow)]
    pub protocol: Option<Text<'a>>,
    pub port: Option<Int>,
}

/// One of `endpoints` of an EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Endpoint<'a> {
    #[serde(borrow, default)]
    pub addresses: List<Text<'a>>,
    #[serde(default, deserialize_with = "scalar::object")]
    pub conditions: Option<Conditions>,
    #[serde(borrow)]
    pub node_name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub hints: Option<Hints<'a>>,
}

/// `conditions` of an endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// `hints` of an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Hints<'a> {
    #[serde(borrow, default)]
    pub for_zones: List<Hint<'a>>,
    #[serde(borrow, default)]
    pub for_nodes: List<Hint<'a>>,
}

/// One zone or node of `hints`.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Hint<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
}

/// A Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Node<'a> {
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub metadata: Option<Meta<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub spec: Option<NodeSpec<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub status: Option<NodeStatus<'a>>,
}

/// `spec` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeSpec<'a> {
    #[serde(borrow, rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    #[serde(borrow, rename = "podCIDRs", default)]
    pub pod_cidrs: List<Text<'a>>,
    #[serde(borrow, default)]
    pub taints: List<Taint<'a>>,
}

/// One of `spec.taints` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Taint<'a> {
    #[serde(borrow)]
    pub key: Option<Text<'a>>,
}

/// `status` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeStatus<'a> {
    #[serde(borrow, default)]
    pub addresses: List<NodeAddress<'a>>,
}

/// One of `status.addresses` of a Node.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct NodeAddress<'a> {
    #[serde(borrow, rename = "type")]
    pub type_: Option<Text<'a>>,
    #[serde(borrow)]
    pub address: Option<Text<'a>>,
}

/// A ServiceCIDR.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceCidr<'a> {
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub metadata: Option<Meta<'a>>,
    #[serde(borrow, default, deserialize_with = "scalar::object")]
    pub spec: Option<ServiceCidrSpec<'a>>,
}

/// `spec` of a ServiceCIDR.
#[derive(Clone, Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceCidrSpec<'a> {
    #[serde(borrow, default)]
    pub cidrs: List<Text<'a>>,
}

#[cfg(test)]
mod tests;
