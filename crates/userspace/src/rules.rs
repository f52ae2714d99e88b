//! The rules that bring traffic to the listening ports, by frontend.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube_proxy_core::{
    LocalTrafficDetector, Protocol, ServiceEntry, ServicePort, ServicePortName, TrafficPolicy,
};
use kube_proxy_iptables::{comment_words, if_local};

use crate::balance::Class;

/// A chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Chain {
    /// Node ports that nothing else lets in, in `filter`.
    NonLocal,
    /// What nobody may reach, in `filter`. Its name is this mode's alone: other modes remove what is theirs.
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

/// Where traffic arrives. Two service ports cannot share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Frontend {
    Address(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, protocol, port) => {
                write!(f, "{protocol} {}", SocketAddr::new(*ip, *port))
            }
            Self::NodePort(protocol, port) => write!(f, "{protocol} node port {port}"),
        }
    }
}

/// What a frontend is to its service port. Of several that want the same, the first in this order has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    ClusterIp,
    ExternalIp,
    LoadBalancerVip,
    NodePort,
}

impl Role {
    /// Who has a frontend: no external IP takes the traffic of a cluster IP (CVE-2020-8554); among equals the first by name.
    pub(crate) fn rank(self) -> u8 {
        u8::from(self != Self::ClusterIp)
    }
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
    let node_port = port.node_port.map(|number| Frontend::NodePort(port.protocol, number.get()));
    all.extend(node_port.map(|frontend| (frontend, Role::NodePort)));
    all
}

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
    /// By class.
    pub(crate) ports: [Option<u16>; 2],
}

