//! The chains of one service port: what a packet meets once dispatch has found its service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube_proxy_core::{
    Endpoint, IpFamily, LocalTrafficDetector, Protocol, ServiceEntry, ServicePort, ServicePortName,
    TrafficPolicy,
};

use crate::names::{ChainName, ServiceChains, endpoint_chain};
use crate::restore::Part;
use crate::rules::{Rules, if_local};

/// Where packets for a service port arrive. Two service ports cannot share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Frontend {
    /// An address of its own: cluster IP, external IP or load-balancer VIP.
    Address(IpAddr, Protocol, u16),
    /// A port on the addresses of the node.
    NodePort(Protocol, u16),
    /// The TCP port where the node tells load balancers whether it has endpoints.
    HealthCheck(u16),
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, protocol, port) => {
                write!(f, "{protocol} {}", SocketAddr::new(*ip, *port))
            }
            Self::NodePort(protocol, port) => write!(f, "{protocol} node port {port}"),
            Self::HealthCheck(port) => write!(f, "health-check node port {port}"),
        }
    }
}

/// What a frontend is to its service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    ClusterIp,
    ExternalIp,
    LoadBalancerVip,
    NodePort,
    HealthCheck,
}

/// Every frontend of a service port. An address that has two roles keeps the first.
pub(crate) fn frontends(port: &ServicePort) -> Vec<(Frontend, Role)> {
    let address = |ip: &IpAddr| Frontend::Address(*ip, port.protocol, port.port.get());
    let mut all = vec![(address(&port.cluster_ip), Role::ClusterIp)];
    let external = port.external_ips.iter().map(|ip| (ip, Role::ExternalIp));
    let vips = port.load_balancer_vips.iter().map(|ip| (ip, Role::LoadBalancerVip));
    for (ip, role) in external.chain(vips) {
        if !all.iter().any(|(known, _)| *known == address(ip)) {
            all.push((address(ip), role));
        }
    }
    let node_port = port.node_port.map(|n| Frontend::NodePort(port.protocol, n.get()));
    all.extend(node_port.map(|frontend| (frontend, Role::NodePort)));
    let health_check = port.health_check_node_port.map(|n| Frontend::HealthCheck(n.get()));
    all.extend(health_check.map(|frontend| (frontend, Role::HealthCheck)));
    all
}

/// The endpoints that a policy allows.
fn endpoints(entry: &ServiceEntry, policy: TrafficPolicy) -> &[Endpoint] {
    match policy {
        TrafficPolicy::Cluster => &entry.choice.cluster,
        TrafficPolicy::Local => &entry.choice.local,
    }
}

/// What happens to packets for a frontend under `policy`, if no endpoint may take them: `None` if one may.
pub(crate) fn refusal(entry: &ServiceEntry, policy: TrafficPolicy) -> Option<Refusal> {
    if !endpoints(entry, policy).is_empty() {
        None
    } else if entry.choice.has_any {
        Some(Refusal::NoLocalEndpoints)
    } else {
        Some(Refusal::NoEndpoints)
    }
}

/// Why a frontend takes no packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There are none: say so at once.
    NoEndpoints,
    /// There are some elsewhere: stay silent, another node answers.
    NoLocalEndpoints,
}

impl Refusal {
    pub(crate) fn comment(self) -> &'static str {
        match self {
            Self::NoEndpoints => "has no endpoints",
            Self::NoLocalEndpoints => "has no local endpoints",
        }
    }

    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::NoEndpoints => "REJECT",
            Self::NoLocalEndpoints => "DROP",
        }
    }
}

/// The chain with the endpoints of a policy.
pub(crate) fn policy_chain(chains: &ServiceChains, policy: TrafficPolicy) -> ChainName {
    match policy {
        TrafficPolicy::Cluster => chains.cluster,
        TrafficPolicy::Local => chains.local,
    }
}

/// Whether external frontends lead anywhere: also without local endpoints, because local traffic is short-circuited.
pub(crate) fn has_external_chain(entry: &ServiceEntry) -> bool {
    entry.choice.has_any && entry.port.externally_reachable()
}

/// Whether the load-balancer VIPs are behind source ranges.
pub(crate) fn has_firewall(entry: &ServiceEntry) -> bool {
    has_external_chain(entry)
        && !entry.port.load_balancer_vips.is_empty()
        && entry.port.load_balancer_source_ranges.is_some()
}

