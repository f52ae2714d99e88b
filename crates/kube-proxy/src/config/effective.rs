//! The configuration as the rest of the program uses it: parsed, typed, nothing left to check.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses};
use kube_proxy_source::Trust;

use super::address::{parse_cidr, parse_ip, parse_ip_port};
use super::flags::IptablesVariant;
use super::gates::FeatureGates;
use super::mode::{DISABLED, Mode, PRIMARY, detect_local};
use super::quantity::Quantity;
use super::types::{KubeProxyConfiguration, OutputRouting, VModule};
use super::userspace_ports;
use super::validate::periods;

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
    /// Show metrics hidden since the previous minor version.
    pub show_hidden_metrics: bool,
    /// Service ports of each family with traffic metrics of their own; 0 for none.
    pub service_metrics_limit: u32,
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
    pub nftables_localhost_node_ports: bool,
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
    /// Period of the full re-read of what the API server sent.
    pub config_sync_period: Duration,
    /// Logging.
    pub logging: LoggingSettings,
    /// Features on and off.
    pub feature_gates: FeatureGates,
}

/// Where Services and endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Manifests in this file or directory.
    Manifests(PathBuf),
    /// A Kubernetes API server.
    Kubernetes(KubernetesSource),
}

/// How to reach the API server. Neither `kubeconfig` nor `master` means from within a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesSource {
    /// Kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the server, overrides the kubeconfig.
    pub master: Option<String>,
    /// `Accept` header, empty for the default.
    pub accept_content_types: String,
    /// `Content-Type` header.
    pub content_type: String,
    /// Requests per second; negative for no limit.
    pub qps: f32,
    /// Requests that may exceed the rate at once.
    pub burst: u32,
}

/// Settings of the ipvs mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpvsSettings {
    /// Scheduler of the virtual servers.
    pub scheduler: String,
    /// Networks whose virtual servers are left alone.
    pub exclude_cidrs: Vec<IpNet>,
    /// Set `arp_ignore` and `arp_announce`.
    pub strict_arp: bool,
    /// Timeout of idle TCP connections; `None` keeps the kernel's, as for the next two.
    pub tcp_timeout: Option<Duration>,
    /// Timeout of TCP connections after FIN.
    pub tcp_fin_timeout: Option<Duration>,
    /// Timeout of UDP flows.
    pub udp_timeout: Option<Duration>,
    /// With a `Local` policy and no local endpoint, use the endpoints of other nodes.
    pub local_fallback: bool,
    /// How long connections of an endpoint that goes may go on; zero is for ever.
    pub drain_timeout: Duration,
}

/// Settings of the userspace mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserspaceSettings {
    /// Ports to listen on; `None` for any.
    pub port_range: Option<RangeInclusive<u16>>,
    /// Idle time after which a UDP association is dropped.
    pub udp_timeout: Duration,
    /// How long an endpoint that cannot be reached gets no connections while others can.
    pub rest: Duration,
}

/// Kernel connection tracking; `None` leaves a setting alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackSettings {
    /// Tracked connections per CPU core. `None` leaves the limit alone, whatever `min` is.
    pub max_per_core: Option<u32>,
    /// Least number of tracked connections.
    pub min: u32,
    /// `nf_conntrack_tcp_timeout_established`.
    pub tcp_established_timeout: Option<Duration>,
    /// `nf_conntrack_tcp_timeout_close_wait`.
    pub tcp_close_wait_timeout: Option<Duration>,
    /// `nf_conntrack_udp_timeout`.
    pub udp_timeout: Option<Duration>,
    /// `nf_conntrack_udp_timeout_stream`.
    pub udp_stream_timeout: Option<Duration>,
    /// `nf_conntrack_tcp_be_liberal`.
    pub tcp_be_liberal: bool,
}

/// How traffic of local pods is recognised (`detectLocalMode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalTraffic {
    /// By these networks; none means that it is not recognised.
    ClusterCidr(Vec<IpNet>),
    /// By the pod networks of the Node object.
    NodeCidr,
    /// By the bridge it came in through.
    Bridge(String),
    /// By how the name of the interface it came in through starts.
    InterfacePrefix(String),
}

