//! This node: its addresses, its connection tracking, its servers, and what objects may do to it.

use clap::value_parser;
use ipnet::IpNet;
use kube_proxy_core::{Algorithm, NoLocalEndpoints, Trust, ZoneSpill};

use super::table::flags;
use super::values::{self, Whole};
use crate::duration::GoDuration;

flags! {
    /// Addresses, networks and interfaces of this node.
    pub struct NodeFlags in "Node ports and local traffic" {
        /// Networks whose local addresses take NodePort traffic, and the words primary (the node's own addresses), localhost and all
        #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
        nodeport_addresses: Vec<String> = "all; nftables: primary" => Field("nodePortAddresses"),
        /// How traffic of local pods is recognised: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix
        #[arg(long, value_name = "MODE")]
        detect_local_mode: Option<String> = "ClusterCIDR" => Field("detectLocalMode"),
        /// Network of the pods, one of each family at most, for ClusterCIDR
        #[arg(long, value_name = "CIDR[,CIDR]")]
        cluster_cidr: Option<String> => Field("clusterCIDR"),
        /// Bridge of the local pods, for BridgeInterface
        #[arg(long, value_name = "NAME")]
        pod_bridge_interface: Option<String> => Field("detectLocal.bridgeInterface"),
        /// How the names of the pods' interfaces start, for InterfaceNamePrefix
        #[arg(long, value_name = "PREFIX")]
        pod_interface_name_prefix: Option<String> => Field("detectLocal.interfaceNamePrefix"),
        /// Masquerades all traffic to cluster IPs, in whichever mode
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        masquerade_all: Option<bool> => FieldOfMode("iptables.masqueradeAll", "nftables.masqueradeAll"),
        /// External traffic under policy Local on a node without endpoints: drop, reject, or passthrough to wherever routes lead; an annotation of the Service goes before
        #[arg(long, value_name = "ACTION", value_parser = values::no_local_endpoints)]
        no_local_endpoints: Option<NoLocalEndpoints> = "drop" => FlagOnly added,
        /// How an endpoint is chosen: random, source-hash, maglev or least-connections, where the mode has it; an annotation of the Service goes before
        #[arg(long, value_name = "ALGORITHM", value_parser = values::lb_algorithm)]
        lb_algorithm: Option<Algorithm> = "random" => FlagOnly added,
        /// Endpoints of other zones join those that zone hints name for this node's zone while fewer than this number or percentage of the ready ones are there, 0 for never; an annotation of the Service goes before
        #[arg(long, value_name = "N|N%", value_parser = values::zone_spill)]
        zone_spill_below: Option<ZoneSpill> = "0" => FlagOnly added,
    }
}

flags! {
    /// Which addresses objects may name.
    pub struct SafetyFlags in "Safety" {
        /// Endpoints may be loopback, link-local, multicast and unspecified addresses, which are ignored otherwise
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        allow_special_endpoints: Option<bool> = "false" => FlagOnly added,
        /// Networks that external IPs of Services have to be of; empty for none
        #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = values::network)]
        external_ip_cidrs: Vec<Option<IpNet>> = "all, but no loopback, link-local, multicast or unspecified addresses" => FlagOnly added,
    }
}

flags! {
    /// Connection tracking of the kernel.
    pub struct ConntrackFlags in "conntrack" {
        /// Tracked connections per CPU core, 0 leaves the limit alone
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(i32)))]
        conntrack_max_per_core: Option<i32> = "32768" => Field("conntrack.maxPerCore"),
        /// Least number of tracked connections, whatever the cores
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(i32)))]
        conntrack_min: Option<i32> = "131072" => Field("conntrack.min"),
        /// Timeout of idle TCP connections, 0 leaves it alone
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        conntrack_tcp_timeout_established: Option<GoDuration> = "24h" => Field("conntrack.tcpEstablishedTimeout"),
        /// Timeout of TCP connections in CLOSE_WAIT, 0 leaves it alone
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        conntrack_tcp_timeout_close_wait: Option<GoDuration> = "1h" => Field("conntrack.tcpCloseWaitTimeout"),
        /// Accepts TCP packets outside the window
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        conntrack_tcp_be_liberal: Option<bool> => Field("conntrack.tcpBeLiberal"),
        /// Timeout of unreplied UDP flows, 0 leaves it alone
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        conntrack_udp_timeout: Option<GoDuration> => Field("conntrack.udpTimeout"),
        /// Timeout of replied UDP flows, 0 leaves it alone
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        conntrack_udp_timeout_stream: Option<GoDuration> => Field("conntrack.udpStreamTimeout"),
    }
}

flags! {
    /// The health and metrics servers.
    pub struct HealthFlags in "Health and metrics" {
        /// Address of the health server, empty for none
        #[arg(long, value_name = "IP:PORT")]
        healthz_bind_address: Option<String> = "every address, port 10256" => Field("healthzBindAddress"),
        /// Address of the metrics server, empty for none
        #[arg(long, value_name = "IP:PORT")]
        metrics_bind_address: Option<String> = "loopback, port 10249" => Field("metricsBindAddress"),
        /// Ends the process when one of these ports cannot be opened, instead of retrying
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        bind_address_hard_fail: Option<bool> => Field("bindAddressHardFail"),
        /// Makes /healthz fail (not /livez) when the API server has not answered for this long, 0 for never; an idle one answers about every minute
        #[arg(long, value_name = "DURATION", value_parser = values::not_negative)]
        healthz_stale_after: Option<GoDuration> = "0" => FlagOnly added,
        /// Serves profiles under /debug/pprof on the metrics address
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        profiling: Option<bool> => Field("enableProfiling"),
        /// Serves pages about Services under /debug on the metrics address, which the commands explain, services and endpoints read
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        debug_pages: Option<bool> = "true" => FlagOnly added,
        /// Shows metrics that were hidden since this, the previous, minor version
        #[arg(long, value_name = "X.Y")]
        show_hidden_metrics_for_version: Option<String> => Field("showHiddenMetricsForVersion"),
        /// Service ports of each IP family with traffic metrics of their own, the rest is summed up; 0 for none
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(u32)))]
        service_metrics_limit: Option<u32> = "100" => FlagOnly added,
    }
}

impl SafetyFlags {
    /// Which addresses objects may name.
    pub(crate) fn trust(&self) -> Trust {
        let cidrs = &self.external_ip_cidrs;
        Trust {
            special_endpoints: self.allow_special_endpoints.unwrap_or(false),
            external_ips: (!cidrs.is_empty()).then(|| cidrs.iter().flatten().copied().collect()),
        }
    }
}

#[cfg(test)]
mod tests;
