//! From a mode to its backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, ProxyBackend, SyncError};
use kube_proxy_iptables::{IptablesBackend, Variant};
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

/// The modes that this version has.
pub const MODES: [Mode; 3] = [Mode::Iptables, Mode::Nftables, Mode::Userspace];

/// Says at once that a mode is not there, without waiting for anything.
///
/// # Errors
/// One sentence for the person who chose the mode.
pub fn check_mode(mode: Mode) -> Result<(), String> {
    if MODES.contains(&mode) { Ok(()) } else { Err(not_built(mode)) }
}

fn not_built(mode: Mode) -> String {
    format!("proxy mode {mode} is not part of this version; use --proxy-mode=nftables or iptables")
}

/// Makes the backend of the configured mode for one family. `observer` sees what it does where this process copies connections.
pub fn create(
    config: &Effective,
    family: IpFamily,
    node: &NodeFacts,
    observer: &Observer,
) -> Result<Box<dyn ProxyBackend>, SyncError> {
    match config.mode {
        Mode::Iptables => {
            let backend = IptablesBackend::new(iptables(config, family, node))?;
            Ok(Box::new(backend))
        }
        Mode::Nftables => {
            let backend = NftablesBackend::new(nftables(config, family, node))?;
            localhost::with_node_ports(config, family, Box::new(backend))
        }
        Mode::Userspace => {
            let backend = UserspaceBackend::new(userspace(config, family, node, observer))?;
            Ok(Box::new(backend))
        }
        Mode::Ipvs => Err(SyncError::Unsupported(not_built(config.mode))),
    }
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
    }
}

/// Whether the kernel already lets TCP packets outside the window pass, so that they are not to be dropped as invalid.
fn be_liberal() -> bool {
    std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
        .is_ok_and(|value| value.trim() != "0")
}