/// What the chains of every service depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    pub(crate) family: IpFamily,
    pub(crate) masquerade_all: bool,
    pub(crate) detector: &'a LocalTrafficDetector,
    pub(crate) node_ip: Option<IpAddr>,
    /// Whether rules for endpoints say which endpoint and service they are for.
    pub(crate) endpoint_comments: bool,
}

/// One chain that a service port needs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind<'a> {
    /// The endpoints of a policy.
    Policy(TrafficPolicy),
    External,
    Firewall,
    /// One endpoint, under session affinity.
    Endpoint(&'a Endpoint),
}

impl Kind<'_> {
    /// Where in the input it stands.
    pub(crate) fn part(self) -> Part {
        match self {
            Self::Policy(TrafficPolicy::Cluster) => Part::Cluster,
            Self::Policy(TrafficPolicy::Local) => Part::Local,
            Self::External => Part::External,
            Self::Firewall => Part::Firewall,
            Self::Endpoint(_) => Part::Endpoints,
        }
    }
}

/// A service port about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceRules<'a> {
    pub(crate) settings: Settings<'a>,
    pub(crate) name: &'a Arc<ServicePortName>,
    pub(crate) entry: &'a ServiceEntry,
    pub(crate) names: ServiceChains,
}

impl<'a> ServiceRules<'a> {
    /// The chains it needs.
    pub(crate) fn chains(&self) -> Vec<(ChainName, Kind<'a>)> {
        let ServiceEntry { port, choice, .. } = self.entry;
        let mut chains = Vec::new();
        for policy in [TrafficPolicy::Cluster, TrafficPolicy::Local] {
            if !endpoints(self.entry, policy).is_empty() {
                chains.push((policy_chain(&self.names, policy), Kind::Policy(policy)));
            }
        }
        if has_external_chain(self.entry) {
            chains.push((self.names.external, Kind::External));
        }
        if has_firewall(self.entry) {
            chains.push((self.names.firewall, Kind::Firewall));
        }
        if port.session_affinity.is_some() {
            chains.extend(
                choice.reachable().map(|e| (endpoint_chain(self.name, e), Kind::Endpoint(e))),
            );
        }
        chains
    }

    /// Writes one of them.
    pub(crate) fn write(&self, kind: Kind<'_>, rules: &mut Rules<'_>) {
        rules.on_behalf_of(self.name);
        match kind {
            Kind::Policy(policy) => self.write_policy(policy, rules),
            Kind::External => self.write_external(rules),
            Kind::Firewall => self.write_firewall(rules),
            Kind::Endpoint(endpoint) => self.write_endpoint(endpoint, rules),
        }
    }

    /// `KUBE-SVC-…` and `KUBE-SVL-…`: masquerade what has to be, keep clients where they were, spread the rest evenly.
    fn write_policy(&self, policy: TrafficPolicy, rules: &mut Rules<'_>) {
        if policy == self.entry.port.internal_traffic_policy {
            self.masquerade_cluster_ip(rules);
        }
        let endpoints = endpoints(self.entry, policy);
        if let Some(timeout) = self.entry.port.session_affinity {
            let seconds = timeout.as_secs().max(1);
            for endpoint in endpoints {
                let chain = endpoint_chain(self.name, endpoint);
                self.endpoint_rule(rules, endpoint)
                    .words(format_args!(
                        "-m recent --rcheck --seconds {seconds} --reap --name {chain} --rsource"
                    ))
                    .jump(chain);
            }
        }
        self.write_balancing(endpoints, rules);
    }

    /// Packets to the cluster IP that may have to come back through this node are masqueraded.
    fn masquerade_cluster_ip(&self, rules: &mut Rules<'_>) {
        let source = if self.settings.masquerade_all {
            String::new()
        } else if let Some(local) = if_local(self.settings.detector) {
            format!("! {local}")
        } else {
            return;
        };
        let port = &self.entry.port;
        let rule = rules.rule();
        // `iptables-save` prints a source before the destination and an interface behind it.
        let rule = if source.is_empty() {
            rule.to(port.cluster_ip)
        } else if source.contains("-i ") {
            rule.to(port.cluster_ip).words(source)
        } else {
            rule.words(source).to(port.cluster_ip)
        };
        rule.protocol(port.protocol)
            .comment(format_args!("{} cluster IP", self.name))
            .port(port.protocol, port.port.get())
            .jump("KUBE-MARK-MASQ");
    }

