//! The flags themselves, in the order of `--help`.
//!
//! Defaults are written in the help texts only: what a flag that is not given means is decided by the configuration.

use std::path::PathBuf;

use clap::Args;

use super::values::{self, CompletionShell, IptablesVariant, VersionFormat};
use crate::config::duration::GoDuration;
use crate::config::quantity::Quantity;
use crate::config::types::VModule;

/// What to do and where settings come from.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct GeneralFlags {
    /// Configuration file (KubeProxyConfiguration, YAML or JSON); replaces the flags it covers
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Writes the effective configuration as YAML to this file and exits
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<PathBuf>,
    /// iptables, ipvs, nftables or userspace [default: iptables]
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    /// Reads Services, EndpointSlices and Nodes from this file or directory, and follows its changes, instead of asking an API server
    #[arg(long, value_name = "PATH")]
    pub manifests: Option<PathBuf>,
    /// Node name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The node's address; its family is the primary one. Unspecified (0.0.0.0 or ::) takes the address of the Node object, in that family [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<String>,
    /// Turns features on or off
    #[arg(long, value_name = "NAME=BOOL,...", value_delimiter = ',', value_parser = values::feature_gate)]
    pub feature_gates: Vec<Option<(String, bool)>>,
    /// OOM score adjustment of this process, -1000 to 1000 [default: -999]
    #[arg(long, value_name = "N")]
    pub oom_score_adj: Option<i32>,
    /// Sets the connection tracking limits, which needs full privileges, then exits
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub init_only: Option<bool>,
    /// Removes everything that any mode has put on the node, then exits
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub cleanup: Option<bool>,
    /// Prints a completion script for this shell and exits
    #[arg(long, value_enum, value_name = "SHELL")]
    pub completion: Option<CompletionShell>,
    /// Prints the manual page (roff) and exits
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub man: Option<bool>,
    /// Prints the version and exits
    #[arg(long, value_name = "BOOL|raw", value_parser = values::version)]
    pub version: Option<VersionFormat>,
    /// Prints this text and exits
    #[arg(long, short = 'h', action = clap::ArgAction::HelpShort)]
    pub help: Option<bool>,
}

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct KubernetesFlags {
    /// Kubeconfig file; without it and --master, the service account of the pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// Address of the API server, overrides that of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Content type of requests [default: application/vnd.kubernetes.protobuf]
    #[arg(long, value_name = "TYPE")]
    pub kube_api_content_type: Option<String>,
    /// Requests per second [default: 5]
    #[arg(long, value_name = "N")]
    pub kube_api_qps: Option<f32>,
    /// Requests that may exceed the rate at once [default: 10]
    #[arg(long, value_name = "N")]
    pub kube_api_burst: Option<i32>,
    /// Accepted, without effect: nothing is re-read without a reason [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub config_sync_period: Option<GoDuration>,
}

/// Addresses, networks and interfaces of this node.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct NodeFlags {
    /// Networks whose local addresses take NodePort traffic, or primary for the node's own addresses [default: all; nftables: primary]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    /// How traffic of local pods is recognised: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix [default: ClusterCIDR]
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    /// Network of the pods, one of each family at most, for ClusterCIDR
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub cluster_cidr: Option<String>,
    /// Bridge of the local pods, for BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// How the names of the pods' interfaces start, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// Masquerades all traffic to cluster IPs, in whichever mode
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub masquerade_all: Option<bool>,
}

/// The iptables mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct IptablesFlags {
    /// Which iptables to use [default: auto]
    #[arg(long, value_enum, value_name = "VARIANT")]
    pub iptables_variant: Option<IptablesVariant>,
    /// Bit of the packet mark that asks for masquerading, 0 to 31; also for ipvs [default: 14]
    #[arg(long, value_name = "N")]
    pub iptables_masquerade_bit: Option<i32>,
    /// NodePorts on 127.0.0.0/8 [default: true]
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub iptables_localhost_nodeports: Option<bool>,
    /// Longest time until a failed sync is retried and damage is repaired; every mode but ipvs [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub iptables_sync_period: Option<GoDuration>,
    /// Least time between two syncs, 0 for none; every mode but ipvs [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub iptables_min_sync_period: Option<GoDuration>,
}