/// Which addresses take NodePort traffic (`nodePortAddresses`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePorts {
    /// The node's own address of each family.
    Primary,
    /// Local addresses within these networks; no network of a family means all of that family.
    Within(Vec<IpNet>),
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingSettings {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Verbosity: 0 least.
    pub verbosity: u32,
    /// Verbosity by module; the first match counts.
    pub vmodule: Vec<VModule>,
    /// Longest time a line is buffered.
    pub flush_frequency: Duration,
    /// Errors to standard error, the rest to standard output.
    pub split_stream: bool,
    /// Buffer of the standard output when split, in bytes; 0 for none.
    pub info_buffer_size: u64,
}

/// Settings that have no field in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    pub(crate) manifests: Option<PathBuf>,
    pub(crate) master: Option<String>,
    pub(crate) iptables_variant: IptablesVariant,
    pub(crate) offload_after: Option<NonZeroU32>,
    pub(crate) ipvs_local_fallback: bool,
    pub(crate) service_metrics_limit: u32,
    pub(crate) trust: Trust,
    pub(crate) ipvs_drain_timeout: Option<Duration>,
    pub(crate) healthz_stale_after: Duration,
    pub(crate) nftables_localhost_node_ports: bool,
    pub(crate) userspace_rest: Duration,
}

impl Effective {
    /// Converts a configuration that passed validation; `None` if it did not.
    pub(crate) fn new(
        config: &KubeProxyConfiguration,
        beside: Beside,
        node_name: String,
    ) -> Option<Self> {
        let mode = Mode::parse(&config.mode)?;
        let (sync, min) = periods(config, mode);
        let (masquerade_all, bit) = match mode {
            Mode::Nftables => (config.nftables.masquerade_all, config.nftables.masquerade_bit),
            _ => (config.iptables.masquerade_all, config.iptables.masquerade_bit),
        };
        Some(Self {
            mode,
            source: source(config, beside.manifests, beside.master),
            node_name,
            bind_address: parse_ip(&config.bind_address)?,
            healthz_address: server_address(&config.healthz_bind_address)?,
            healthz_stale_after: unless_zero(beside.healthz_stale_after),
            metrics_address: server_address(&config.metrics_bind_address)?,
            bind_address_hard_fail: config.bind_address_hard_fail,
            profiling: config.enable_profiling,
            show_hidden_metrics: !config.show_hidden_metrics_for_version.is_empty(),
            service_metrics_limit: beside.service_metrics_limit,
            sync_period: sync.to_std(),
            min_sync_period: min_sync_period(min.to_std()),
            masquerade_all,
            masquerade_mark: 1_u32.checked_shl(u32::try_from(bit?).ok()?)?,
            localhost_node_ports: config.iptables.localhost_node_ports?,
            nftables_localhost_node_ports: beside.nftables_localhost_node_ports,
            iptables_variant: beside.iptables_variant,
            trust: beside.trust,
            offload_after: beside.offload_after,
            ipvs: ipvs(config, beside.ipvs_local_fallback, beside.ipvs_drain_timeout),
            userspace: userspace(config, beside.userspace_rest),
            conntrack: conntrack(config),
            local_traffic: local_traffic(config)?,
            node_ports: node_ports(&config.node_port_addresses),
            oom_score_adj: config.oom_score_adj,
            config_sync_period: config.config_sync_period.to_std(),
            logging: logging(config),
            feature_gates: FeatureGates::resolve(&config.feature_gates).ok()?,
        })
    }

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

    /// Which addresses of a family take NodePort traffic.
    ///
    /// `node_ip` is the node's address of that family. While it is unknown, `primary` means none, never all.
    pub fn node_port_addresses(
        &self,
        family: IpFamily,
        node_ip: Option<IpAddr>,
    ) -> NodePortAddresses {
        match &self.node_ports {
            NodePorts::Primary => {
                NodePortAddresses::primary(node_ip.filter(|ip| IpFamily::of(ip) == family))
            }
            NodePorts::Within(cidrs) => NodePortAddresses::from_cidrs(family, cidrs),
        }
    }
}

/// A file cannot say 0, which means unset there; a nanosecond is written instead, so that counts as 0 here.
fn min_sync_period(period: Duration) -> Duration {
    if period < Duration::from_micros(1) { Duration::ZERO } else { period }
}

/// `Some(None)` for a server that is turned off.
#[expect(clippy::option_option, reason = "the outer level is failure, the inner one is off")]
fn server_address(text: &str) -> Option<Option<SocketAddr>> {
    if text == DISABLED { Some(None) } else { parse_ip_port(text).ok().map(Some) }
}

