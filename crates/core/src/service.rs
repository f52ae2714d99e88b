//! Services in normalised form: the object as a source hands it in, and the service port that backends see.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::{IpFamily, ObjectName, PerFamily, Protocol, ServicePortName};

/// Which endpoints a frontend may use: all of the cluster or only those on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// Every endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints on this node; the client address is kept.
    Local,
}

/// How the address of a client is handed on to an endpoint that sees only the proxy (PROXY protocol,
/// `doc/proxy-protocol.txt` of its inventors): only modes that copy connections themselves need and do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2,
}

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
    /// `spec.loadBalancerSourceRanges`. Empty lets everybody in.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.internalTrafficPolicy`: for the cluster IP.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`: for node ports, external IPs and load-balancer VIPs.
    pub external_traffic_policy: TrafficPolicy,
    /// The timeout of `ClientIP` session affinity; `None` means no affinity.
    pub session_affinity: Option<Duration>,
    /// `spec.healthCheckNodePort` where it applies (type `LoadBalancer` with external policy `Local`).
    pub health_check_node_port: Option<NonZeroU16>,
    /// Scheduler asked for by annotation, for modes that have several; names are not checked.
    pub scheduler: Option<Arc<str>>,
    /// What connections to endpoints begin with, to tell them the address of the client.
    pub proxy_protocol: Option<ProxyProtocol>,
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
            load_balancer_source_ranges: Vec::new(),
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Cluster,
            session_affinity: None,
            health_check_node_port: None,
            scheduler: None,
            proxy_protocol: None,
            ports: Vec::new(),
        }
    }

    /// The service ports of one family; empty when the Service has no cluster IP of that family.
    ///
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
        let external_ips: Arc<[IpAddr]> = of_family(&self.external_ips).into();
        let load_balancer_vips: Arc<[IpAddr]> = of_family(&self.load_balancer_vips).into();
        let source_ranges = self.source_ranges(family);
        let mut ports: Vec<(ServicePortName, ServicePort)> = Vec::with_capacity(self.ports.len());
        for port in &self.ports {
            let name = ServicePortName {
                service: self.name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            };
            if ports.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let mut service_port = ServicePort {
                cluster_ip,
                port: port.port,
                protocol: port.protocol,
                node_port: port.node_port,
                external_ips: external_ips.clone(),
                load_balancer_vips: load_balancer_vips.clone(),
                load_balancer_source_ranges: source_ranges.clone(),
                internal_traffic_policy: self.internal_traffic_policy,
                external_traffic_policy: self.external_traffic_policy,
                session_affinity: self.session_affinity,
                health_check_node_port: self.health_check_node_port,
                scheduler: self.scheduler.clone(),
                proxy_protocol: self.proxy_protocol,
            };
            service_port.settle_external_policy();
            ports.push((name, service_port));
        }
        ports
    }

    /// The source ranges of one family, or `None` when everybody is let in: no range of that family, or one that holds every address.
    fn source_ranges(&self, family: IpFamily) -> Option<Arc<[IpNet]>> {
        let mut own: Vec<_> = self
            .load_balancer_source_ranges
            .iter()
            .map(IpNet::trunc)
            .filter(|net| IpFamily::of_net(net) == family)
            .collect();
        if own.is_empty() || own.iter().any(|net| net.prefix_len() == 0) {
            return None;
        }
        own.sort_unstable();
        own.dedup();
        Some(own.into())
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
    /// The cluster IP.
    pub cluster_ip: IpAddr,
    /// The port on the cluster IP, the external IPs and the load-balancer VIPs.
    pub port: NonZeroU16,
    /// The protocol.
    pub protocol: Protocol,
    /// The node port.
    pub node_port: Option<NonZeroU16>,
    /// External IPs of this family, sorted.
    pub external_ips: Arc<[IpAddr]>,
    /// Load-balancer VIPs of this family, sorted.
    pub load_balancer_vips: Arc<[IpAddr]>,
    /// Who may use the load-balancer VIPs; `None` is everybody. Never empty, sorted, host bits cleared.
    pub load_balancer_source_ranges: Option<Arc<[IpNet]>>,
    /// For the cluster IP.
    pub internal_traffic_policy: TrafficPolicy,
    /// For the external frontends; `Cluster` when there are none.
    pub external_traffic_policy: TrafficPolicy,
    /// Timeout of client-IP affinity.
    pub session_affinity: Option<Duration>,
    /// The health-check node port of the Service.
    pub health_check_node_port: Option<NonZeroU16>,
    /// Scheduler asked for by annotation, for modes that have several.
    pub scheduler: Option<Arc<str>>,
    /// What connections to endpoints begin with.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl ServicePort {
    /// Takes the external IPs away, for clusters that do not allow them.
    pub(crate) fn forbid_external_ips(&mut self) {
        self.external_ips = Arc::from([]);
        self.settle_external_policy();
    }

    /// The external policy counts only where there is an external frontend to apply it to.
    fn settle_external_policy(&mut self) {
        if !self.externally_reachable() {
            self.external_traffic_policy = TrafficPolicy::Cluster;
        }
    }

    /// Whether there is any frontend besides the cluster IP.
    pub fn externally_reachable(&self) -> bool {
        self.node_port.is_some()
            || !self.external_ips.is_empty()
            || !self.load_balancer_vips.is_empty()
    }

    /// Whether any frontend may use every endpoint of the cluster (semantics: *usesCluster*).
    ///
    /// True for every externally reachable port, whatever its policy: pods and the node itself are short-circuited to cluster endpoints.
    pub fn uses_cluster_endpoints(&self) -> bool {
        self.internal_traffic_policy == TrafficPolicy::Cluster || self.externally_reachable()
    }

    /// Whether any frontend is restricted to endpoints on this node (semantics: *usesLocal*).
    pub fn uses_local_endpoints(&self) -> bool {
        self.internal_traffic_policy == TrafficPolicy::Local
            || (self.external_traffic_policy == TrafficPolicy::Local && self.externally_reachable())
    }
}