    /// One rule for each endpoint: the first takes 1/n of the packets, the next 1/(n-1) of the rest, the last what is left.
    fn write_balancing(&self, endpoints: &[Endpoint], rules: &mut Rules<'_>) {
        let affinity = self.entry.port.session_affinity.is_some();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let left = endpoints.len() - index;
            let mut rule = self.endpoint_rule(rules, endpoint);
            if left > 1 {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "ten decimals are printed; endpoint counts stay far below 2^52"
                )]
                let probability = 1.0 / left as f64;
                rule = rule.words(format_args!(
                    "-m statistic --mode random --probability {probability:.10}"
                ));
            }
            if affinity {
                rule.jump(endpoint_chain(self.name, endpoint));
            } else {
                rule.jump(format_args!("DNAT --to-destination {}", endpoint.socket_address()));
            }
        }
    }

    /// `KUBE-SEP-…`: remembers the client, then DNAT.
    fn write_endpoint(&self, endpoint: &Endpoint, rules: &mut Rules<'_>) {
        let chain = endpoint_chain(self.name, endpoint);
        let mut rule = rules.rule().protocol(self.entry.port.protocol);
        if self.settings.endpoint_comments {
            rule = rule.comment(self.name);
        }
        rule.words(format_args!("-m recent --set --name {chain} --rsource"))
            .jump(format_args!("DNAT --to-destination {}", endpoint.socket_address()));
    }

    /// Starts a rule for one endpoint. DNAT to a port needs the protocol said.
    fn endpoint_rule<'r>(
        &self,
        rules: &'r mut Rules<'_>,
        endpoint: &Endpoint,
    ) -> crate::rules::Rule<'r> {
        let rule = rules.rule().protocol(self.entry.port.protocol);
        if self.settings.endpoint_comments {
            rule.comment(format_args!("{} -> {endpoint}", self.name))
        } else {
            rule
        }
    }

    /// `KUBE-EXT-…`: decides between masquerading, short-circuiting and keeping the client's address.
    fn write_external(&self, rules: &mut Rules<'_>) {
        let policy = self.entry.port.external_traffic_policy;
        let external = format!("{} external destinations", self.name);
        match policy {
            TrafficPolicy::Cluster => rules
                .rule()
                .comment(format_args!("masquerade traffic for {external}"))
                .jump("KUBE-MARK-MASQ"),
            TrafficPolicy::Local => self.short_circuit(&external, rules),
        }
        if !endpoints(self.entry, policy).is_empty() {
            rules.rule().jump(policy_chain(&self.names, policy));
        }
    }

    /// Under the `Local` policy, pods of this node and the node itself still reach every endpoint of the cluster.
    fn short_circuit(&self, external: &str, rules: &mut Rules<'_>) {
        let cluster = self.names.cluster;
        let reachable = !endpoints(self.entry, TrafficPolicy::Cluster).is_empty();
        if let (true, Some(local)) = (reachable, if_local(self.settings.detector)) {
            rules
                .rule()
                .words(local)
                .comment(format_args!("pod traffic for {external}"))
                .jump(cluster);
        }
        rules
            .rule()
            .comment(format_args!("masquerade LOCAL traffic for {external}"))
            .words("-m addrtype --src-type LOCAL")
            .jump("KUBE-MARK-MASQ");
        if reachable {
            rules
                .rule()
                .comment(format_args!("route LOCAL traffic for {external}"))
                .words("-m addrtype --src-type LOCAL")
                .jump(cluster);
        }
    }

    /// `KUBE-FW-…`: only what comes from the source ranges goes on. The rest is not translated, and so KUBE-PROXY-FIREWALL drops it.
    fn write_firewall(&self, rules: &mut Rules<'_>) {
        let port = &self.entry.port;
        let comment = format!("{} loadbalancer IP", self.name);
        let ranges = port.load_balancer_source_ranges.as_deref().unwrap_or(&[]);
        for range in ranges {
            rules
                .rule()
                .words(format_args!("-s {range}"))
                .comment(&comment)
                .jump(self.names.external);
        }
        // Where the VIP is an address of the node, the node reaches it from the VIP itself.
        let allows_node =
            self.settings.node_ip.is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip)));
        if allows_node {
            for vip in port.load_balancer_vips.iter() {
                rules.rule().from(*vip).comment(&comment).jump(self.names.external);
            }
        }
        rules
            .rule()
            .comment(format_args!(
                "other traffic to {} will be dropped by KUBE-PROXY-FIREWALL",
                self.name
            ))
            .no_target();
    }
}
