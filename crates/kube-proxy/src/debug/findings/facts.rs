//! What is known of the node before anything is concluded from it, and the one place where it is gathered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use kube_proxy_config::Mode;
use kube_proxy_core::explain::NodeFacts;
use kube_proxy_core::{IpFamily, Tracker};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::nf_tables::{HookPoint, NfTables};
use kube_proxy_xtables::{Programs, Variant};

use crate::debug::check::Check;

/// Everything that findings come from.
#[derive(Debug)]
pub(crate) struct Facts {
    /// What the running proxy answered, or why there is no answer.
    pub(crate) check: Result<Check, String>,
    /// Sysctls by their path below `/proc/sys`; what the kernel does not have is left out.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The network interfaces, and which of them are bridges.
    pub(crate) interfaces: BTreeSet<String>,
    pub(crate) bridges: BTreeSet<String>,
    /// Programs that run here, of those that matter: by their names, with how many there are.
    pub(crate) programs: BTreeMap<&'static str, usize>,
    /// The rules of iptables, by variant and family.
    pub(crate) iptables: Vec<Iptables>,
    /// Base chains of `nf_tables` that drop what is forwarded, unless a rule in them accepts it; but for those of iptables.
    pub(crate) forward_chains: Vec<String>,
    /// The families that have a table of the nftables mode.
    pub(crate) nftables_tables: Vec<String>,
    pub(crate) now: SystemTime,
    /// The proxy that is meant, where none answers or another one is planned.
    pub(crate) meant: Option<Meant>,
}

/// A proxy that is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meant {
    /// Its mode.
    pub(crate) mode: String,
    /// The families that it would serve.
    pub(crate) families: Vec<String>,
}

impl Meant {
    /// A proxy of this mode that would serve these families.
    pub(crate) fn of(mode: Mode, families: &[(Tracker, NodeFacts)]) -> Self {
        let family = |(tracker, _): &(Tracker, NodeFacts)| tracker.snapshot().family.to_string();
        Self { mode: mode.name().to_owned(), families: families.iter().map(family).collect() }
    }
}

/// What one variant of iptables holds for one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Iptables {
    /// `iptables-legacy` or `iptables-nft`.
    pub(crate) variant: String,
    /// `IPv4` or `IPv6`.
    pub(crate) family: String,
    /// How many rules there are in all tables.
    pub(crate) rules: usize,
    /// The policy of FORWARD is to drop.
    pub(crate) forward_drops: bool,
    /// Whose chains there are.
    pub(crate) owners: BTreeSet<Owner>,
}

/// Who writes chains, as their names show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    IptablesMode,
    IpvsMode,
    UserspaceMode,
    Cilium,
    KubeRouter,
}

impl Owner {
    fn of(chain: &str) -> Option<Self> {
        let starts = |start| chain.starts_with(start);
        if starts("KUBE-SVC-") || starts("KUBE-SEP-") {
            Some(Self::IptablesMode)
        } else if starts("KUBE-IPVS-") {
            Some(Self::IpvsMode)
        } else if starts("KUBE-PORTALS-") || starts("KUBE-USERSPACE-") {
            Some(Self::UserspaceMode)
        } else if starts("CILIUM_") {
            Some(Self::Cilium)
        } else if starts("KUBE-ROUTER-") {
            Some(Self::KubeRouter)
        } else {
            None
        }
    }
}

/// Programs whose number or presence matters.
const PROGRAMS: [&str; 3] = ["kube-proxy", "cilium-agent", "kube-router"];

/// Sysctls that matter.
const SYSCTLS: [&str; 9] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/default/rp_filter",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_events",
];

