//! The configuration as the rest of the program uses it: parsed, typed, nothing left to check.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;
use kube_proxy_core::{
    Algorithm, IpFamily, LocalTrafficDetector, NoLocalEndpoints, NodePortAddresses, Protocol,
    Trust, ZoneSpill,
};

use super::flags::IptablesVariant;
use super::gates::FeatureGates;
use super::mode::Mode;

mod convert;
mod settings;

pub use settings::{
    ConntrackSettings, IpvsSettings, KubernetesSource, LocalTraffic, LoggingSettings, NodePorts,
    Source, UserspaceSettings,
};

/// The gate of NodePorts on loopback in nftables mode (KEP-6032).
const LOCALHOST_GATE: &str = "KubeProxyNFTablesLocalhostNodePorts";

/// Everything the program needs to know.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the configuration")]
pub struct Effective {
    /// How traffic is sent to endpoints.
    pub mode: Mode,
    /// Where Services and endpoints come from.
    pub source: Source,
    /// The name of this node, lower-case.
    pub node_name: String,
    /// Address given for this node; unspecified if only its family matters.
    pub bind_address: IpAddr,
    /// Address of the health server; `None` for no server.
    pub healthz_address: Option<SocketAddr>,
    /// Without word from the API server for so long, `/healthz` fails; `None` for never.
    pub healthz_stale_after: Option<Duration>,
    /// Address of the metrics server; `None` for no server.
    pub metrics_address: Option<SocketAddr>,
    /// A health or metrics port that cannot be opened ends the process.
    pub bind_address_hard_fail: bool,
    /// Serve profiles on the metrics address.
    pub profiling: bool,
    /// Serve pages about Services on the metrics address.
    pub debug_pages: bool,
    /// Service ports of each family with traffic metrics of their own; 0 for none.
    pub service_metrics_limit: u32,
    /// What happens under the external `Local` policy without local endpoints, for Services that do not say.
    pub no_local_endpoints: NoLocalEndpoints,
    /// When endpoints of other zones join those of this node's, for Services that do not say.
    pub zone_spill: ZoneSpill,
    /// How an endpoint is chosen, for Services that do not say.
    pub lb_algorithm: Algorithm,
    /// `syncPeriod` of the active mode.
    pub sync_period: Duration,
    /// `minSyncPeriod` of the active mode.
    pub min_sync_period: Duration,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// The bit of the packet mark that asks for masquerading, as a mask.
    pub masquerade_mark: u32,
    /// NodePorts on loopback addresses (iptables mode).
    pub localhost_node_ports: bool,
    /// NodePorts on loopback addresses, copied by this process (nftables mode).
    /// Unset where `nodePortAddresses` decides.
    pub nftables_localhost_node_ports: Option<bool>,
    /// Which iptables programs to use.
    pub iptables_variant: IptablesVariant,
    /// Which addresses objects may name.
    pub trust: Trust,
    /// Forwarded connections with more packets than this pass by the rules (nftables mode).
    pub offload_after: Option<NonZeroU32>,
    /// Settings of the ipvs mode.
    pub ipvs: IpvsSettings,
    /// Settings of the userspace mode.
    pub userspace: UserspaceSettings,
    /// Kernel connection tracking.
    pub conntrack: ConntrackSettings,
    /// How traffic of local pods is recognised.
    pub local_traffic: LocalTraffic,
    /// Which addresses take NodePort traffic.
    pub node_ports: NodePorts,
    /// OOM score adjustment to write for this process.
    pub oom_score_adj: Option<i32>,
    /// Logging.
    pub logging: LoggingSettings,
    /// Features on and off.
    pub feature_gates: FeatureGates,
}

impl Effective {
    /// How local traffic of a family is recognised.
    ///
    /// `node_pod_cidrs` are the `spec.podCIDRs` of the Node; of several networks of the family the first counts.
    pub fn local_traffic_detector(
        &self,
        family: IpFamily,
        node_pod_cidrs: &[IpNet],
    ) -> LocalTrafficDetector {
        let first = |cidrs: &[IpNet]| {
            let own = cidrs.iter().find(|net| IpFamily::of_net(net) == family);
            own.map_or(LocalTrafficDetector::None, |net| LocalTrafficDetector::Cidr(*net))
        };
        match &self.local_traffic {
            LocalTraffic::ClusterCidr(cidrs) => first(cidrs),
            LocalTraffic::NodeCidr => first(node_pod_cidrs),
            LocalTraffic::Bridge(name) => LocalTrafficDetector::Bridge(name.clone()),
            LocalTraffic::InterfacePrefix(prefix) => {
                LocalTrafficDetector::InterfacePrefix(prefix.clone())
            }
        }
    }

    /// Whether this configuration lets the kernel route loopback addresses, for NodePorts on them (iptables mode, IPv4).
    pub fn sets_route_localnet(&self) -> bool {
        let addresses = self.node_port_addresses(IpFamily::V4, None);
        self.mode == Mode::Iptables && self.localhost_node_ports && addresses.contains_loopback()
    }

    /// Whether this process listens at node ports on the loopback address of a family, in nftables mode: because a flag asks for it, or
    /// because `nodePortAddresses` has a loopback network with that address. A wider network does not count.
    pub fn listens_on_localhost(&self, family: IpFamily) -> bool {
        let address: IpAddr = match family {
            IpFamily::V4 => Ipv4Addr::LOCALHOST.into(),
            IpFamily::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let names = |net: &IpNet| {
            net.network().is_loopback() && net.broadcast().is_loopback() && net.contains(&address)
        };
        let by_address = || {
            self.feature_gates.enabled(LOCALHOST_GATE) && self.node_ports.within.iter().any(names)
        };
        self.mode == Mode::Nftables && self.nftables_localhost_node_ports.unwrap_or_else(by_address)
    }

    /// Protocols that are refused at node ports on loopback addresses of a family, in nftables mode: those that nothing serves there, if
    /// the feature is on at all. Where it is not, what is sent there finds who listens, or a closed port.
    pub fn refused_on_localhost(&self, family: IpFamily) -> Vec<Protocol> {
        let on = self.feature_gates.enabled(LOCALHOST_GATE);
        match (self.listens_on_localhost(family), on) {
            (true, _) => vec![Protocol::Sctp],
            (false, true) => vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
            (false, false) => Vec::new(),
        }
    }

    /// Which addresses of a family take NodePort traffic.
    ///
    /// `node_ip` is the node's address of that family. While it is unknown, `primary` means none, never all.
    pub fn node_port_addresses(
        &self,
        family: IpFamily,
        node_ip: Option<IpAddr>,
    ) -> NodePortAddresses {
        let NodePorts { primary, within } = &self.node_ports;
        if *primary {
            NodePortAddresses::with_primary(family, within, node_ip)
        } else {
            NodePortAddresses::from_cidrs(family, within)
        }
    }
}

#[cfg(test)]
mod tests;
