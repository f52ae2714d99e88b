//! `KubeProxyConfiguration` of `kubeproxy.config.k8s.io/v1alpha1`, field by field.
//!
//! Field names and units are those of the Kubernetes API reference.
//! An `Option` is a field where unset and zero differ; everywhere else zero (or empty) in a file means unset.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::duration::{GoDuration, text_or_nanoseconds};
use super::quantity::Quantity;

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
/// The `kind` of the object.
pub const KIND: &str = "KubeProxyConfiguration";

/// The configuration object, with every default filled in once it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct KubeProxyConfiguration {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Address whose family is the primary one, and the node's address unless unspecified.
    pub bind_address: String,
    /// A port that cannot be opened ends the process.
    pub bind_address_hard_fail: bool,
    /// How to talk to the API server.
    pub client_connection: ClientConnection,
    /// Networks of the pods, comma-separated.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// Period of the full re-read of what the API server sent.
    pub config_sync_period: GoDuration,
    /// Kernel connection tracking settings.
    pub conntrack: Conntrack,
    /// Parameters of `detect_local_mode`.
    pub detect_local: DetectLocal,
    /// How traffic of local pods is recognised.
    pub detect_local_mode: String,
    /// Serves profiles on the metrics address.
    pub enable_profiling: bool,
    /// Feature gates, name to state.
    pub feature_gates: BTreeMap<String, bool>,
    /// Address and port of the health server.
    pub healthz_bind_address: String,
    /// Node name, instead of the host name.
    pub hostname_override: String,
    /// Settings of the iptables mode.
    pub iptables: Iptables,
    /// Settings of the ipvs mode.
    pub ipvs: Ipvs,
    /// Always [`KIND`].
    pub kind: String,
    /// Logging settings.
    pub logging: Logging,
    /// Address and port of the metrics server.
    pub metrics_bind_address: String,
    /// Proxy mode.
    pub mode: String,
    /// Settings of the nftables mode.
    pub nftables: Nftables,
    /// Networks whose local addresses take NodePort traffic, or `primary`.
    pub node_port_addresses: Vec<String>,
    /// OOM score adjustment of the process, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Local ports of the userspace mode, `first-last`.
    pub port_range: String,
    /// Shows metrics hidden since this previous minor version.
    pub show_hidden_metrics_for_version: String,
    /// Idle time of a UDP association in userspace mode.
    /// The field was dropped from the API together with that mode; it is read here, and written only if set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub udp_idle_timeout: GoDuration,
    /// Windows only, unused.
    pub windows_run_as_service: bool,
    /// Windows only, unused.
    pub winkernel: Winkernel,
}

/// `clientConnection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct ClientConnection {
    /// `Accept` header.
    pub accept_content_types: String,
    /// Requests that may exceed `qps` at once.
    pub burst: i32,
    /// `Content-Type` header.
    pub content_type: String,
    /// Path of a kubeconfig file.
    pub kubeconfig: String,
    /// Requests per second; negative means no limit.
    pub qps: f32,
}

/// `conntrack`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Conntrack {
    /// Connections per CPU core; 0 leaves the kernel's limit alone.
    pub max_per_core: Option<i32>,
    /// Least number of connections.
    pub min: Option<i32>,
    /// Accepts TCP packets outside the window.
    pub tcp_be_liberal: bool,
    /// Timeout in `CLOSE_WAIT`; 0 leaves it alone.
    pub tcp_close_wait_timeout: Option<GoDuration>,
    /// Timeout of an idle established connection; 0 leaves it alone.
    pub tcp_established_timeout: Option<GoDuration>,
    /// Timeout of a UDP stream; 0 leaves it alone.
    pub udp_stream_timeout: GoDuration,
    /// Timeout of an unreplied UDP flow; 0 leaves it alone.
    pub udp_timeout: GoDuration,
}

/// `detectLocal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct DetectLocal {
    /// Bridge of the local pods.
    pub bridge_interface: String,
    /// How the names of the pods' interfaces start.
    pub interface_name_prefix: String,
}

/// `iptables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Iptables {
    /// NodePorts on loopback addresses.
    pub localhost_node_ports: Option<bool>,
    /// Masquerades all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: Option<i32>,
    /// Least time between two syncs.
    pub min_sync_period: GoDuration,
    /// Retry interval, and period of the checks for damage.
    pub sync_period: GoDuration,
}

