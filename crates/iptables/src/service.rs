//! The chains of one service port: what a packet meets once dispatch has found its service.

use std::net::IpAddr;
use std::sync::Arc;

use kube_proxy_core::{
    Endpoint, FrontendKind, IpFamily, LocalTrafficDetector, ServiceEntry, ServicePortName,
    TrafficPolicy, Treatment,
};
use kube_proxy_xtables::if_local;

use crate::names::{ChainName, ServiceChains, endpoint_chain};
use crate::restore::Part;
use crate::rules::Rules;

/// The chain with the endpoints of a policy.
pub(crate) fn policy_chain(chains: &ServiceChains, policy: TrafficPolicy) -> ChainName {
    match policy {
        TrafficPolicy::Cluster => chains.cluster,
        TrafficPolicy::Local => chains.local,
    }
}

/// Whether external frontends lead anywhere: also without local endpoints, because local traffic is short-circuited.
pub(crate) fn has_external_chain(entry: &ServiceEntry) -> bool {
    entry.choice.has_any_endpoint && entry.port.externally_reachable()
}

/// Whether the load-balancer VIPs are behind source ranges.
pub(crate) fn has_firewall(entry: &ServiceEntry) -> bool {
    has_external_chain(entry)
        && entry.port.frontends.iter().any(|(_, kind)| *kind == FrontendKind::LoadBalancerVip)
        && entry.port.source_ranges().is_some()
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
            if !self.entry.choice.of(policy).is_empty() {
                chains.push((policy_chain(&self.names, policy), Kind::Policy(policy)));
            }
        }
        if has_external_chain(self.entry) {
            chains.push((self.names.external, Kind::External));
        }
        if has_firewall(self.entry) {
            chains.push((self.names.firewall, Kind::Firewall));
        }
        if port.policy.session_affinity.is_some() {
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
        if policy == self.entry.port.policy.internal_traffic_policy {
            self.masquerade_cluster_ip(rules);
        }
        let endpoints = self.entry.choice.of(policy);
        if let Some(timeout) = self.entry.port.policy.session_affinity {
            let seconds = timeout.as_secs().max(1);
            for endpoint in endpoints.iter() {
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

    /// One rule for each endpoint: the first of n takes 1/n of the packets, the next 1/(n-1) of the rest, the last what is left.
    /// An endpoint of weight w counts for as many as w others.
    fn write_balancing(&self, endpoints: &[Endpoint], rules: &mut Rules<'_>) {
        let affinity = self.entry.port.policy.session_affinity.is_some();
        let mut left: u64 = endpoints.iter().map(|endpoint| u64::from(endpoint.share())).sum();
        for endpoint in endpoints {
            let weight = u64::from(endpoint.share());
            let mut rule = self.endpoint_rule(rules, endpoint);
            if left > weight {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "ten decimals are printed; sums of weights stay far below 2^52"
                )]
                let probability = weight as f64 / left as f64;
                rule = rule.words(format_args!(
                    "-m statistic --mode random --probability {probability:.10}"
                ));
                left -= weight;
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
        // All external kinds are alike but for their sources, which have been let in here.
        let Treatment { policy, short_circuit, .. } =
            self.entry.treatment(FrontendKind::ExternalIp);
        let external = format!("{} external destinations", self.name);
        if short_circuit {
            self.short_circuit(&external, rules);
        } else {
            rules
                .rule()
                .comment(format_args!("masquerade traffic for {external}"))
                .jump("KUBE-MARK-MASQ");
        }
        if !self.entry.choice.of(policy).is_empty() {
            rules.rule().jump(policy_chain(&self.names, policy));
        }
    }

    /// Under the `Local` policy, pods of this node and the node itself still reach every endpoint of the cluster.
    fn short_circuit(&self, external: &str, rules: &mut Rules<'_>) {
        let cluster = self.names.cluster;
        let reachable = !self.entry.choice.cluster.is_empty();
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

    /// `KUBE-FW-…`: only what comes from the source ranges continues. The rest is not translated, and so KUBE-PROXY-FIREWALL drops it.
    fn write_firewall(&self, rules: &mut Rules<'_>) {
        let port = &self.entry.port;
        let comment = format!("{} loadbalancer IP", self.name);
        let ranges = port.source_ranges().unwrap_or_default();
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
            let vips =
                port.frontends.iter().filter(|(_, kind)| *kind == FrontendKind::LoadBalancerVip);
            for vip in vips.filter_map(|(frontend, _)| frontend.ip()) {
                rules.rule().from(vip).comment(&comment).jump(self.names.external);
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
