//! The rules that bring traffic to the listening ports, by frontend.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube_proxy_core::{
    Frontend, FrontendKind, LocalTrafficDetector, NoLocalEndpoints, ServiceEntry, ServicePort,
    ServicePortName, TrafficPolicy, Treatment, Unserved,
};
use kube_proxy_xtables::{comment_words, if_local};

/// A chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Chain {
    /// Node ports that nothing else lets in, in `filter`.
    NonLocal,
    /// What is not redirected although it is ours: dropped or refused, in `filter`. Its name is this mode's alone: other modes remove what is theirs.
    Firewall,
    /// Addresses of services, from pods and from outside, in `nat`.
    PortalsContainer,
    /// Addresses of services, from the node itself, in `nat`.
    PortalsHost,
    /// Node ports, from pods and from outside, in `nat`.
    NodePortContainer,
    /// Node ports, from the node itself, in `nat`.
    NodePortHost,
}

impl Chain {
    pub(crate) const ALL: [Self; 6] = [
        Self::NonLocal,
        Self::Firewall,
        Self::PortalsContainer,
        Self::PortalsHost,
        Self::NodePortContainer,
        Self::NodePortHost,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NonLocal => "KUBE-NODEPORT-NON-LOCAL",
            Self::Firewall => "KUBE-USERSPACE-FIREWALL",
            Self::PortalsContainer => "KUBE-PORTALS-CONTAINER",
            Self::PortalsHost => "KUBE-PORTALS-HOST",
            Self::NodePortContainer => "KUBE-NODEPORT-CONTAINER",
            Self::NodePortHost => "KUBE-NODEPORT-HOST",
        }
    }

    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::NonLocal | Self::Firewall => "filter",
            _ => "nat",
        }
    }

    pub(crate) fn named(table: &str, name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chain| chain.table() == table && chain.name() == name)
    }
}

/// A rule without its chain, as `iptables-save` prints it.
pub(crate) type Rule = (Chain, String);

/// What the rules of all service ports depend on.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) detector: LocalTrafficDetector,
    /// Where listening ports are; `None` for all addresses.
    pub(crate) listen: Option<IpAddr>,
    pub(crate) node_ip: Option<IpAddr>,
}

/// Which kinds of listening port a service port needs.
pub(crate) fn classes(port: &ServicePort) -> [bool; 2] {
    [port.uses_cluster_endpoints(), port.uses_local_endpoints()]
}

/// A service port with its listening ports.
pub(crate) struct ServiceRules<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) name: &'a ServicePortName,
    pub(crate) entry: &'a ServiceEntry,
    /// By policy.
    pub(crate) ports: [Option<u16>; 2],
}

