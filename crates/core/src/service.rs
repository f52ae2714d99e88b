//! Services in normalised form: the object as a source hands it in, and the service port that backends see.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::FxHashSet;

use crate::frontend::{Frontend, FrontendKind};
use crate::{
    IpFamily, Masquerade, NoLocalEndpoints, ObjectName, PerFamily, Protocol, ServicePolicy,
    ServicePortName, TrafficPolicy, Treatment, Unserved,
};

/// One Service, of both families, reduced to what a proxy needs.
///
/// A source only hands in Services that are to be proxied: headless ones, those of type `ExternalName` and those labelled with another
/// service proxy's name are left out (or deleted, when they become so).
/// Address lists may mix families; each tracker takes its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// The cluster IP of each family.
    pub cluster_ips: PerFamily<Option<IpAddr>>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of those whose `ipMode` is `VIP` or unset.
    pub load_balancer_vips: Vec<IpAddr>,
    /// What it asks for the traffic of all its ports.
    pub policy: ServicePolicy,
    /// The ports.
    pub ports: Vec<Port>,
}

impl Service {
    /// A Service with this name and nothing else: the start for literals in sources and tests.
    pub fn new(name: ObjectName) -> Self {
        Self {
            name,
            cluster_ips: PerFamily::default(),
            external_ips: Vec::new(),
            load_balancer_vips: Vec::new(),
            policy: ServicePolicy::default(),
            ports: Vec::new(),
        }
    }

    /// The service ports of one family; empty when the Service has no cluster IP of that family.
    ///
    /// An address that the Service names as several kinds of frontend is one: cluster IP before load-balancer VIP before external IP.
    /// Of two ports with the same name and protocol the first wins; the API server lets no such object pass.
    pub fn service_ports(&self, family: IpFamily) -> Vec<(ServicePortName, ServicePort)> {
        let Some(cluster_ip) = *self.cluster_ips.get(family) else {
            return Vec::new();
        };
        let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
            let mut own: Vec<_> =
                addresses.iter().copied().filter(|a| IpFamily::of(a) == family).collect();
            own.sort_unstable();
            own.dedup();
            own
        };
        let addresses = Addresses {
            cluster_ip,
            vips: of_family(&self.load_balancer_vips),
            external: of_family(&self.external_ips),
        };
        let policy = self.policy.of_family(family);
        let mut ports: Vec<(ServicePortName, ServicePort)> = Vec::with_capacity(self.ports.len());
        let mut known = FxHashSet::default();
        for port in &self.ports {
            if !known.insert((&port.name, port.protocol)) {
                continue;
            }
            let name = ServicePortName {
                service: self.name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            };
            let mut service_port = ServicePort {
                cluster_ip,
                port: port.port,
                protocol: port.protocol,
                frontends: addresses.frontends(port),
                policy: policy.clone(),
            };
            service_port.settle_external_policy();
            ports.push((name, service_port));
        }
        ports
    }
}

/// The addresses of a Service in one family, each list sorted.
struct Addresses {
    cluster_ip: IpAddr,
    vips: Vec<IpAddr>,
    external: Vec<IpAddr>,
}

impl Addresses {
    /// The frontends of a port, each once. Source ranges would not hold for a VIP that were an external IP as well.
    fn frontends(&self, port: &Port) -> Box<[(Frontend, FrontendKind)]> {
        let vip = |ip: &IpAddr| self.vips.binary_search(ip).is_ok();
        let vips = self.vips.iter().map(|ip| (ip, FrontendKind::LoadBalancerVip));
        let external = self.external.iter().filter(|ip| !vip(ip));
        let external = external.map(|ip| (ip, FrontendKind::ExternalIp));
        let others = vips.chain(external).filter(|(ip, _)| **ip != self.cluster_ip);
        let all = std::iter::once((&self.cluster_ip, FrontendKind::ClusterIp)).chain(others);
        let number = port.port.get();
        let all = all.map(|(ip, kind)| (Frontend::address(port.protocol, *ip, number), kind));
        let node_port = port.node_port.map(|number| {
            (Frontend::NodePort(port.protocol, number.get()), FrontendKind::NodePort)
        });
        all.chain(node_port).collect()
    }
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name; empty when there is none.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The port on the cluster IP, the external IPs and the load-balancer VIPs.
    pub port: NonZeroU16,
    /// The port on the node's addresses.
    pub node_port: Option<NonZeroU16>,
}

/// One port of one Service in one family: everything that is reachable from outside, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The cluster IP: what the service port is known by, even while another has it as a frontend.
    pub cluster_ip: IpAddr,
    /// The port on the cluster IP, the external IPs and the load-balancer VIPs.
    pub port: NonZeroU16,
    /// The protocol.
    pub protocol: Protocol,
    /// Where it is reached: the cluster IP first, then VIPs, external IPs and the node port, each once, addresses sorted.
    /// In a [`Snapshot`](crate::Snapshot) without those that another service port owns.
    pub frontends: Box<[(Frontend, FrontendKind)]>,
    /// What its Service asks for the traffic; shared by the ports of the Service.
    pub policy: Arc<ServicePolicy>,
}

impl ServicePort {
    /// Takes the external IPs away, for clusters that do not allow them.
    pub(crate) fn forbid_external_ips(&mut self) {
        self.retain_frontends(|_, kind| kind != FrontendKind::ExternalIp);
        self.settle_external_policy();
    }

    /// Takes over another policy of the Service.
    pub(crate) fn set_policy(&mut self, policy: Arc<ServicePolicy>) {
        self.policy = policy;
        self.settle_external_policy();
    }

