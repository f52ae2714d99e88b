//! Which of the node's addresses take NodePort traffic (`nodePortAddresses`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::IpFamily;

/// The addresses of one family that take NodePort traffic, always among those that are local to the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every local address.
    All,
    /// Local addresses within one of these networks. An empty list means none at all.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// What a list of networks means for one family: no network of that family, or one that holds every address, means all.
    pub fn from_cidrs(family: IpFamily, cidrs: &[IpNet]) -> Self {
        let own: Vec<_> =
            cidrs.iter().copied().filter(|net| IpFamily::of_net(net) == family).collect();
        if own.is_empty() || own.iter().any(|net| net.prefix_len() == 0) {
            Self::All
        } else {
            Self::Within(own)
        }
    }

    /// What a list of networks with the keyword `primary` means for one family: those of that family and the primary address of the node.
    ///
    /// While that is not known, or not usable, the networks alone: an address that is missing opens nothing.
    pub fn with_primary(family: IpFamily, cidrs: &[IpNet], node_ip: Option<IpAddr>) -> Self {
        let usable = node_ip
            .filter(|ip| IpFamily::of(ip) == family && !ip.is_loopback() && !ip.is_unspecified());
        let listed = cidrs.iter().copied().filter(|net| IpFamily::of_net(net) == family);
        let mut own: Vec<_> = listed.chain(usable.map(IpNet::from)).collect();
        if own.iter().any(|net| net.prefix_len() == 0) {
            return Self::All;
        }
        let mut known = Vec::new();
        own.retain(|net| {
            !known.contains(net) && {
                known.push(*net);
                true
            }
        });
        Self::Within(own)
    }

    /// Whether NodePorts may be used on loopback addresses: the whole family is allowed, or a network that touches loopback is listed.
    pub fn contains_loopback(&self) -> bool {
        match self {
            Self::All => true,
            Self::Within(nets) => nets.iter().any(|net| match net {
                IpNet::V4(net) => {
                    net.contains(&std::net::Ipv4Addr::new(127, 0, 0, 0)) || net.addr().is_loopback()
                }
                IpNet::V6(net) => net.contains(&std::net::Ipv6Addr::LOCALHOST),
            }),
        }
    }

    /// Whether NodePorts are reachable on this (local) address.
    pub fn contains(&self, ip: &IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Within(nets) => nets.iter().any(|net| net.contains(ip)),
        }
    }
}
