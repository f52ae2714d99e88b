//! What surrounds kube-proxy: sysctls, other programs, leftovers.

use std::time::{Duration, SystemTime};

use super::facts::{Facts, Iptables, Owner};
use super::finding::{Finding, Severity};

/// Before this program was written: 2025-01-01.
const LONG_AGO: Duration = Duration::from_hours(482_136);

/// Findings about what is not kube-proxy's own.
pub(crate) fn surroundings(facts: &Facts) -> Vec<Finding> {
    let checks: [fn(&Facts) -> Vec<Finding>; 9] = [
        forwarding,
        conntrack,
        forward_policy,
        programs,
        other_proxies,
        leftovers,
        variants,
        bridges_and_filters,
        clock_and_dns,
    ];
    checks.into_iter().flat_map(|check| check(facts)).collect()
}

impl Facts {
    fn mode(&self) -> Option<&str> {
        let of_running = || self.check.as_ref().ok().map(|check| &check.mode);
        self.meant.as_ref().map(|meant| &meant.mode).or_else(of_running).map(String::as_str)
    }

    fn serves(&self, family: &str) -> bool {
        if let Some(meant) = &self.meant {
            return meant.families.iter().any(|served| served == family);
        }
        let families = self.check.as_ref().map(|check| check.families.as_slice());
        families.is_ok_and(|families| families.iter().any(|served| served.family == family))
    }

    fn sysctl(&self, name: &str) -> Option<&str> {
        self.sysctls.get(name).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.sysctl(name)?.parse().ok()
    }

    fn has_owner(&self, owner: Owner) -> bool {
        self.iptables.iter().any(|iptables| iptables.owners.contains(&owner))
    }
}

fn forwarding(facts: &Facts) -> Vec<Finding> {
    let families = [("net/ipv4/ip_forward", "IPv4"), ("net/ipv6/conf/all/forwarding", "IPv6")];
    let off = families.into_iter().filter(|(sysctl, family)| {
        facts.sysctl(sysctl) == Some("0") && (facts.mode().is_none() || facts.serves(family))
    });
    off.map(|(sysctl, family)| {
        let name = sysctl.replace('/', ".");
        // Nodes without IPv6 pods often leave it off.
        let severity = if family == "IPv4" { Severity::Problem } else { Severity::Warning };
        Finding::new(
            severity,
            "ip-forward",
            format!("{name} is 0: this node forwards no {family} packets"),
            "Pods and clients outside reach no endpoint through this node.",
            format!("sysctl -w {name}=1, and set it in /etc/sysctl.d, where the network plugin or the installation of the node should have done so."),
        )
    })
    .collect()
}

fn conntrack(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let count = facts.number("net/netfilter/nf_conntrack_count");
    let max = facts.number("net/netfilter/nf_conntrack_max").filter(|max| *max > 0);
    if let (Some(count), Some(max)) = (count, max) {
        let percent = count.saturating_mul(100) / max;
        if percent >= 75 {
            let severity = if percent >= 90 { Severity::Problem } else { Severity::Warning };
            findings.push(Finding::new(
                severity,
                "conntrack-full",
                format!("connection tracking is {percent} % full: {count} of {max} entries"),
                "When it is full, the kernel drops the first packets of new connections.",
                "Raise conntrack.maxPerCore or conntrack.min in the configuration of kube-proxy, or find who opens so many connections: kube-proxy flows.",
            ));
        }
    }
    if facts.sysctl("net/netfilter/nf_conntrack_events") == Some("0") {
        findings.push(Finding::new(
            Severity::Note,
            "conntrack-events",
            "net.netfilter.nf_conntrack_events is 0",
            "kube-proxy flows --follow shows no new connections.",
            "sysctl -w net.netfilter.nf_conntrack_events=1 while you look.",
        ));
    }
    findings
}

fn forward_policy(facts: &Facts) -> Vec<Finding> {
    if facts.mode() != Some("nftables") {
        return Vec::new();
    }
    let of_iptables = facts
        .iptables
        .iter()
        .filter(|iptables| iptables.forward_drops && facts.serves(&iptables.family))
        .map(|iptables| format!("{} {}: FORWARD", iptables.variant, iptables.family));
    let chains: Vec<_> = of_iptables.chain(facts.forward_chains.iter().cloned()).collect();
    if chains.is_empty() {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Warning,
        "forward-drop",
        format!("the policy for forwarded packets is to drop: {}", chains.join(", ")),
        "The nftables mode accepts nothing in tables of others: packets to and from pods are dropped there unless a rule of the network plugin accepts them.",
        "iptables -P FORWARD ACCEPT (in Docker: \"ip-forward-no-drop\": true), or let that firewall accept traffic of the pod network.",
    )]
}

fn programs(facts: &Facts) -> Vec<Finding> {
    let count = facts.programs.get("kube-proxy").copied().unwrap_or_default();
    if count < 2 {
        return Vec::new();
    }
    vec![Finding::new(
        Severity::Problem,
        "two-kube-proxies",
        format!("{count} kube-proxies run on this node"),
        "Each removes or rewrites what the other writes.",
        "Keep one: look for a second DaemonSet (kubectl get daemonset -A), a static pod, and a systemd unit.",
    )]
}