/// Looks at this node. What cannot be read is left out: each finding needs a fact that is there.
/// `is_command` recognises the first argument of a command of kube-proxy, which is no proxy.
pub(crate) fn gather(check: Result<Check, String>, is_command: fn(&str) -> bool) -> Facts {
    // Not from /sys, which shows the interfaces of the network namespace that mounted it.
    let interfaces = interfaces(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default());
    let is_bridge = |name: &&String| Path::new("/sys/class/net").join(name).join("bridge").exists();
    Facts {
        check,
        sysctls: SYSCTLS.into_iter().filter_map(sysctl).collect(),
        bridges: interfaces.iter().filter(is_bridge).cloned().collect(),
        interfaces,
        programs: programs(Path::new("/proc"), is_command),
        iptables: iptables(),
        forward_chains: forward_chains(),
        nftables_tables: nftables_tables(),
        now: SystemTime::now(),
        meant: None,
    }
}

/// The names in `/proc/net/dev`: two lines of headings, then a line for each.
pub(crate) fn interfaces(listing: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.split_once(':')?.0.trim().to_owned());
    listing.lines().skip(2).filter_map(name).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn sysctl(name: &str) -> Option<(String, String)> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some((name.to_owned(), value.trim().to_owned()))
}

/// Those of [`PROGRAMS`] that run in this network namespace, without commands of kube-proxy such as this one.
fn programs(proc: &Path, is_command: fn(&str) -> bool) -> BTreeMap<&'static str, usize> {
    let network = |pid: &str| fs::read_link(proc.join(pid).join("ns/net")).ok();
    let own = network("self");
    let mut programs = BTreeMap::new();
    for pid in names(proc).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let Ok(line) = fs::read(proc.join(&pid).join("cmdline")) else { continue };
        let mut words = line.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let first = words.next().unwrap_or_default();
        let name = first.rsplit('/').next().unwrap_or_default();
        let Some(known) = PROGRAMS.into_iter().find(|known| *known == name) else { continue };
        let second = words.next().unwrap_or_default();
        if !is_command(&second) && network(&pid) == own {
            *programs.entry(known).or_default() += 1;
        }
    }
    programs
}

fn iptables() -> Vec<Iptables> {
    let mut all = Vec::new();
    for variant in [Variant::Legacy, Variant::Nft] {
        for family in IpFamily::BOTH {
            // Looking must not load what is not in use.
            let Some(programs) = Programs::find(family, variant) else { continue };
            let mut read = Iptables {
                variant: variant.long_name(),
                family: family.to_string(),
                ..Iptables::default()
            };
            for table in ["filter", "nat", "mangle", "raw"] {
                if !programs.is_unused(table) {
                    let _ = programs.each_line(table, &mut |line| read.line(table, line));
                }
            }
            all.push(read);
        }
    }
    all
}

impl Iptables {
    pub(crate) fn line(&mut self, table: &str, line: &str) {
        if let Some(declared) = line.strip_prefix(':') {
            let mut words = declared.split(' ');
            let chain = words.next().unwrap_or_default();
            self.owners.extend(Owner::of(chain));
            let drops = words.next() == Some("DROP");
            self.forward_drops |= table == "filter" && chain == "FORWARD" && drops;
        } else if line.starts_with("-A ") {
            self.rules += 1;
        }
    }
}

/// The chains that nft and programs like firewalld make; those of iptables-nft its programs show.
fn forward_chains() -> Vec<String> {
    let chains = NfTables::open(Family::V4).and_then(|mut netlink| netlink.all_chains());
    let mut drops = Vec::new();
    for (family, chain) in chains.unwrap_or_default() {
        let forwards = chain.hook.is_some_and(|hook| hook.point == HookPoint::Forward);
        let of_iptables = chain.table == "filter" && chain.name == "FORWARD";
        if forwards && chain.drops && !of_iptables {
            let family = match family {
                1 => "inet",
                2 => "ip",
                10 => "ip6",
                _ => "other",
            };
            drops.push(format!("table {family} {} chain {}", chain.table, chain.name));
        }
    }
    drops
}

fn nftables_tables() -> Vec<String> {
    let has = |family: &Family| {
        let table = NfTables::open(*family).and_then(|mut netlink| netlink.table("kube-proxy"));
        matches!(table, Ok(Some(_)))
    };
    [Family::V4, Family::V6].iter().filter(|family| has(family)).map(ToString::to_string).collect()
}
