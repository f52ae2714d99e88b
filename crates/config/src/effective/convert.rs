//! From the configuration and the flags beside it to what the rest of the program uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    ConntrackSettings, Effective, IpvsSettings, KubernetesSource, LocalTraffic, LoggingSettings,
    NodePorts, Source, UserspaceSettings,
};
use crate::address::{parse_cidr, parse_ip, parse_ip_port};
use crate::duration::GoDuration;
use crate::flags::{Flags, IpvsFlags, UserspaceFlags};
use crate::gates::FeatureGates;
use crate::mode::{ALL, DISABLED, LOCALHOST, Mode, PRIMARY, detect_local};
use crate::types::{KubeProxyConfiguration, OutputRouting};
use crate::userspace_ports;
use crate::validate::periods;

/// Enough for the services of a small cluster, and a cost that a large one does not notice.
const SERVICE_METRICS_LIMIT: u32 = 100;

impl Effective {
    /// Converts a configuration that passed validation, and what flags and variables say beside it; `None` if it did not pass.
    pub(crate) fn new(
        config: &KubeProxyConfiguration,
        flags: &Flags,
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
            source: source(config, flags),
            node_name,
            bind_address: parse_ip(&config.bind_address)?,
            healthz_address: server_address(&config.healthz_bind_address)?,
            healthz_stale_after: flags.health.healthz_stale_after.and_then(unless_zero),
            metrics_address: server_address(&config.metrics_bind_address)?,
            bind_address_hard_fail: config.bind_address_hard_fail,
            profiling: config.enable_profiling,
            debug_pages: flags.health.debug_pages.unwrap_or(true),
            service_metrics_limit: flags
                .health
                .service_metrics_limit
                .unwrap_or(SERVICE_METRICS_LIMIT),
            no_local_endpoints: flags.node.no_local_endpoints.unwrap_or_default(),
            zone_spill: flags.node.zone_spill_below.unwrap_or_default(),
            lb_algorithm: flags.node.lb_algorithm.unwrap_or_default(),
            sync_period: sync.to_std(),
            min_sync_period: min_sync_period(min.to_std()),
            masquerade_all,
            masquerade_mark: 1_u32.checked_shl(u32::try_from(bit?).ok()?)?,
            localhost_node_ports: config.iptables.localhost_node_ports?,
            nftables_localhost_node_ports: flags.nftables.nftables_localhost_nodeports,
            iptables_variant: flags.iptables.iptables_variant.unwrap_or_default(),
            trust: flags.safety.trust(),
            offload_after: flags.nftables.nftables_flowtable_threshold.and_then(NonZeroU32::new),
            ipvs: ipvs(config, &flags.ipvs),
            userspace: userspace(config, &flags.userspace),
            conntrack: conntrack(config),
            local_traffic: local_traffic(config)?,
            node_ports: node_ports(&config.node_port_addresses),
            oom_score_adj: config.oom_score_adj,
            logging: logging(config),
            feature_gates: FeatureGates::resolve(&config.feature_gates),
        })
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

fn source(config: &KubeProxyConfiguration, flags: &Flags) -> Source {
    let manifests = flags.general.manifests.as_ref();
    if let Some(path) = manifests.filter(|path| !path.as_os_str().is_empty()) {
        return Source::Manifests(path.clone());
    }
    let client = &config.client_connection;
    // 0 leaves the choice to the client, whose defaults these are.
    let qps = if client.qps == 0.0 { 5.0 } else { client.qps };
    let burst = u32::try_from(client.burst).ok().filter(|burst| *burst > 0).unwrap_or(10);
    Source::Kubernetes(KubernetesSource {
        kubeconfig: (!client.kubeconfig.is_empty()).then(|| client.kubeconfig.clone().into()),
        master: flags.kubernetes.master.clone().filter(|master| !master.is_empty()),
        accept_content_types: client.accept_content_types.clone(),
        content_type: client.content_type.clone(),
        qps,
        burst,
    })
}

fn ipvs(config: &KubeProxyConfiguration, flags: &IpvsFlags) -> IpvsSettings {
    /// Bits that no known network plugin and no part of Kubernetes uses: Cilium has `0x0f00`, the AWS VPC CNI `0x80`, Calico the upper half.
    const MARK_MASK: u32 = 0x107f;
    const DRAIN_TIMEOUT: Duration = Duration::from_hours(24);
    let ipvs = &config.ipvs;
    let scheduler = if ipvs.scheduler.is_empty() { "rr" } else { &ipvs.scheduler };
    IpvsSettings {
        scheduler: scheduler.to_owned(),
        exclude_cidrs: ipvs.exclude_cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).collect(),
        strict_arp: ipvs.strict_arp,
        tcp_timeout: unless_zero(ipvs.tcp_timeout),
        tcp_fin_timeout: unless_zero(ipvs.tcp_fin_timeout),
        udp_timeout: unless_zero(ipvs.udp_timeout),
        local_fallback: flags.ipvs_local_fallback.unwrap_or(false),
        mark_mask: flags.ipvs_mark_mask.map_or(MARK_MASK, |mask| mask.0),
        drain_timeout: flags
            .ipvs_graceful_termination_timeout
            .map_or(DRAIN_TIMEOUT, GoDuration::to_std),
    }
}

fn unless_zero(duration: GoDuration) -> Option<Duration> {
    let duration = duration.to_std();
    (!duration.is_zero()).then_some(duration)
}

fn userspace(config: &KubeProxyConfiguration, flags: &UserspaceFlags) -> UserspaceSettings {
    const UDP_TIMEOUT: Duration = Duration::from_millis(250);
    UserspaceSettings {
        port_range: userspace_ports::parse(&config.port_range).unwrap_or_default(),
        udp_timeout: unless_zero(config.udp_idle_timeout).unwrap_or(UDP_TIMEOUT),
        rest: flags.userspace_endpoint_rest.map(GoDuration::to_std).unwrap_or_default(),
    }
}

fn conntrack(config: &KubeProxyConfiguration) -> ConntrackSettings {
    let conntrack = &config.conntrack;
    let count = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    ConntrackSettings {
        max_per_core: Some(count(conntrack.max_per_core)).filter(|max| *max > 0),
        min: count(conntrack.min),
        tcp_established_timeout: conntrack.tcp_established_timeout.and_then(unless_zero),
        tcp_close_wait_timeout: conntrack.tcp_close_wait_timeout.and_then(unless_zero),
        udp_timeout: unless_zero(conntrack.udp_timeout),
        udp_stream_timeout: unless_zero(conntrack.udp_stream_timeout),
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
    let loopback = [
        IpNet::from(IpAddr::from(Ipv6Addr::LOCALHOST)),
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
    ];
    let everything: [IpNet; 2] = [
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    ];
    let mut node_ports = NodePorts { primary: false, within: Vec::new() };
    for address in addresses {
        match address.as_str() {
            PRIMARY => node_ports.primary = true,
            LOCALHOST => node_ports.within.extend(loopback),
            ALL => node_ports.within.extend(everything),
            cidr => node_ports.within.extend(parse_cidr(cidr)),
        }
    }
    node_ports
}

fn logging(config: &KubeProxyConfiguration) -> LoggingSettings {
    let logging = &config.logging;
    let json = logging.format == "json";
    let options: &OutputRouting = if json { &logging.options.json } else { &logging.options.text };
    LoggingSettings {
        json,
        verbosity: logging.verbosity,
        vmodule: logging.vmodule.clone(),
        split_stream: options.split_stream,
    }
}
