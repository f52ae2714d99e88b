//! What normalising an object depends on besides the object.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::names::Names;

/// What all objects of a source are normalised with. Cloning gives another handle to the same strings.
#[derive(Clone, Debug, Default)]
pub struct Context {
    names: Names,
    trust: Trust,
}

/// Which addresses objects may name. Whoever may write a Service or an EndpointSlice could otherwise lead traffic of others astray.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Endpoints may be loopback, link-local, multicast and unspecified addresses. The API server refuses them in new objects
    /// (CVE-2021-25737), and so does this program unless told otherwise.
    pub special_endpoints: bool,
    /// Networks that external IPs have to be of (CVE-2020-8554); `None` allows all but special ones.
    pub external_ips: Option<Vec<IpNet>>,
}

impl Context {
    /// With other rules about addresses than the default ones.
    pub fn new(trust: Trust) -> Self {
        Self { names: Names::default(), trust }
    }

    /// The shared copy of a string.
    pub(crate) fn name(&self, text: &str) -> Arc<str> {
        self.names.get(text)
    }

    /// Which addresses objects may name.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }
}

impl Trust {
    /// Why an address cannot be an endpoint, if it cannot.
    pub(crate) fn endpoint(&self, address: &IpAddr) -> Option<String> {
        let kind = special(address).filter(|_| !self.special_endpoints)?;
        Some(format!("{kind}; ignored"))
    }

    /// Why an address cannot be an external IP, if it cannot.
    pub(crate) fn external_ip(&self, address: &IpAddr) -> Option<String> {
        if let Some(allowed) = &self.external_ips
            && !allowed.iter().any(|net| net.contains(address))
        {
            return Some("not in the networks that external IPs may be of; ignored".to_owned());
        }
        // Traffic to addresses of the link never comes from elsewhere; who allows it by a network wants it.
        let allowed = self.external_ips.is_some() && !address.is_unspecified();
        special(address).filter(|_| !allowed).map(|kind| format!("{kind}; ignored"))
    }

    /// Why an address cannot be that of a load balancer, if it cannot. The status of a Service is the cluster's, not the user's.
    pub(crate) fn load_balancer_vip(address: &IpAddr) -> Option<String> {
        let never = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        special(address).filter(|_| never).map(|kind| format!("{kind}; ignored"))
    }
}

/// What an address is that means something else on each node, or on none.
fn special(address: &IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if link_local {
        Some("a link-local address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
