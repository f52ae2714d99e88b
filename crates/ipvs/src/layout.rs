//! The fixed part: sets, chains, hooks and rules.

use kube_proxy_core::{IpFamily, LocalTrafficDetector, Protocol};
use kube_proxy_netlink::ipset::{MAX_NAME, SetType};
use kube_proxy_xtables::Check;

use crate::Config;
use crate::marks::Bits;

mod mark_rules;

pub(crate) use mark_rules::{is_for_marks, mark_input, unmark_input};

/// A set of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Set {
    LoopBack,
    ClusterIp,
    ExternalIp,
    ExternalIpLocal,
    LoadBalancer,
    LoadBalancerLocal,
    LoadBalancerFirewall,
    SourceIp,
    SourceCidr,
    NodePort(Protocol),
    NodePortLocal(Protocol),
    HealthCheck,
    /// Frontends that have no endpoint for anybody, but would have one elsewhere.
    Drop,
    /// The same for clients that are not on this node.
    DropOutside,
    /// The same, refused instead.
    RejectOutside,
    /// Frontends with the marks that packets of this node to them get. There only while it has entries.
    Mark,
    /// Every address on the interface. The last: what it holds is refused unless another set has it.
    Addresses,
}

/// All sets, in the order in which entries are added; they are deleted in the other direction.
#[rustfmt::skip]
pub(crate) const SETS: [(Set, &str, SetType); 21] = [
    (Set::LoopBack,                        "LOOP-BACK",                   SetType::IpPortIp),
    (Set::Drop,                            "DROP",                        SetType::IpPort),
    (Set::DropOutside,                     "DROP-OUTSIDE",                SetType::IpPort),
    (Set::RejectOutside,                   "REJECT-OUTSIDE",              SetType::IpPort),
    (Set::Mark,                            "IPVS-MARK",                   SetType::IpPortMark),
    (Set::SourceIp,                        "LOAD-BALANCER-SOURCE-IP",     SetType::IpPortIp),
    (Set::SourceCidr,                      "LOAD-BALANCER-SOURCE-CIDR",   SetType::IpPortNet),
    (Set::LoadBalancerFirewall,            "LOAD-BALANCER-FW",            SetType::IpPort),
    (Set::LoadBalancerLocal,               "LOAD-BALANCER-LOCAL",         SetType::IpPort),
    (Set::LoadBalancer,                    "LOAD-BALANCER",               SetType::IpPort),
    (Set::ClusterIp,                       "CLUSTER-IP",                  SetType::IpPort),
    (Set::ExternalIp,                      "EXTERNAL-IP",                 SetType::IpPort),
    (Set::ExternalIpLocal,                 "EXTERNAL-IP-LOCAL",           SetType::IpPort),
    (Set::NodePortLocal(Protocol::Tcp),    "NODE-PORT-LOCAL-TCP",         SetType::Port),
    (Set::NodePort(Protocol::Tcp),         "NODE-PORT-TCP",               SetType::Port),
    (Set::NodePortLocal(Protocol::Udp),    "NODE-PORT-LOCAL-UDP",         SetType::Port),
    (Set::NodePort(Protocol::Udp),         "NODE-PORT-UDP",               SetType::Port),
    (Set::NodePortLocal(Protocol::Sctp),   "NODE-PORT-LOCAL-SCTP-HASH",   SetType::IpPort),
    (Set::NodePort(Protocol::Sctp),        "NODE-PORT-SCTP-HASH",         SetType::IpPort),
    (Set::HealthCheck,                     "HEALTH-CHECK-NODE-PORT",      SetType::Port),
    (Set::Addresses,                       "IPVS-IPS",                    SetType::Ip),
];

impl Set {
    /// The name in the kernel.
    pub(crate) fn name(self, family: IpFamily) -> String {
        let prefix = if family == IpFamily::V4 { "KUBE-" } else { "KUBE-6-" };
        let base = SETS.iter().find(|(set, ..)| *set == self).map_or("", |(_, base, _)| base);
        let mut name = format!("{prefix}{base}");
        name.truncate(MAX_NAME);
        name
    }

