//! Flags of one mode each, as far as that is so.

use clap::value_parser;

use super::table::flags;
use super::values::{self, IptablesVariant, MarkMask, Whole};
use crate::duration::GoDuration;

flags! {
    /// The iptables mode.
    pub struct IptablesFlags in "iptables" {
        /// Which iptables to use
        #[arg(long, value_enum, value_name = "VARIANT")]
        iptables_variant: Option<IptablesVariant> = "auto" => FlagOnly added,
        /// Bit of the packet mark that asks for masquerading, 0 to 31; also for ipvs
        #[arg(long, value_name = "N", value_parser = Whole(value_parser!(i32)))]
        iptables_masquerade_bit: Option<i32> = "14" => Field("iptables.masqueradeBit"),
        /// NodePorts on 127.0.0.0/8
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        iptables_localhost_nodeports: Option<bool> = "true" => Field("iptables.localhostNodePorts"),
        /// Longest time until a failed sync is retried and damage is repaired; every mode but ipvs
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        iptables_sync_period: Option<GoDuration> = "30s" => FieldOfMode("iptables.syncPeriod", "nftables.syncPeriod"),
        /// Least time between two syncs, 0 for none; every mode but ipvs
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        iptables_min_sync_period: Option<GoDuration> = "1s" => FieldOfMode("iptables.minSyncPeriod", "nftables.minSyncPeriod"),
    }
}

flags! {
    /// The ipvs mode.
    pub struct IpvsFlags in "ipvs" {
        /// Scheduler of the virtual servers, such as rr, lc or sh
        #[arg(long, value_name = "NAME")]
        ipvs_scheduler: Option<String> = "rr" => Field("ipvs.scheduler"),
        /// Networks whose virtual servers are left alone
        #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
        ipvs_exclude_cidrs: Vec<String> => Field("ipvs.excludeCIDRs"),
        /// Answers ARP only for addresses of the interface asked
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        ipvs_strict_arp: Option<bool> => Field("ipvs.strictARP"),
        /// Timeout of idle TCP connections, 0 keeps the kernel's
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_tcp_timeout: Option<GoDuration> => Field("ipvs.tcpTimeout"),
        /// Timeout of TCP connections after FIN, 0 keeps the kernel's
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_tcpfin_timeout: Option<GoDuration> => Field("ipvs.tcpFinTimeout"),
        /// Timeout of UDP flows, 0 keeps the kernel's
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_udp_timeout: Option<GoDuration> => Field("ipvs.udpTimeout"),
        /// Period of the full sync
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_sync_period: Option<GoDuration> = "30s" => Field("ipvs.syncPeriod"),
        /// Least time between two syncs, 0 for none
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_min_sync_period: Option<GoDuration> = "1s" => Field("ipvs.minSyncPeriod"),
        /// With a Local traffic policy and no local endpoint, uses the endpoints of other nodes instead of dropping
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        ipvs_local_fallback: Option<bool> => FlagOnly added,
        /// Bits of the packet mark that lead clients on this node to all endpoints under external policy Local, 0 for none
        #[arg(long, value_name = "MASK", value_parser = values::mark_mask)]
        ipvs_mark_mask: Option<MarkMask> = "0x107f" => FlagOnly added,
        /// Longest time that TCP connections of an endpoint that goes may continue, 0 for no limit
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        ipvs_graceful_termination_timeout: Option<GoDuration> = "24h" => FlagOnly added,
    }
}

flags! {
    /// The nftables mode.
    pub struct NftablesFlags in "nftables" {
        /// Forwarded connections to services with more packets than this pass by the rules in a flowtable, 0 for none; needs the kernel modules nf_flow_table and nft_flow_offload
        #[arg(long, value_name = "PACKETS", value_parser = Whole(value_parser!(u32)))]
        nftables_flowtable_threshold: Option<u32> = "0" => FlagOnly added,
        /// NodePorts on the loopback addresses, TCP and UDP, copied by this process
        #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
        nftables_localhost_nodeports: Option<bool> = "where nodePortAddresses names a loopback network" => FlagOnly added,
    }
}

flags! {
    /// The userspace mode.
    pub struct UserspaceFlags in "userspace" {
        /// Ports to listen on: 30000-30999, or 30000+999
        #[arg(long, value_name = "FIRST-LAST")]
        proxy_port_range: Option<String> = "any" => FieldBesideFile("portRange") added,
        /// Idle time after which a UDP association is dropped
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        udp_timeout: Option<GoDuration> = "250ms" => FieldBesideFile("udpIdleTimeout") added,
        /// How long an endpoint that cannot be reached gets no connections while others can, 0 to keep trying
        #[arg(long, value_name = "DURATION", value_parser = values::duration)]
        userspace_endpoint_rest: Option<GoDuration> = "0" => FlagOnly added,
    }
}
