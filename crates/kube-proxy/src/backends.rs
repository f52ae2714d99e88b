//! From a mode to its backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, ProxyBackend, Removed, SyncError};
use kube_proxy_iptables::{InUse, IptablesBackend, Variant};
use kube_proxy_ipvs::{Connections, IpvsBackend};
use kube_proxy_nftables::NftablesBackend;
use kube_proxy_userspace::{Observer, UserspaceBackend};

use crate::config::{Effective, IptablesVariant, Mode};
use crate::localhost;
use crate::node_watch::NodeNews;
use crate::udp_flows::NodePortScope;

/// What a backend needs to know of this node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The primary address of the family.
    pub ip: Option<IpAddr>,
    /// `spec.podCIDRs` of the Node object.
    pub pod_cidrs: Vec<IpNet>,
}

/// A mode: everything that the rest of the program needs of it.
pub struct ModeEntry {
    /// The mode.
    pub mode: Mode,
    /// Makes its backend for one family.
    create: fn(&Effective, IpFamily, &NodeFacts, &Observer) -> Result<Created, SyncError>,
    /// Removes from one family what this mode of any kube-proxy, ours or the Go one, left there.
    /// Also called for the mode that runs, which may have left something where it no longer looks.
    ///
    /// `Unsupported` says that this node cannot have anything of the mode, or cannot be looked at.
    remove: fn(IpFamily, &Running) -> Result<Removed, SyncError>,
}

/// What there is of a mode.
fn entry(mode: Mode) -> &'static ModeEntry {
    match mode {
        Mode::Iptables => &IPTABLES,
        Mode::Ipvs => &IPVS,
        Mode::Nftables => &NFTABLES,
        Mode::Userspace => &USERSPACE,
    }
}

/// All modes.
pub fn modes() -> impl Iterator<Item = &'static ModeEntry> {
    Mode::ALL.into_iter().map(entry)
}

static IPTABLES: ModeEntry = ModeEntry {
    mode: Mode::Iptables,
    create: |config, family, node, _| {
        let backend = IptablesBackend::new(iptables(config, family, node))?;
        let iptables = backend.in_use();
        let running = Running { mode: Some(Mode::Iptables), iptables, ..Running::of(config) };
        Ok(Created { backend: Box::new(backend), running })
    },
    remove: |family, running| {
        kube_proxy_iptables::remove(family, running.iptables).map(Removed::at_once)
    },
};

static IPVS: ModeEntry = ModeEntry {
    mode: Mode::Ipvs,
    create: |config, family, node, _| {
        let backend = IpvsBackend::new(ipvs(config, family, node))?;
        let iptables = InUse { variant: Some(backend.variant()), ..InUse::default() };
        let running = Running { mode: Some(Mode::Ipvs), iptables, ..Running::of(config) };
        Ok(Created { backend: Box::new(backend), running })
    },
    remove: |family, running| match running.mode {
        Some(Mode::Ipvs) => Ok(Removed::Nothing),
        mode => {
            let over = running.cut_at.is_some_and(|at| at <= Instant::now());
            // Where no other mode serves there is nobody to take new connections.
            let connections =
                if mode.is_none() || over { Connections::Cut } else { Connections::Keep };
            let (exclude, in_use) = (&running.exclude_cidrs, running.iptables.variant);
            kube_proxy_ipvs::remove(family, exclude, in_use, connections)
        }
    },
};

static NFTABLES: ModeEntry = ModeEntry {
    mode: Mode::Nftables,
    create: |config, family, node, _| {
        let backend = NftablesBackend::new(nftables(config, family, node))?;
        let backend = localhost::with_node_ports(config, family, Box::new(backend))?;
        let running = Running { mode: Some(Mode::Nftables), ..Running::of(config) };
        Ok(Created { backend, running })
    },
    remove: |family, running| match running.mode {
        Some(Mode::Nftables) => Ok(Removed::Nothing),
        _ => kube_proxy_nftables::remove(family).map(Removed::at_once),
    },
};

static USERSPACE: ModeEntry = ModeEntry {
    mode: Mode::Userspace,
    create: |config, family, node, observer| {
        let backend = UserspaceBackend::new(userspace(config, family, node, observer))?;
        let running = Running { mode: Some(Mode::Userspace), ..Running::of(config) };
        Ok(Created { backend: Box::new(backend), running })
    },
    remove: |family, running| match running.mode {
        Some(Mode::Userspace) => Ok(Removed::Nothing),
        _ => kube_proxy_userspace::remove(family).map(Removed::at_once),
    },
};

impl ModeEntry {
    /// Removes what this mode left in one family, but for what is in use, and, while a mode runs, what connections need.
    ///
    /// # Errors
    /// What could not be removed, and why.
    pub fn remove(&self, family: IpFamily, running: &Running) -> Result<Removed, SyncError> {
        (self.remove)(family, running)
    }
}