    /// Whether it is there also without entries: rules that are always there refer to it.
    pub(crate) fn is_fixed(self) -> bool {
        self != Self::Mark
    }

    /// Whether its entries are frontends that some clients may not use, for want of an endpoint on this node.
    pub(crate) fn bars(self) -> bool {
        matches!(self, Self::Drop | Self::DropOutside | Self::RejectOutside)
    }

    /// Whether its entries tell the frontends of services by address and port.
    pub(crate) fn holds_frontends(self) -> bool {
        matches!(
            self,
            Self::ClusterIp | Self::ExternalIp | Self::ExternalIpLocal | Self::LoadBalancer
        )
    }
}

/// A rule in a chain of the kernel that sends packets to a chain of ours: table, chain, comment, our chain.
pub(crate) type Hook = (&'static str, &'static str, &'static str, &'static str);

/// Chains that exist only in this mode.
pub(crate) const OWN_CHAINS: [(&str, &str); 13] = [
    ("filter", "KUBE-NODE-PORT"),
    ("filter", "KUBE-SOURCE-RANGES-FIREWALL"),
    ("filter", "KUBE-IPVS-FILTER"),
    ("filter", "KUBE-IPVS-OUT-FILTER"),
    ("filter", "KUBE-IPVS-DROP"),
    ("filter", "KUBE-IPVS-REJECT"),
    ("nat", "KUBE-NODE-PORT"),
    ("nat", "KUBE-LOAD-BALANCER"),
    ("mangle", "KUBE-IPVS-OUT-DROP"),
    ("mangle", "KUBE-IPVS-OUT-RANGES"),
    ("mangle", "KUBE-IPVS-MARK"),
    ("mangle", "KUBE-IPVS-OUT-MARK"),
    ("mangle", "KUBE-IPVS-UNMARK"),
];

/// Chains that the iptables mode has as well, with their tables.
pub const SHARED_CHAINS: [(&str, &str); 5] = [
    ("filter", "KUBE-FORWARD"),
    ("filter", "KUBE-PROXY-FIREWALL"),
    ("nat", "KUBE-SERVICES"),
    ("nat", "KUBE-POSTROUTING"),
    ("nat", "KUBE-MARK-MASQ"),
];

/// Each is put first in its chain.
#[rustfmt::skip]
pub(crate) const HOOKS: [Hook; 13] = [
    ("filter", "FORWARD",     "kubernetes forwarding rules",            "KUBE-FORWARD"),
    ("filter", "INPUT",       "kubernetes ipvs access filter",          "KUBE-IPVS-FILTER"),
    ("filter", "OUTPUT",      "kubernetes ipvs access filter",          "KUBE-IPVS-OUT-FILTER"),
    ("filter", "INPUT",       "kubernetes health check rules",          "KUBE-NODE-PORT"),
    ("filter", "FORWARD",     "kube-proxy firewall rules",              "KUBE-PROXY-FIREWALL"),
    ("filter", "INPUT",       "kube-proxy firewall rules",              "KUBE-PROXY-FIREWALL"),
    ("nat",    "PREROUTING",  "kubernetes service portals",             "KUBE-SERVICES"),
    ("nat",    "OUTPUT",      "kubernetes service portals",             "KUBE-SERVICES"),
    ("nat",    "POSTROUTING", "kubernetes postrouting rules",           "KUBE-POSTROUTING"),
    ("mangle", "OUTPUT",      "kubernetes ipvs drop rules",             "KUBE-IPVS-OUT-DROP"),
    ("mangle", "PREROUTING",  "kubernetes ipvs mark rules",             "KUBE-IPVS-MARK"),
    ("mangle", "OUTPUT",      "kubernetes ipvs mark rules",             "KUBE-IPVS-OUT-MARK"),
    ("mangle", "POSTROUTING", "kubernetes ipvs mark rules",             "KUBE-IPVS-UNMARK"),
];

