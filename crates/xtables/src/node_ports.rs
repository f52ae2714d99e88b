//! Where NodePort traffic arrives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use kube_proxy_core::{IpFamily, NodePortAddresses};

/// The words that match destinations which take NodePort traffic if they are the node's own, one element for each rule.
///
/// The kernel is asked which addresses those are, packet by packet, so addresses that come and go are right at once.
pub fn node_port_destinations(
    family: IpFamily,
    addresses: &NodePortAddresses,
    with_loopback: bool,
) -> Vec<String> {
    let loopback = loopback(family);
    match addresses {
        NodePortAddresses::All if with_loopback => vec![String::new()],
        NodePortAddresses::All => vec![format!("! -d {loopback}")],
        NodePortAddresses::Within(nets) => nets
            .iter()
            .map(IpNet::trunc)
            .flat_map(|net| if with_loopback { vec![net] } else { without(net, loopback) })
            .map(|net| format!("-d {net}"))
            .collect(),
    }
}

/// The loopback network of a family.
fn loopback(family: IpFamily) -> IpNet {
    match family {
        IpFamily::V4 => {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 is at most 32"))
        }
        IpFamily::V6 => IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    }
}

/// What is left of `net` without `hole`: nothing, the whole, or the halves beside the hole at every step down to it.
fn without(net: IpNet, hole: IpNet) -> Vec<IpNet> {
    if hole.contains(&net) {
        return Vec::new();
    }
    if !net.contains(&hole) {
        return vec![net];
    }
    net.subnets(net.prefix_len() + 1)
        .map(|halves| halves.flat_map(|half| without(half, hole)).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
