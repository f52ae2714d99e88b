//! Which addresses are used where.
//!
//! Networks meant for documentation stand for load-balancer VIPs and external IPs, which the
//! outside client reaches through a node of its choice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kube_proxy_core::PerFamily;

/// Largest number of nodes in a cluster.
pub const MAX_NODES: u8 = 200;

/// Address of the client outside, as host number on the fabric.
const CLIENT: u8 = 250;

/// Cluster IPs are taken from here: `10.96.0.0/16` and `fd00:10:96::/112`.
pub fn service_net() -> PerFamily<IpNet> {
    nets(Ipv4Addr::new(10, 96, 0, 0), 16, Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112)
}

/// Load-balancer VIPs: `203.0.113.0/24` (RFC 5737) and `2001:db8:203::/64` (RFC 3849).
pub fn load_balancer_net() -> PerFamily<IpNet> {
    nets(Ipv4Addr::new(203, 0, 113, 0), 24, Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0), 64)
}

/// External IPs: `198.51.100.0/24` (RFC 5737) and `2001:db8:198::/64` (RFC 3849).
pub fn external_net() -> PerFamily<IpNet> {
    nets(Ipv4Addr::new(198, 51, 100, 0), 24, Ipv6Addr::new(0x2001, 0xdb8, 0x198, 0, 0, 0, 0, 0), 64)
}

/// The link that nodes and client share: `172.18.0.0/24` and `fd00:18::/64`.
pub fn fabric_net() -> PerFamily<IpNet> {
    nets(Ipv4Addr::new(172, 18, 0, 0), 24, Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 0), 64)
}

/// The fabric's own addresses, default gateway of nodes and client.
pub fn fabric_gateway() -> PerFamily<IpAddr> {
    on_fabric(1)
}

/// Addresses of a node.
pub fn node(index: u8) -> PerFamily<IpAddr> {
    // At most MAX_NODES, so that the host number stays below the client's.
    on_fabric(10 + index)
}

/// Addresses of the client outside.
pub fn client() -> PerFamily<IpAddr> {
    on_fabric(CLIENT)
}

/// Pod networks of a node: `10.244.N.0/24` and `fd00:10:244:N::/64`.
pub fn pod_net(node: u8) -> PerFamily<IpNet> {
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, 0);
    nets(Ipv4Addr::new(10, 244, node, 0), 24, v6, 64)
}

/// The pod networks of all nodes together, the cluster CIDRs: `10.244.0.0/16`, `fd00:10:244::/48`.
pub fn cluster_net() -> PerFamily<IpNet> {
    nets(Ipv4Addr::new(10, 244, 0, 0), 16, Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0), 48)
}

/// Addresses of a pod, or with host number 1 of the node towards its pods.
pub fn pod(node: u8, host: u8) -> PerFamily<IpAddr> {
    PerFamily {
        v4: Ipv4Addr::new(10, 244, node, host).into(),
        v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, node.into(), 0, 0, 0, host.into()).into(),
    }
}

/// Link-layer address of a pod or, with host number 1, of its node's bridge.
///
/// It follows from the address, so that a pod that gets a former pod's address is reached at once,
/// and a bridge does not change its own with the pods attached to it.
pub(crate) fn link_address(node: u8, host: u8) -> String {
    format!("0a:58:0a:f4:{node:02x}:{host:02x}")
}

fn on_fabric(host: u8) -> PerFamily<IpAddr> {
    PerFamily {
        v4: Ipv4Addr::new(172, 18, 0, host).into(),
        v6: Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

fn nets(v4: Ipv4Addr, v4_len: u8, v6: Ipv6Addr, v6_len: u8) -> PerFamily<IpNet> {
    PerFamily {
        v4: Ipv4Net::new_assert(v4, v4_len).into(),
        v6: Ipv6Net::new_assert(v6, v6_len).into(),
    }
}
