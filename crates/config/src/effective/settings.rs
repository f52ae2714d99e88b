//! The parts of the effective configuration.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::types::VModule;

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
    /// Bits of packet marks by which clients on the node reach every endpoint; 0 for none.
    pub mark_mask: u32,
    /// How long connections of an endpoint that goes may continue; zero for no limit.
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
pub struct NodePorts {
    /// The node's own address of each family.
    pub primary: bool,
    /// Local addresses within these networks; without `primary`, no network of a family means all of that family.
    pub within: Vec<IpNet>,
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
    /// Errors to standard error, the rest to standard output.
    pub split_stream: bool,
}