/// A backend, and what must not be removed while it runs.
pub struct Created {
    /// The backend.
    pub backend: Box<dyn ProxyBackend>,
    /// What is in use.
    pub running: Running,
}

/// What is in use on the node while leftovers are removed; by default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// The mode of the running proxy.
    pub mode: Option<Mode>,
    /// What it uses of iptables.
    pub iptables: InUse,
    /// `ipvs.excludeCIDRs`: what is in them stays.
    pub exclude_cidrs: Arc<[IpNet]>,
    /// When connections that another mode left are cut; `None` is never.
    pub cut_at: Option<Instant>,
}

impl Running {
    /// Nothing runs; what the configuration says about removing.
    pub fn of(config: &Effective) -> Self {
        let ipvs = &config.ipvs;
        let patience = Some(ipvs.drain_timeout).filter(|timeout| !timeout.is_zero());
        Self {
            exclude_cidrs: ipvs.exclude_cidrs.clone().into(),
            cut_at: patience.and_then(|patience| Instant::now().checked_add(patience)),
            ..Self::default()
        }
    }
}

/// Makes the backend of the configured mode for one family. `observer` sees what it does where this process copies connections.
pub fn create(
    config: &Effective,
    family: IpFamily,
    node: &NodeFacts,
    observer: &Observer,
) -> Result<Created, SyncError> {
    (entry(config.mode).create)(config, family, node, observer)
}

/// Where node ports of a family may be used: needed to tell whose UDP flows they are.
pub fn node_port_scope(config: &Effective, family: IpFamily, node: &NodeNews) -> NodePortScope {
    let addresses = config.node_port_addresses(family, node.address(config, family));
    let loopback = config.mode == Mode::Iptables
        && family == IpFamily::V4
        && config.localhost_node_ports
        && addresses.contains_loopback();
    NodePortScope { addresses, loopback }
}

/// Whether this host has the family at all.
pub fn host_has(family: IpFamily) -> bool {
    match family {
        IpFamily::V4 => true,
        IpFamily::V6 => Path::new("/proc/self/net/if_inet6").exists(),
    }
}

fn iptables(config: &Effective, family: IpFamily, node: &NodeFacts) -> kube_proxy_iptables::Config {
    kube_proxy_iptables::Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        localhost_node_ports: config.localhost_node_ports,
        drop_invalid: !config.conntrack.tcp_be_liberal && !be_liberal(),
        variant: variant(config),
    }
}

fn variant(config: &Effective) -> Variant {
    match config.iptables_variant {
        IptablesVariant::Auto => Variant::Auto,
        IptablesVariant::Legacy => Variant::Legacy,
        IptablesVariant::Nft => Variant::Nft,
    }
}

fn ipvs(config: &Effective, family: IpFamily, node: &NodeFacts) -> kube_proxy_ipvs::Config {
    let ipvs = &config.ipvs;
    kube_proxy_ipvs::Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        scheduler: ipvs.scheduler.clone(),
        exclude_cidrs: ipvs.exclude_cidrs.clone(),
        strict_arp: ipvs.strict_arp,
        tcp_timeout: ipvs.tcp_timeout,
        tcp_fin_timeout: ipvs.tcp_fin_timeout,
        udp_timeout: ipvs.udp_timeout,
        local_fallback: ipvs.local_fallback,
        drain_timeout: ipvs.drain_timeout,
        variant: variant(config),
    }
}

fn userspace(
    config: &Effective,
    family: IpFamily,
    node: &NodeFacts,
    observer: &Observer,
) -> kube_proxy_userspace::Config {
    let unspecified = match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let bind = Some(config.bind_address).filter(|ip| IpFamily::of(ip) == family);
    kube_proxy_userspace::Config {
        family,
        variant: variant(config),
        listen: bind.unwrap_or(unspecified),
        port_range: config.userspace.port_range.clone(),
        udp_idle: config.userspace.udp_timeout,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        localhost_node_ports: config.localhost_node_ports,
        rest: config.userspace.rest,
        splice: true,
        observer: observer.clone(),
    }
}

fn nftables(config: &Effective, family: IpFamily, node: &NodeFacts) -> kube_proxy_nftables::Config {
    kube_proxy_nftables::Config {
        family,
        masquerade_all: config.masquerade_all,
        masquerade_mark: config.masquerade_mark,
        local_traffic: config.local_traffic_detector(family, &node.pod_cidrs),
        node_ports: config.node_port_addresses(family, node.ip),
        offload_after: config.offload_after,
    }
}

/// Whether the kernel already lets TCP packets outside the window pass, so that they are not to be dropped as invalid.
fn be_liberal() -> bool {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
        .is_ok_and(|value| value.trim() != "0")
}

#[cfg(test)]
mod tests;