fn source(
    config: &KubeProxyConfiguration,
    manifests: Option<PathBuf>,
    master: Option<String>,
) -> Source {
    if let Some(path) = manifests {
        return Source::Manifests(path);
    }
    let client = &config.client_connection;
    // 0 leaves the choice to the client, whose defaults these are.
    let qps = if client.qps == 0.0 { 5.0 } else { client.qps };
    let burst = u32::try_from(client.burst).ok().filter(|burst| *burst > 0).unwrap_or(10);
    Source::Kubernetes(KubernetesSource {
        kubeconfig: (!client.kubeconfig.is_empty()).then(|| client.kubeconfig.clone().into()),
        master: master.filter(|master| !master.is_empty()),
        accept_content_types: client.accept_content_types.clone(),
        content_type: client.content_type.clone(),
        qps,
        burst,
    })
}

fn ipvs(
    config: &KubeProxyConfiguration,
    local_fallback: bool,
    drain_timeout: Option<Duration>,
) -> IpvsSettings {
    const DRAIN_TIMEOUT: Duration = Duration::from_hours(24);
    let ipvs = &config.ipvs;
    let scheduler = if ipvs.scheduler.is_empty() { "rr" } else { &ipvs.scheduler };
    IpvsSettings {
        scheduler: scheduler.to_owned(),
        exclude_cidrs: ipvs.exclude_cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).collect(),
        strict_arp: ipvs.strict_arp,
        tcp_timeout: unless_zero(ipvs.tcp_timeout.to_std()),
        tcp_fin_timeout: unless_zero(ipvs.tcp_fin_timeout.to_std()),
        udp_timeout: unless_zero(ipvs.udp_timeout.to_std()),
        local_fallback,
        drain_timeout: drain_timeout.unwrap_or(DRAIN_TIMEOUT),
    }
}

fn unless_zero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn userspace(config: &KubeProxyConfiguration, rest: Duration) -> UserspaceSettings {
    const UDP_TIMEOUT: Duration = Duration::from_millis(250);
    UserspaceSettings {
        port_range: userspace_ports::parse(&config.port_range).unwrap_or_default(),
        udp_timeout: unless_zero(config.udp_idle_timeout.to_std()).unwrap_or(UDP_TIMEOUT),
        rest,
    }
}

fn conntrack(config: &KubeProxyConfiguration) -> ConntrackSettings {
    let conntrack = &config.conntrack;
    let count = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    ConntrackSettings {
        max_per_core: Some(count(conntrack.max_per_core)).filter(|max| *max > 0),
        min: count(conntrack.min),
        tcp_established_timeout: conntrack
            .tcp_established_timeout
            .and_then(|timeout| unless_zero(timeout.to_std())),
        tcp_close_wait_timeout: conntrack
            .tcp_close_wait_timeout
            .and_then(|timeout| unless_zero(timeout.to_std())),
        udp_timeout: unless_zero(conntrack.udp_timeout.to_std()),
        udp_stream_timeout: unless_zero(conntrack.udp_stream_timeout.to_std()),
        tcp_be_liberal: conntrack.tcp_be_liberal,
    }
}

fn local_traffic(config: &KubeProxyConfiguration) -> Option<LocalTraffic> {
    let names = &config.detect_local;
    Some(match config.detect_local_mode.as_str() {
        detect_local::CLUSTER_CIDR => {
            let cidrs = config.cluster_cidr.split(',');
            LocalTraffic::ClusterCidr(cidrs.filter_map(|cidr| parse_cidr(cidr.trim())).collect())
        }
        detect_local::NODE_CIDR => LocalTraffic::NodeCidr,
        detect_local::BRIDGE => LocalTraffic::Bridge(names.bridge_interface.clone()),
        detect_local::INTERFACE_PREFIX => {
            LocalTraffic::InterfacePrefix(names.interface_name_prefix.clone())
        }
        _ => return None,
    })
}

fn node_ports(addresses: &[String]) -> NodePorts {
    match addresses {
        [only] if only == PRIMARY => NodePorts::Primary,
        cidrs => NodePorts::Within(cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).collect()),
    }
}

fn logging(config: &KubeProxyConfiguration) -> LoggingSettings {
    let logging = &config.logging;
    let json = logging.format == "json";
    let options: &OutputRouting = if json { &logging.options.json } else { &logging.options.text };
    LoggingSettings {
        json,
        verbosity: logging.verbosity,
        vmodule: logging.vmodule.clone(),
        flush_frequency: logging.flush_frequency.to_std(),
        split_stream: options.split_stream,
        info_buffer_size: Quantity::bytes(&options.info_buffer_size),
    }
}

#[cfg(test)]
mod tests;