/// The words of a hook, without its chain.
pub(crate) fn hook_rule((_, _, comment, to): &Hook) -> String {
    format!("-m comment --comment \"{comment}\" -j {to}")
}

/// The tables, in the order in which they are written.
pub(crate) const TABLES: [&str; 3] = ["mangle", "filter", "nat"];

/// All rules but those of marks: table, chain, rule without its chain.
pub(crate) fn rules(
    config: &Config,
    random_fully: bool,
) -> Vec<(&'static str, &'static str, String)> {
    let mut rules = Vec::new();
    rules.extend(filter(config).into_iter().map(|(chain, rule)| ("filter", chain, rule)));
    rules.extend(nat(config, random_fully).into_iter().map(|(chain, rule)| ("nat", chain, rule)));
    rules.extend(mangle(config).into_iter().map(|(chain, rule)| ("mangle", chain, rule)));
    rules
}

fn matches(config: &Config, set: Set, directions: &str) -> String {
    format!("-m set --match-set {} {directions}", set.name(config.family))
}

/// For packets of the node itself, which IPVS takes in `OUTPUT` before the filter sees them.
fn mangle(config: &Config) -> [(&'static str, String); 5] {
    let set = |which, directions| matches(config, which, directions);
    let new = "-m conntrack --ctstate NEW";
    [
        ("KUBE-IPVS-OUT-DROP", format!("{new} {} -j DROP", set(Set::Drop, "dst,dst"))),
        (
            "KUBE-IPVS-OUT-DROP",
            format!("{new} {} -j KUBE-IPVS-OUT-RANGES", set(Set::LoadBalancerFirewall, "dst,dst")),
        ),
        ("KUBE-IPVS-OUT-RANGES", format!("{} -j RETURN", set(Set::SourceCidr, "dst,dst,src"))),
        ("KUBE-IPVS-OUT-RANGES", format!("{} -j RETURN", set(Set::SourceIp, "dst,dst,src"))),
        ("KUBE-IPVS-OUT-RANGES", "-j DROP".to_owned()),
    ]
}

fn filter(config: &Config) -> Vec<(&'static str, String)> {
    let set = |which, directions| matches(config, which, directions);
    let mark = format!("{:#x}", config.masquerade_mark);
    let new = "-m conntrack --ctstate NEW";
    let mut rules = vec![
        ("KUBE-FORWARD", format!("-m comment --comment \"kubernetes forwarding rules\" -m mark --mark {mark}/{mark} -j ACCEPT")),
        ("KUBE-FORWARD", "-m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT".to_owned()),
        ("KUBE-NODE-PORT", format!("-m comment --comment \"Kubernetes health check node port\" {} -j ACCEPT", set(Set::HealthCheck, "dst"))),
        ("KUBE-PROXY-FIREWALL", format!("-m comment --comment \"Kubernetes service load balancer ip + port for load balancer with sourceRange\" {} -j KUBE-SOURCE-RANGES-FIREWALL", set(Set::LoadBalancerFirewall, "dst,dst"))),
        ("KUBE-SOURCE-RANGES-FIREWALL", format!("{} -j RETURN", set(Set::SourceCidr, "dst,dst,src"))),
        ("KUBE-SOURCE-RANGES-FIREWALL", format!("{} -j RETURN", set(Set::SourceIp, "dst,dst,src"))),
        ("KUBE-SOURCE-RANGES-FIREWALL", "-j DROP".to_owned()),
        ("KUBE-IPVS-FILTER", format!("{new} {} -j DROP", set(Set::Drop, "dst,dst"))),
        ("KUBE-IPVS-FILTER", format!("{new} {} -j KUBE-IPVS-DROP", set(Set::DropOutside, "dst,dst"))),
        ("KUBE-IPVS-FILTER", format!("{new} {} -j KUBE-IPVS-REJECT", set(Set::RejectOutside, "dst,dst"))),
    ];
    for which in [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal] {
        rules.push(("KUBE-IPVS-FILTER", format!("{} -j RETURN", set(which, "dst,dst"))));
    }
    let reject = format!("{new} {} -j REJECT", set(Set::Addresses, "dst"));
    rules.extend([
        ("KUBE-IPVS-FILTER", format!("{} -j RETURN", set(Set::HealthCheck, "dst"))),
        ("KUBE-IPVS-FILTER", reject.clone()),
        ("KUBE-IPVS-OUT-FILTER", reject),
    ]);
    // Who is on this node reaches the endpoints of others.
    for (chain, verdict) in [("KUBE-IPVS-DROP", "-j DROP"), ("KUBE-IPVS-REJECT", "-j REJECT")] {
        let from = from_local(&config.local_traffic);
        rules.extend(from.map(|from| (chain, format!("{from} -j RETURN"))));
        rules.push((chain, "-m addrtype --src-type LOCAL -j RETURN".to_owned()));
        rules.push((chain, verdict.to_owned()));
    }
    rules
}

fn nat(config: &Config, random_fully: bool) -> Vec<(&'static str, String)> {
    let set = |which, directions| matches(config, which, directions);
    let mark = format!("{:#x}", config.masquerade_mark);
    let masquerade = if random_fully { "MASQUERADE --random-fully" } else { "MASQUERADE" };
    let from_node = "-m addrtype --src-type LOCAL -j KUBE-MARK-MASQ";
    let cluster_ip = set(Set::ClusterIp, "dst,dst");
    let mut rules = vec![
        ("KUBE-MARK-MASQ", format!("-j MARK --or-mark {mark}")),
        (
            "KUBE-POSTROUTING",
            format!(
                "-m comment --comment \"Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose\" {} -j {masquerade}",
                set(Set::LoopBack, "dst,dst,src")
            ),
        ),
        ("KUBE-POSTROUTING", format!("-m mark ! --mark {mark}/{mark} -j RETURN")),
        ("KUBE-POSTROUTING", format!("-j MARK --xor-mark {mark}")),
        (
            "KUBE-POSTROUTING",
            format!(
                "-m comment --comment \"kubernetes service traffic requiring SNAT\" -j {masquerade}"
            ),
        ),
        ("KUBE-LOAD-BALANCER", format!("{} {from_node}", set(Set::LoadBalancerLocal, "dst,dst"))),
        (
            "KUBE-LOAD-BALANCER",
            format!(
                "-m comment --comment \"Kubernetes service load balancer ip + port with externalTrafficPolicy=local\" {} -j RETURN",
                set(Set::LoadBalancerLocal, "dst,dst")
            ),
        ),
        ("KUBE-LOAD-BALANCER", "-j KUBE-MARK-MASQ".to_owned()),
        (
            "KUBE-SERVICES",
            format!(
                "-m comment --comment \"Kubernetes service lb portal\" {} -j KUBE-LOAD-BALANCER",
                set(Set::LoadBalancer, "dst,dst")
            ),
        ),
        // A node that sends to an address of its own interface takes that very address as source.
        ("KUBE-SERVICES", format!("{cluster_ip} {from_node}")),
    ];
    let who = if config.masquerade_all {
        Some(String::new())
    } else {
        not_from_local(&config.local_traffic)
    };
    rules.extend(who.map(|who| ("KUBE-SERVICES", format!("{who}-m comment --comment \"Kubernetes service cluster ip + port for masquerade purpose\" {cluster_ip} -j KUBE-MARK-MASQ"))));
    rules.extend([
        ("KUBE-SERVICES", format!("-m comment --comment \"Kubernetes service external ip + port for masquerade and filter purpose\" {} -j KUBE-MARK-MASQ", set(Set::ExternalIp, "dst,dst"))),
        ("KUBE-SERVICES", format!("{} {from_node}", set(Set::ExternalIpLocal, "dst,dst"))),
    ]);
    for which in [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal] {
        rules.push(("KUBE-SERVICES", format!("{} -j RETURN", set(which, "dst,dst"))));
    }
    rules.push(("KUBE-SERVICES", "-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT".to_owned()));
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let directions = if protocol == Protocol::Sctp { "dst,dst" } else { "dst" };
        let name = protocol.lower();
        let local = set(Set::NodePortLocal(protocol), directions);
        rules.push(("KUBE-NODE-PORT", format!("-p {name} {local} {from_node}")));
        rules.push(("KUBE-NODE-PORT", format!("-p {name} -m comment --comment \"Kubernetes nodeport {protocol} port with externalTrafficPolicy=local\" {local} -j RETURN")));
        rules.push(("KUBE-NODE-PORT", format!("-p {name} -m comment --comment \"Kubernetes nodeport {protocol} port for masquerade purpose\" {} -j KUBE-MARK-MASQ", set(Set::NodePort(protocol), directions))));
    }
    rules
}