    /// Which endpoints frontends of this kind may use.
    pub fn traffic_policy(&self, kind: FrontendKind) -> TrafficPolicy {
        if kind.is_external() {
            self.policy.external_traffic_policy
        } else {
            self.policy.internal_traffic_policy
        }
    }

    /// Who may use the load-balancer VIPs; `None` is everybody.
    pub fn source_ranges(&self) -> Option<&[IpNet]> {
        Some(&*self.policy.load_balancer_source_ranges).filter(|ranges| !ranges.is_empty())
    }

    /// What becomes of traffic for a frontend of this kind that the `Local` policy leaves no endpoint, while others have some.
    ///
    /// A VIP with source ranges stays closed: most modes let in who may by translating, and so could not tell who may not.
    pub fn without_local_endpoints(&self, kind: FrontendKind) -> NoLocalEndpoints {
        match kind {
            FrontendKind::ClusterIp => NoLocalEndpoints::Drop,
            FrontendKind::LoadBalancerVip if self.source_ranges().is_some() => {
                NoLocalEndpoints::Drop
            }
            FrontendKind::LoadBalancerVip | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                self.policy.no_local_endpoints.unwrap_or_default()
            }
        }
    }

    /// Takes the frontends away that another service port owns.
    pub(crate) fn remove_lost(&mut self, owns: impl Fn(Frontend) -> bool) {
        self.retain_frontends(|frontend, _| owns(frontend));
        self.settle_external_policy();
    }

    fn retain_frontends(&mut self, keep: impl Fn(Frontend, FrontendKind) -> bool) {
        if !self.frontends.iter().all(|(frontend, kind)| keep(*frontend, *kind)) {
            let all = self.frontends.iter().copied();
            self.frontends = all.filter(|(frontend, kind)| keep(*frontend, *kind)).collect();
        }
    }

    /// The external policy counts only where there is an external frontend to apply it to, and what it lacks only where it is `Local`.
    fn settle_external_policy(&mut self) {
        let mut settled = None;
        if self.policy.external_traffic_policy == TrafficPolicy::Local
            && !self.externally_reachable()
        {
            let policy = settled.get_or_insert_with(|| (*self.policy).clone());
            policy.external_traffic_policy = TrafficPolicy::Cluster;
        }
        let policy = settled.as_ref().unwrap_or(&self.policy);
        if policy.external_traffic_policy == TrafficPolicy::Cluster
            && policy.no_local_endpoints.is_some()
        {
            let policy = settled.get_or_insert_with(|| (*self.policy).clone());
            policy.no_local_endpoints = None;
        }
        if let Some(policy) = settled {
            self.policy = policy.shared();
        }
    }

    /// The node port, if it has one.
    pub fn node_port(&self) -> Option<u16> {
        self.frontends.iter().find_map(|(frontend, _)| match *frontend {
            Frontend::NodePort(_, port) => Some(port),
            Frontend::Address(..) => None,
        })
    }

    /// Whether there is any frontend besides the cluster IP.
    pub fn externally_reachable(&self) -> bool {
        self.frontends.iter().any(|(_, kind)| kind.is_external())
    }

    /// Whether any traffic for it is under a policy.
    pub fn uses(&self, policy: TrafficPolicy) -> bool {
        match policy {
            TrafficPolicy::Cluster => self.uses_cluster_endpoints(),
            TrafficPolicy::Local => self.uses_local_endpoints(),
        }
    }

    /// The kinds of its frontends whose traffic is under a policy, each once.
    pub fn kinds_under(&self, policy: TrafficPolicy) -> Vec<FrontendKind> {
        let has = |kind: &FrontendKind| self.frontends.iter().any(|(_, other)| other == kind);
        let is_under = |kind: &FrontendKind| self.traffic_policy(*kind) == policy;
        FrontendKind::ALL.into_iter().filter(has).filter(is_under).collect()
    }

    /// Whether any frontend may use every endpoint of the cluster (semantics: *usesCluster*).
    ///
    /// True for every externally reachable port, whatever its policy: pods and the node itself are short-circuited to cluster endpoints.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.policy.internal_traffic_policy == TrafficPolicy::Cluster || self.externally_reachable()
    }

    /// Whether any frontend is restricted to endpoints on this node (semantics: *usesLocal*).
    pub fn uses_local_endpoints(&self) -> bool {
        self.policy.internal_traffic_policy == TrafficPolicy::Local
            || (self.policy.external_traffic_policy == TrafficPolicy::Local
                && self.externally_reachable())
    }
}

impl ServicePort {
    /// What becomes of packets for its frontends of this kind, where these policies have an endpoint, and some policy has one.
    pub fn treatment(
        &self,
        kind: FrontendKind,
        has_endpoint: impl Fn(TrafficPolicy) -> bool,
        has_any_endpoint: bool,
    ) -> Treatment<'_> {
        let policy = self.traffic_policy(kind);
        let unserved = if has_any_endpoint {
            Unserved::NoLocalEndpoints(self.without_local_endpoints(kind))
        } else {
            Unserved::NoEndpoints
        };
        Treatment {
            policy,
            short_circuit: kind.is_external() && policy == TrafficPolicy::Local,
            masquerade: match (kind, policy) {
                (FrontendKind::ClusterIp, _) => Masquerade::FromElsewhere,
                (_, TrafficPolicy::Cluster) => Masquerade::Always,
                (_, TrafficPolicy::Local) => Masquerade::Never,
            },
            unserved: Some(unserved).filter(|_| !has_endpoint(policy)),
            sources: self.source_ranges().filter(|_| kind == FrontendKind::LoadBalancerVip),
        }
    }
}

#[cfg(test)]
mod tests;
