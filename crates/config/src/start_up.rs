//! What can be said about a configuration once the node is known: warnings, and reasons not to start.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kube_proxy_core::IpFamily;

use super::effective::{Effective, LocalTraffic, NodePorts};

/// A silence of less than this is usual.
const LEAST_STALE_AFTER: Duration = Duration::from_secs(90);

/// What was found out about this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The primary family: that of the node's first address, or of `bindAddress`.
    pub primary: IpFamily,
    /// The host can use both families.
    pub dual_stack: bool,
    /// The addresses of the node.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs` of the Node object.
    pub pod_cidrs: Vec<IpNet>,
}

/// Why the proxy must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartUpError {
    /// Only networks of a family that the node cannot use.
    #[error(
        "{field} has only networks of the wrong family ({cidrs}): this node uses {family} only"
    )]
    WrongFamily {
        /// `KubeProxyConfiguration.clusterCIDR` or `Node.spec.podCIDRs`.
        field: &'static str,
        /// The networks.
        cidrs: String,
        /// The family in use.
        family: IpFamily,
    },
}

impl Effective {
    /// The family of the node's address, given what is known of the Node object.
    ///
    /// An address in `bindAddress` decides; then the first address of the Node; then the family of `bindAddress`.
    pub fn primary_family(&self, addresses: &[IpAddr]) -> IpFamily {
        match addresses.first() {
            Some(first) if self.bind_address.is_unspecified() => IpFamily::of(first),
            _ => IpFamily::of(&self.bind_address),
        }
    }

    /// What the operator should know, one sentence each.
    pub fn start_up_warnings(&self, node: &NodeFacts) -> Vec<String> {
        let mut warnings = Vec::new();
        self.warn_of_node_ports(node, &mut warnings);
        warnings.extend(self.staleness_warning());
        if !node.dual_stack {
            self.warn_of_families(node.primary, &mut warnings);
        }
        warnings
    }

    fn staleness_warning(&self) -> Option<String> {
        let limit = self.healthz_stale_after.filter(|limit| *limit < LEAST_STALE_AFTER)?;
        Some(format!(
            "--healthz-stale-after is {limit:?} only: an idle API server answers about every \
             minute, and /healthz will fail in between"
        ))
    }

    fn warn_of_node_ports(&self, node: &NodeFacts, warnings: &mut Vec<String>) {
        // A list with `primary` opens no address that it does not name.
        let NodePorts { primary: false, within: cidrs } = &self.node_ports else { return };
        if cidrs.is_empty() {
            warnings.push(
                "nodePortAddresses is unset: NodePort connections are accepted on all local IPs; \
                 consider --nodeport-addresses=primary"
                    .to_owned(),
            );
            return;
        }
        let covers = |family| cidrs.iter().any(|net| IpFamily::of_net(net) == family);
        let (primary, other) = (node.primary, node.primary.other());
        if !covers(primary) {
            warnings.push(format!(
                "nodePortAddresses has {other} networks only, but this node is primarily {primary}: \
                 NodePort connections are accepted on all local {primary} IPs"
            ));
        } else if !covers(other) && self.looks_dual_stack(node) {
            warnings.push(format!(
                "nodePortAddresses has {primary} networks only, but the cluster looks dual-stack: \
                 NodePort connections are accepted on all local {other} IPs"
            ));
        }
    }

    /// Both families appear among the cluster networks, the pod networks or the node's addresses.
    fn looks_dual_stack(&self, node: &NodeFacts) -> bool {
        let both = |mut families: Vec<IpFamily>| {
            families.dedup();
            families.len() > 1
        };
        let cluster = match &self.local_traffic {
            LocalTraffic::ClusterCidr(cidrs) => cidrs.iter().map(IpFamily::of_net).collect(),
            _ => Vec::new(),
        };
        both(cluster)
            || both(node.pod_cidrs.iter().map(IpFamily::of_net).collect())
            || both(node.addresses.iter().map(IpFamily::of).collect())
    }

    fn warn_of_families(&self, family: IpFamily, warnings: &mut Vec<String>) {
        let mut warn = |field: &str, value: String| {
            warnings.push(format!("{field} {value} is not {family}, the only family of this node"));
        };
        for cidr in &self.ipvs.exclude_cidrs {
            if IpFamily::of_net(cidr) != family {
                warn("ipvs.excludeCIDRs", cidr.to_string());
            }
        }
        for (field, address) in [
            ("healthzBindAddress", self.healthz_address),
            ("metricsBindAddress", self.metrics_address),
        ] {
            if let Some(address) = address.filter(|address| IpFamily::of(&address.ip()) != family) {
                warn(field, address.to_string());
            }
        }
    }

    /// Checks that local traffic can be recognised in a family that the node uses.
    ///
    /// # Errors
    /// [`StartUpError::WrongFamily`]
    pub fn check_start_up(&self, node: &NodeFacts) -> Result<(), StartUpError> {
        let (field, cidrs) = match &self.local_traffic {
            LocalTraffic::ClusterCidr(cidrs) if !node.dual_stack => {
                ("KubeProxyConfiguration.clusterCIDR", cidrs)
            }
            LocalTraffic::NodeCidr if !node.dual_stack => ("Node.spec.podCIDRs", &node.pod_cidrs),
            _ => return Ok(()),
        };
        let usable = cidrs.iter().any(|net| IpFamily::of_net(net) == node.primary);
        if usable || cidrs.is_empty() {
            return Ok(());
        }
        let cidrs = cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(StartUpError::WrongFamily { field, cidrs, family: node.primary })
    }
}

#[cfg(test)]
mod tests;