fn from_local(detector: &LocalTrafficDetector) -> Option<String> {
    match detector {
        LocalTrafficDetector::None => None,
        LocalTrafficDetector::Cidr(net) => Some(format!("-s {net}")),
        LocalTrafficDetector::Bridge(name) => Some(format!("-i {name}")),
        LocalTrafficDetector::InterfacePrefix(prefix) => Some(format!("-i {prefix}+")),
    }
}

fn not_from_local(detector: &LocalTrafficDetector) -> Option<String> {
    from_local(detector).map(|from| format!("! {from} "))
}

/// The input that writes all chains of these tables again; hooks that are missing come with it.
pub(crate) fn restore_input(
    config: &Config,
    random_fully: bool,
    missing: &[&Hook],
    tables: &[&str],
) -> String {
    let rules = rules(config, random_fully);
    let mut input = String::new();
    for table in TABLES.into_iter().filter(|table| tables.contains(table)) {
        input.extend(["*", table, "\n"]);
        let chains = OWN_CHAINS.iter().chain(&SHARED_CHAINS);
        for (_, chain) in chains.filter(|(of, chain)| *of == table && !is_for_marks(chain)) {
            input.extend([":", chain, " - [0:0]\n"]);
        }
        for (_, chain, rule) in rules.iter().filter(|(of, ..)| *of == table) {
            input.extend(["-A ", chain, " ", rule, "\n"]);
        }
        for hook in missing.iter().filter(|hook| hook.0 == table) {
            input.extend(["-I ", hook.1, " 1 ", &hook_rule(hook), "\n"]);
        }
        input.push_str("COMMIT\n");
    }
    input
}