impl ServiceRules<'_> {
    /// The rules of one frontend, in their order.
    pub(crate) fn of_frontend(&self, frontend: Frontend, kind: FrontendKind) -> Vec<Rule> {
        let mut rules = Vec::new();
        let treatment = self.entry.treatment(kind);
        if treatment.unserved == Some(Unserved::NoEndpoints) {
            return vec![self.deny(frontend, "has no endpoints", "REJECT")];
        }
        let sources = match treatment.sources {
            Some(nets) => self.sources(frontend, nets),
            None => vec![String::new()],
        };
        for source in sources {
            self.lead(frontend, &source, &treatment, &mut rules);
        }
        if treatment.sources.is_some() {
            // One behind source ranges is closed, whatever it asks for.
            rules.push(self.deny(frontend, "is not for everybody", "DROP"));
        } else if let Some(unserved) = treatment.unserved {
            let target = match unserved.action() {
                NoLocalEndpoints::Drop => "DROP",
                NoLocalEndpoints::Reject => "REJECT",
                NoLocalEndpoints::Passthrough => return rules,
            };
            rules.push(self.deny(frontend, "has no local endpoints", target));
        }
        rules
    }

    /// The sources that may use a load-balancer address, as words.
    fn sources(&self, frontend: Frontend, ranges: &[IpNet]) -> Vec<String> {
        let mut sources: Vec<_> = ranges.iter().map(|range| format!("-s {range} ")).collect();
        let node = self.settings.node_ip;
        // Where the address is the node's own, the node reaches it from that address.
        if let Some(ip) = frontend.ip()
            && node.is_some_and(|node| ranges.iter().any(|range| range.contains(&node)))
        {
            sources.push(format!("-s {} ", IpNet::from(ip)));
        }
        sources
    }

    /// Sends packets for a frontend to the listening port of a policy. Under the `Local` policy of external frontends, pods of
    /// this node and the node itself still reach every endpoint of the cluster.
    fn lead(
        &self,
        frontend: Frontend,
        source: &str,
        treatment: &Treatment<'_>,
        rules: &mut Vec<Rule>,
    ) {
        let Treatment { policy, short_circuit, .. } = *treatment;
        let (container, host) = match frontend {
            Frontend::Address(..) => (Chain::PortalsContainer, Chain::PortalsHost),
            Frontend::NodePort(..) => (Chain::NodePortContainer, Chain::NodePortHost),
        };
        let local = if_local(&self.settings.detector).filter(|_| short_circuit);
        if let Some(local) = local {
            // A rule has one source at most.
            let both = !source.is_empty() && local.starts_with("-s ");
            let local_source = if both { local_within(source, &local) } else { Some(local) };
            if let Some(local) = local_source {
                let source = if both { "" } else { source };
                let before = format!("{source}{local} ");
                self.redirect(container, frontend, &before, TrafficPolicy::Cluster, rules);
            }
        }
        self.redirect(container, frontend, source, policy, rules);
        let host_policy = if short_circuit { TrafficPolicy::Cluster } else { policy };
        self.redirect(host, frontend, source, host_policy, rules);
    }

    /// One rule, unless there is no port for it or the packet is to be dropped.
    fn redirect(
        &self,
        chain: Chain,
        frontend: Frontend,
        source: &str,
        policy: TrafficPolicy,
        rules: &mut Vec<Rule>,
    ) {
        let Some(port) = self.ports[policy as usize].filter(|_| !self.drops(policy)) else {
            return;
        };
        let target = match self.settings.listen {
            Some(ip) => format!("DNAT --to-destination {}", SocketAddr::new(ip, port)),
            None => format!("REDIRECT --to-ports {port}"),
        };
        let (destination, rest) = Self::matches(frontend, comment(self.name, policy));
        // The order of words is that of iptables-save: source, destination, interface.
        let (source, interface) = match source.split_once("-i ") {
            Some((source, interface)) => (source, format!("-i {interface}")),
            None => (source, String::new()),
        };
        rules.push((chain, format!("{source}{destination}{interface}{rest} -j {target}")));
    }

    /// Drops or refuses what was not redirected to a listening port.
    fn deny(&self, frontend: Frontend, why: &str, target: &str) -> Rule {
        let (destination, rest) = Self::matches(frontend, format!("{} {why}", self.name));
        let local = match frontend {
            Frontend::Address(..) => "",
            Frontend::NodePort(..) => " -m addrtype --dst-type LOCAL",
        };
        (Chain::Firewall, format!("{destination}{rest}{local} -j {target}"))
    }

    fn matches(frontend: Frontend, comment: impl fmt::Display) -> (String, String) {
        let (destination, protocol, port) = match frontend {
            Frontend::Address(protocol, to) => {
                (format!("-d {} ", IpNet::from(to.ip())), protocol, to.port())
            }
            Frontend::NodePort(protocol, port) => (String::new(), protocol, port),
        };
        let protocol = protocol.lower();
        let comment = comment_words(comment);
        (destination, format!("-p {protocol} {comment} -m {protocol} --dport {port}"))
    }

    /// The rules for the listening ports themselves: what came over a frontend is let in, whatever the node does with other
    /// packets, and no packet passes by the source ranges.
    pub(crate) fn of_ports(&self) -> Vec<Rule> {
        let protocol = self.entry.port.protocol.lower();
        let mut rules = Vec::new();
        for policy in TrafficPolicy::ALL {
            let Some(port) = self.ports[policy as usize] else { continue };
            let comment = comment_words(comment(self.name, policy));
            let matches = format!("-p {protocol} {comment} -m {protocol} --dport {port}");
            if self.entry.port.source_ranges().is_some() {
                let rule = format!("{matches} -m conntrack ! --ctstate DNAT -j DROP");
                rules.push((Chain::Firewall, rule));
            }
            rules.push((
                Chain::NonLocal,
                format!("{matches} -m conntrack --ctstate DNAT -j ACCEPT"),
            ));
        }
        rules
    }

    /// Whether packets for this kind of endpoints are dropped: there are some, but none for them.
    fn drops(&self, policy: TrafficPolicy) -> bool {
        self.entry.choice.of(policy).is_empty() && self.entry.choice.has_any_endpoint
    }
}

/// Whether a service port has no endpoint at all.
pub(crate) fn refuses(entry: &ServiceEntry) -> bool {
    !entry.choice.has_any_endpoint
        && entry.choice.cluster.is_empty()
        && entry.choice.local.is_empty()
}

/// The comment of rules that lead to the listening port of a policy: a restart finds its ports by it.
pub(crate) fn comment(name: &ServicePortName, policy: TrafficPolicy) -> String {
    match policy {
        TrafficPolicy::Cluster => name.to_string(),
        TrafficPolicy::Local => format!("{name} local endpoints"),
    }
}

/// The sources that are in both networks, each given as `-s NET`.
fn local_within(source: &str, local: &str) -> Option<String> {
    let net = |words: &str| words.trim().strip_prefix("-s ")?.parse::<IpNet>().ok();
    let (source, local) = (net(source)?, net(local)?);
    let smaller = if source.contains(&local) {
        local
    } else if local.contains(&source) {
        source
    } else {
        return None;
    };
    Some(format!("-s {smaller}"))
}

#[cfg(test)]
mod tests;