/// The ipvs mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct IpvsFlags {
    /// Scheduler of the virtual servers, such as rr, lc or sh [default: rr]
    #[arg(long, value_name = "NAME")]
    pub ipvs_scheduler: Option<String>,
    /// Networks whose virtual servers are left alone
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub ipvs_exclude_cidrs: Vec<String>,
    /// Answers ARP only for addresses of the interface asked
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub ipvs_strict_arp: Option<bool>,
    /// Timeout of idle TCP connections, 0 keeps the kernel's
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_tcp_timeout: Option<GoDuration>,
    /// Timeout of TCP connections after FIN, 0 keeps the kernel's
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_tcpfin_timeout: Option<GoDuration>,
    /// Timeout of UDP flows, 0 keeps the kernel's
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_udp_timeout: Option<GoDuration>,
    /// Period of the full sync [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_sync_period: Option<GoDuration>,
    /// Least time between two syncs, 0 for none [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_min_sync_period: Option<GoDuration>,
    /// With a Local traffic policy and no local endpoint, uses the endpoints of other nodes instead of dropping
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub ipvs_local_fallback: Option<bool>,
    /// Longest time that TCP connections of an endpoint that goes may go on, 0 for ever [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub ipvs_graceful_termination_timeout: Option<GoDuration>,
}

/// The nftables mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct NftablesFlags {
    /// Forwarded connections to services with more packets than this pass by the rules in a flowtable, 0 for none; needs the kernel modules nf_flow_table and nft_flow_offload [default: 0]
    #[arg(long, value_name = "PACKETS")]
    pub nftables_flowtable_threshold: Option<u32>,
    /// NodePorts on the loopback address, TCP and UDP, copied by this process
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub nftables_localhost_nodeports: Option<bool>,
}

/// The userspace mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct UserspaceFlags {
    /// Ports to listen on: 30000-30999, or 30000+999 [default: any]
    #[arg(long, value_name = "FIRST-LAST")]
    pub proxy_port_range: Option<String>,
    /// Idle time after which a UDP association is dropped [default: 250ms]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub udp_timeout: Option<GoDuration>,
    /// How long an endpoint that cannot be reached gets no connections while others can, 0 to go on trying [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub userspace_endpoint_rest: Option<GoDuration>,
}

/// Connection tracking of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct ConntrackFlags {
    /// Tracked connections per CPU core, 0 leaves the limit alone [default: 32768]
    #[arg(long, value_name = "N")]
    pub conntrack_max_per_core: Option<i32>,
    /// Least number of tracked connections, whatever the cores [default: 131072]
    #[arg(long, value_name = "N")]
    pub conntrack_min: Option<i32>,
    /// Timeout of idle TCP connections, 0 leaves it alone [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,
    /// Timeout of TCP connections in CLOSE_WAIT, 0 leaves it alone [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,
    /// Accepts TCP packets outside the window
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub conntrack_tcp_be_liberal: Option<bool>,
    /// Timeout of unreplied UDP flows, 0 leaves it alone
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub conntrack_udp_timeout: Option<GoDuration>,
    /// Timeout of replied UDP flows, 0 leaves it alone
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,
}