impl ServiceRules<'_> {
    /// The rules of one frontend, in their order.
    pub(crate) fn of_frontend(&self, frontend: Frontend, role: Role) -> Vec<Rule> {
        let mut rules = Vec::new();
        let port = &self.entry.port;
        match role {
            Role::ClusterIp => {
                let class = class(port.internal_traffic_policy);
                self.lead(frontend, "", class, &mut rules);
                if self.drops(class) {
                    rules.push(self.drop(frontend, "has no local endpoints"));
                }
            }
            _ => self.external(frontend, role, &mut rules),
        }
        rules
    }

    fn external(&self, frontend: Frontend, role: Role, rules: &mut Vec<Rule>) {
        let port = &self.entry.port;
        let ranges = port.load_balancer_source_ranges.as_deref();
        let ranges = ranges.filter(|_| role == Role::LoadBalancerVip);
        let sources =
            ranges.map_or_else(|| vec![String::new()], |nets| self.sources(frontend, nets));
        let class = class(port.external_traffic_policy);
        for source in sources {
            self.lead(frontend, &source, class, rules);
        }
        if ranges.is_some() {
            rules.push(self.drop(frontend, "is not for everybody"));
        } else if self.drops(class) {
            rules.push(self.drop(frontend, "has no local endpoints"));
        }
    }

    /// The sources that may use a load-balancer address, as words.
    fn sources(&self, frontend: Frontend, ranges: &[IpNet]) -> Vec<String> {
        let mut sources: Vec<_> = ranges.iter().map(|range| format!("-s {range} ")).collect();
        let node = self.settings.node_ip;
        // Where the address is the node's own, the node reaches it from that address.
        if let Frontend::Address(ip, ..) = frontend
            && node.is_some_and(|node| ranges.iter().any(|range| range.contains(&node)))
        {
            sources.push(format!("-s {} ", IpNet::from(ip)));
        }
        sources
    }

    /// Sends packets for a frontend to the listening port of a class. Under the `Local` policy of external frontends, pods of
    /// this node and the node itself still reach every endpoint of the cluster.
    fn lead(&self, frontend: Frontend, source: &str, class: Class, rules: &mut Vec<Rule>) {
        let internal =
            matches!(frontend, Frontend::Address(ip, ..) if ip == self.entry.port.cluster_ip);
        let (container, host) = match frontend {
            Frontend::Address(..) => (Chain::PortalsContainer, Chain::PortalsHost),
            Frontend::NodePort(..) => (Chain::NodePortContainer, Chain::NodePortHost),
        };
        let short_circuit = class == Class::Local && !internal;
        let local = if_local(&self.settings.detector).filter(|_| short_circuit);
        if let Some(local) = local {
            // A rule has one source at most.
            let both = !source.is_empty() && local.starts_with("-s ");
            let local_source = if both { local_within(source, &local) } else { Some(local) };
            if let Some(local) = local_source {
                let source = if both { "" } else { source };
                let before = format!("{source}{local} ");
                self.redirect(container, frontend, &before, Class::Cluster, rules);
            }
        }
        self.redirect(container, frontend, source, class, rules);
        let host_class = if short_circuit { Class::Cluster } else { class };
        self.redirect(host, frontend, source, host_class, rules);
    }

    /// One rule, unless there is no port for it or the packet is to be dropped.
    fn redirect(
        &self,
        chain: Chain,
        frontend: Frontend,
        source: &str,
        class: Class,
        rules: &mut Vec<Rule>,
    ) {
        let Some(port) = self.ports[class as usize].filter(|_| !self.drops(class)) else { return };
        let target = match self.settings.listen {
            Some(ip) => format!("DNAT --to-destination {}", SocketAddr::new(ip, port)),
            None => format!("REDIRECT --to-ports {port}"),
        };
        let (destination, rest) = Self::matches(frontend, comment(self.name, class));
        // The order of words is that of iptables-save: source, destination, interface.
        let (source, interface) = match source.split_once("-i ") {
            Some((source, interface)) => (source, format!("-i {interface}")),
            None => (source, String::new()),
        };
        rules.push((chain, format!("{source}{destination}{interface}{rest} -j {target}")));
    }

    /// Drops what was not sent to a listening port.
    fn drop(&self, frontend: Frontend, why: &str) -> Rule {
        let (destination, rest) = Self::matches(frontend, format!("{} {why}", self.name));
        let local = match frontend {
            Frontend::Address(..) => "",
            Frontend::NodePort(..) => " -m addrtype --dst-type LOCAL",
        };
        (Chain::Firewall, format!("{destination}{rest}{local} -j DROP"))
    }

    fn matches(frontend: Frontend, comment: impl fmt::Display) -> (String, String) {
        let (destination, protocol, port) = match frontend {
            Frontend::Address(ip, protocol, port) => {
                (format!("-d {} ", IpNet::from(ip)), protocol, port)
            }
            Frontend::NodePort(protocol, port) => (String::new(), protocol, port),
        };
        let protocol = protocol.lower();
        let comment = comment_words(comment);
        (destination, format!("-p {protocol} {comment} -m {protocol} --dport {port}"))
    }

    /// The rules for the listening ports themselves: what came over a frontend is let in, whatever the node does with other
    /// packets, and nobody passes by the source ranges.
    pub(crate) fn of_ports(&self) -> Vec<Rule> {
        let protocol = self.entry.port.protocol.lower();
        let mut rules = Vec::new();
        for class in Class::ALL {
            let Some(port) = self.ports[class as usize] else { continue };
            let comment = comment_words(comment(self.name, class));
            let matches = format!("-p {protocol} {comment} -m {protocol} --dport {port}");
            if self.entry.port.load_balancer_source_ranges.is_some() {
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
    fn drops(&self, class: Class) -> bool {
        let list = match class {
            Class::Cluster => &self.entry.choice.cluster,
            Class::Local => &self.entry.choice.local,
        };
        list.is_empty() && self.entry.choice.has_any
    }
}

/// The comment of rules that lead to the listening port of a class: a restart finds its ports by it.
pub(crate) fn comment(name: &ServicePortName, class: Class) -> String {
    match class {
        Class::Cluster => name.to_string(),
        Class::Local => format!("{name} local endpoints"),
    }
}

/// Which endpoints a policy allows.
fn class(policy: TrafficPolicy) -> Class {
    match policy {
        TrafficPolicy::Cluster => Class::Cluster,
        TrafficPolicy::Local => Class::Local,
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