/// `ipvs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Ipvs {
    /// Networks whose virtual servers are left alone.
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    /// Least time between two syncs.
    pub min_sync_period: GoDuration,
    /// Scheduler of the virtual servers.
    pub scheduler: String,
    /// Answers ARP only for addresses of the interface asked.
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    /// Period of the full sync.
    pub sync_period: GoDuration,
    /// Timeout after FIN; 0 keeps the kernel's.
    pub tcp_fin_timeout: GoDuration,
    /// Timeout of idle TCP connections; 0 keeps the kernel's.
    pub tcp_timeout: GoDuration,
    /// Timeout of UDP flows; 0 keeps the kernel's.
    pub udp_timeout: GoDuration,
}

/// `nftables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Nftables {
    /// Masquerades all traffic to cluster IPs.
    pub masquerade_all: bool,
    /// Bit of the packet mark that asks for masquerading, 0 to 31.
    pub masquerade_bit: Option<i32>,
    /// Least time between two syncs.
    pub min_sync_period: GoDuration,
    /// Retry interval.
    pub sync_period: GoDuration,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct Logging {
    /// Longest time a line is buffered.
    #[serde(deserialize_with = "text_or_nanoseconds")]
    pub flush_frequency: GoDuration,
    /// `text` or `json`.
    pub format: String,
    /// Settings of each format.
    pub options: FormatOptions,
    /// Verbosity, 0 is least.
    pub verbosity: u32,
    /// Verbosity by source file.
    pub vmodule: Vec<VModule>,
}

/// `logging.options`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct FormatOptions {
    /// Of format `json`.
    pub json: OutputRouting,
    /// Of format `text`.
    pub text: OutputRouting,
}

/// `logging.options.text` and `.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct OutputRouting {
    /// Buffer of the standard output if split, in bytes.
    pub info_buffer_size: Quantity,
    /// Errors to standard error, the rest to standard output.
    pub split_stream: bool,
}

/// An entry of `logging.vmodule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
pub struct VModule {
    /// Source file name without its extension; may hold `*` and `?`.
    #[serde(default)]
    pub file_pattern: String,
    /// Verbosity in these files.
    #[serde(default)]
    pub verbosity: u32,
}

/// `winkernel`: read and written, without effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
#[expect(missing_docs, reason = "Windows settings that this program does not use")]
pub struct Winkernel {
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub forward_health_check_vip: bool,
    pub network_name: String,
    pub root_hns_endpoint_name: String,
    pub source_vip: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
fn is_zero(duration: &GoDuration) -> bool {
    *duration == GoDuration::ZERO
}

impl Default for KubeProxyConfiguration {
    /// The documented defaults, before those that depend on the mode, the address family and the platform.
    fn default() -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            bind_address: "0.0.0.0".to_owned(),
            bind_address_hard_fail: false,
            client_connection: ClientConnection {
                burst: 10,
                content_type: "application/vnd.kubernetes.protobuf".to_owned(),
                qps: 5.0,
                ..ClientConnection::default()
            },
            cluster_cidr: String::new(),
            config_sync_period: GoDuration::from_secs(15 * 60),
            conntrack: Conntrack {
                max_per_core: Some(32 * 1024),
                min: Some(128 * 1024),
                tcp_close_wait_timeout: Some(GoDuration::from_secs(3600)),
                tcp_established_timeout: Some(GoDuration::from_secs(24 * 3600)),
                ..Conntrack::default()
            },
            detect_local: DetectLocal::default(),
            detect_local_mode: "ClusterCIDR".to_owned(),
            enable_profiling: false,
            feature_gates: BTreeMap::new(),
            healthz_bind_address: "0.0.0.0:10256".to_owned(),
            hostname_override: String::new(),
            iptables: Iptables {
                localhost_node_ports: Some(true),
                masquerade_bit: Some(14),
                masquerade_all: false,
                min_sync_period: GoDuration::from_secs(1),
                sync_period: GoDuration::from_secs(30),
            },
            ipvs: Ipvs { sync_period: GoDuration::from_secs(30), ..Ipvs::default() },
            logging: Logging {
                flush_frequency: GoDuration::from_secs(5),
                format: "text".to_owned(),
                ..Logging::default()
            },
            metrics_bind_address: "127.0.0.1:10249".to_owned(),
            mode: "iptables".to_owned(),
            nftables: Nftables {
                masquerade_all: false,
                masquerade_bit: Some(14),
                min_sync_period: GoDuration::from_secs(1),
                sync_period: GoDuration::from_secs(30),
            },
            node_port_addresses: Vec::new(),
            oom_score_adj: Some(-999),
            port_range: String::new(),
            show_hidden_metrics_for_version: String::new(),
            udp_idle_timeout: GoDuration::ZERO,
            windows_run_as_service: false,
            winkernel: Winkernel::default(),
        }
    }
}