/// The health and metrics servers.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct HealthFlags {
    /// Address of the health server, empty for none [default: every address, port 10256]
    #[arg(long, value_name = "IP:PORT")]
    pub healthz_bind_address: Option<String>,
    /// Address of the metrics server, empty for none [default: loopback, port 10249]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_bind_address: Option<String>,
    /// Ends the process when one of these ports cannot be opened, instead of retrying
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub bind_address_hard_fail: Option<bool>,
    /// Makes /healthz fail (not /livez) when the API server was not heard of for so long, 0 for never; an idle one is heard of about every minute [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = values::not_negative)]
    pub healthz_stale_after: Option<GoDuration>,
    /// Serves profiles under /debug/pprof on the metrics address
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub profiling: Option<bool>,
    /// Shows metrics that were hidden since this, the previous, minor version
    #[arg(long, value_name = "X.Y")]
    pub show_hidden_metrics_for_version: Option<String>,
    /// Service ports of each IP family with traffic metrics of their own, the rest is summed up; 0 for none [default: 100]
    #[arg(long, value_name = "N")]
    pub service_metrics_limit: Option<u32>,
}

/// Logging.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct LoggingFlags {
    /// Verbosity: 0 least, 2 usual, 4 debugging, 6 everything [default: 0]
    #[arg(long, short = 'v', value_name = "N")]
    pub v: Option<u32>,
    /// Verbosity by module, text format only
    #[arg(long, value_name = "PATTERN=N,...", value_delimiter = ',', value_parser = values::vmodule)]
    pub vmodule: Vec<Option<VModule>>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,
    /// Longest time a line is buffered [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub log_flush_frequency: Option<GoDuration>,
    /// Text format: errors to standard error, the rest to standard output
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub log_text_split_stream: Option<bool>,
    /// Text format: buffer of the standard output when split
    #[arg(long, value_name = "SIZE")]
    pub log_text_info_buffer_size: Option<Quantity>,
    /// JSON format: errors to standard error, the rest to standard output
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub log_json_split_stream: Option<bool>,
    /// JSON format: buffer of the standard output when split
    #[arg(long, value_name = "SIZE")]
    pub log_json_info_buffer_size: Option<Quantity>,
}

/// Flags that newer ones replace, and those that never did anything here.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct DeprecatedFlags {
    /// Port of the health server, 0 for none; use --healthz-bind-address
    #[arg(long, value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Port of the metrics server, 0 for none; use --metrics-bind-address
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// Accepted, without effect
    #[arg(long, value_name = "FILES", hide = true)]
    pub boot_id_file: Option<String>,
    /// Accepted, without effect
    #[arg(long, value_name = "FILES", hide = true)]
    pub machine_id_file: Option<String>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub add_dir_header: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub alsologtostderr: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "FILE:LINE", hide = true)]
    pub log_backtrace_at: Option<String>,
    /// Accepted, without effect
    #[arg(long, value_name = "DIR", hide = true)]
    pub log_dir: Option<String>,
    /// Accepted, without effect
    #[arg(long, value_name = "FILE", hide = true)]
    pub log_file: Option<String>,
    /// Accepted, without effect
    #[arg(long, value_name = "MB", hide = true)]
    pub log_file_max_size: Option<u64>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub logtostderr: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub one_output: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub skip_headers: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", value_parser = values::boolean, hide = true)]
    pub skip_log_headers: Option<bool>,
    /// Accepted, without effect
    #[arg(long, value_name = "SEVERITY", hide = true)]
    pub stderrthreshold: Option<String>,
}

impl DeprecatedFlags {
    /// Those given that would have changed where log lines go or what they look like.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        [
            ("--add-dir-header", self.add_dir_header == Some(true)),
            ("--log-backtrace-at", self.log_backtrace_at.is_some()),
            ("--log-dir", self.log_dir.is_some()),
            ("--log-file", self.log_file.is_some()),
            ("--skip-headers", self.skip_headers == Some(true)),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// Those given that another flag replaces, with that flag.
    pub(crate) fn replaced(&self) -> Vec<(&'static str, &'static str)> {
        [
            ("--healthz-port", "--healthz-bind-address", self.healthz_port.is_some()),
            ("--metrics-port", "--metrics-bind-address", self.metrics_port.is_some()),
        ]
        .into_iter()
        .filter_map(|(old, new, given)| given.then_some((old, new)))
        .collect()
    }
}