fn other_proxies(facts: &Facts) -> Vec<Finding> {
    let interface = |name: &str| facts.interfaces.contains(name);
    let others = [
        (
            "Cilium",
            facts.programs.contains_key("cilium-agent")
                || interface("cilium_host")
                || facts.has_owner(Owner::Cilium),
            "With kubeProxyReplacement it serves Services itself, before any rule of kube-proxy sees the packet.",
            "cilium-dbg status shows KubeProxyReplacement: with True, remove kube-proxy; with False, both work together.",
        ),
        (
            "kube-router",
            facts.programs.contains_key("kube-router")
                || interface("kube-bridge")
                || facts.has_owner(Owner::KubeRouter),
            "With --run-service-proxy it serves Services itself, over the same virtual servers of IPVS.",
            "Start kube-router with --run-service-proxy=false, or remove kube-proxy.",
        ),
    ];
    let found = others.into_iter().filter(|(_, found, ..)| *found);
    found
        .map(|(name, _, meaning, remedy)| {
            let what = format!("another service proxy is or was at work here: {name}");
            Finding::new(Severity::Warning, "other-proxy", what, meaning, remedy)
        })
        .collect()
}

fn leftovers(facts: &Facts) -> Vec<Finding> {
    let Some(mode) = facts.mode() else { return Vec::new() };
    let signs = [
        ("iptables", facts.has_owner(Owner::IptablesMode), "chains KUBE-SVC-… and KUBE-SEP-…"),
        ("userspace", facts.has_owner(Owner::UserspaceMode), "chains KUBE-PORTALS-…"),
        ("nftables", !facts.nftables_tables.is_empty(), "the nftables table kube-proxy"),
        (
            "ipvs",
            facts.interfaces.contains("kube-ipvs0") || facts.has_owner(Owner::IpvsMode),
            "interface kube-ipvs0 or chains KUBE-IPVS-…",
        ),
    ];
    let left = signs.into_iter().filter(|(of, found, _)| *found && *of != mode);
    left.map(|(of, _, sign)| {
        Finding::new(
            Severity::Warning,
            "leftovers",
            format!("mode {of} left something here, or runs beside this one: {sign}"),
            format!("Both modes handle new connections; which one wins depends on the order of hooks, not on mode {mode}."),
            "kube-proxy removes leftovers after its first sync; if they stay, its log says why. Or another kube-proxy runs here.",
        )
    })
    .collect()
}

fn variants(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for family in ["IPv4", "IPv6"] {
        let used = |iptables: &&Iptables| iptables.family == family && iptables.rules > 0;
        let used: Vec<_> = facts.iptables.iter().filter(used).collect();
        if used.len() > 1 {
            let counts: Vec<_> =
                used.iter().map(|one| format!("{} has {} rules", one.variant, one.rules)).collect();
            findings.push(Finding::new(
                Severity::Warning,
                "mixed-iptables",
                format!("{family}: both variants of iptables are in use: {}", counts.join(", ")),
                "The kernel asks both: a packet must pass each of them, and no program shows both.",
                "Let all programs use one variant (update-alternatives --config iptables), and reboot or flush the other.",
            ));
        }
    }
    findings
}

fn bridges_and_filters(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];
    let families = ["IPv4", "IPv6"];
    for (name, family) in names.into_iter().zip(families) {
        let off = facts.sysctl(name).is_none_or(|value| value == "0");
        if off && !facts.bridges.is_empty() && facts.serves(family) {
            let bridges: Vec<_> = facts.bridges.iter().map(String::as_str).collect();
            let name = name.replace('/', ".");
            findings.push(Finding::new(
                Severity::Note,
                "bridge-nf-call",
                format!("{name} is off, and there are bridges: {}", bridges.join(", ")),
                "If pods hang on one of these bridges, answers between two pods of this node do not pass the rules, and connections through a Service between them fail.",
                format!("modprobe br_netfilter && sysctl -w {name}=1, unless the network plugin does without."),
            ));
        }
    }
    let strict = ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"];
    if strict.into_iter().any(|name| facts.sysctl(name) == Some("1")) {
        findings.push(Finding::new(
            Severity::Note,
            "rp-filter",
            "rp_filter is strict (1) on all interfaces or on new ones",
            "Packets whose answers would leave by another interface are dropped: on nodes with several networks, answers of load balancers and node ports may be among them.",
            "sysctl -w net.ipv4.conf.all.rp_filter=2 (loose) on nodes with several networks.",
        ));
    }
    findings
}

fn clock_and_dns(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.now < SystemTime::UNIX_EPOCH + LONG_AGO {
        findings.push(Finding::new(
            Severity::Problem,
            "clock",
            "the clock of this node is years behind",
            "Certificates seem not valid yet: kube-proxy cannot speak to the API server.",
            "Set the clock, and start a time service such as chrony.",
        ));
    }
    if facts.interfaces.contains("nodelocaldns") {
        findings.push(Finding::new(
            Severity::Note,
            "node-local-dns",
            "NodeLocal DNS runs here (interface nodelocaldns)",
            "Packets to the cluster IP of DNS end at this node's cache and pass no rule of kube-proxy; in ipvs mode pods must use the cache's own address.",
            "Nothing, if DNS works. If not, look at the node-local-dns pod of this node first.",
        ));
    }
    findings
}
