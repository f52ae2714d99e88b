//! This node, as the Kubernetes API knows it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::IpFamily;

/// The Node object of this node, reduced to what a proxy needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Addresses of type `InternalIP`, then those of type `ExternalIP`, in the order of the object.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
    /// It has a deletion timestamp.
    pub being_deleted: bool,
    /// It has the taint `ToBeDeletedByClusterAutoscaler`.
    pub to_be_removed_by_autoscaler: bool,
}

impl Node {
    /// The first address of a family.
    pub fn address(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| IpFamily::of(ip) == family)
    }
}