/// What must be there: hooks, and the last rule of each chain. `marks` are the bits of marks, if there are any.
pub(crate) fn checks(config: &Config, random_fully: bool, marks: Option<Bits>) -> Vec<Check> {
    let mut rules = rules(config, random_fully);
    let of_marks = marks.into_iter().flat_map(|bits| mark_rules::all(config, bits));
    rules.extend(of_marks.map(|(chain, rule)| ("mangle", chain, rule)));
    let mut checks = Vec::new();
    for table in TABLES {
        let hooks = HOOKS.iter().filter(|hook| hook.0 == table);
        let hooks = hooks.filter(|hook| marks.is_some() || !is_for_marks(hook.3));
        checks.extend(hooks.map(|hook| Check::Rule {
            table: hook.0,
            chain: hook.1,
            rule: hook_rule(hook),
        }));
        for (_, chain) in OWN_CHAINS.iter().chain(&SHARED_CHAINS).filter(|(of, _)| *of == table) {
            let last = rules.iter().rfind(|(of, in_chain, _)| *of == table && in_chain == chain);
            checks.extend(last.map(|(_, chain, rule)| Check::Rule {
                table,
                chain,
                rule: rule.clone(),
            }));
        }
    }
    checks
}

#[cfg(test)]
mod tests;
