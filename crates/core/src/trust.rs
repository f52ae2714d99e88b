//! Which addresses a Service or an endpoint may have: a rule for every source.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Which addresses objects may name. Anyone who may write a Service or an EndpointSlice could otherwise divert traffic of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Endpoints may be loopback, link-local, multicast and unspecified addresses. The API server refuses them in new objects
    /// (CVE-2021-25737), and so does this program unless told otherwise.
    pub special_endpoints: bool,
    /// Networks that external IPs have to be of (CVE-2020-8554); `None` allows all but special ones.
    pub external_ips: Option<Vec<IpNet>>,
}

impl Trust {
    /// Why an address cannot be an endpoint, if it cannot.
    pub fn endpoint(&self, address: &IpAddr) -> Option<String> {
        let kind = special(address).filter(|_| !self.special_endpoints)?;
        Some(format!("{kind}; ignored"))
    }

    /// Why an address cannot be an external IP, if it cannot.
    pub fn external_ip(&self, address: &IpAddr) -> Option<String> {
        if let Some(allowed) = &self.external_ips
            && !allowed.iter().any(|net| net.contains(address))
        {
            return Some("not in the networks that external IPs may be of; ignored".to_owned());
        }
        // Traffic to addresses of the link never comes from elsewhere; who allows it by a network wants it.
        let allowed = self.external_ips.is_some() && !address.is_unspecified();
        special(address).filter(|_| !allowed).map(|kind| format!("{kind}; ignored"))
    }

    /// Why an address cannot be a cluster IP or that of a load balancer, if it cannot. The cluster assigns these, not the user, and may do so
    /// from networks of the link.
    pub fn assigned(address: &IpAddr) -> Option<String> {
        special(address).filter(|_| !is_link_local(address)).map(|kind| format!("{kind}; ignored"))
    }
}

/// What an address is that means something else on each node, or on none.
fn special(address: &IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if is_link_local(address) {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if *address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("the broadcast address")
    } else {
        None
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
