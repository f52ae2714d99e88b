//! Flags about what objects may do to a node.

use clap::Args;
use ipnet::IpNet;
use kube_proxy_source::Trust;

use super::values;

/// Which addresses objects may name.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct SafetyFlags {
    /// Endpoints may be loopback, link-local, multicast and unspecified addresses, which are ignored otherwise [default: false]
    #[arg(long, value_name = "BOOL", value_parser = values::boolean)]
    pub allow_special_endpoints: Option<bool>,
    /// Networks that external IPs of Services have to be of; empty for none [default: all, but no loopback, link-local, multicast or unspecified addresses]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = values::network)]
    pub external_ip_cidrs: Vec<Option<IpNet>>,
}

impl SafetyFlags {
    /// What these flags say, and where they say nothing, what those of the environment do.
    pub(crate) fn over(&self, environment: &Self) -> Trust {
        let given = [&self.external_ip_cidrs, &environment.external_ip_cidrs];
        let cidrs = given.into_iter().find(|cidrs| !cidrs.is_empty());
        Trust {
            special_endpoints: self
                .allow_special_endpoints
                .or(environment.allow_special_endpoints)
                .unwrap_or(false),
            external_ips: cidrs.map(|cidrs| cidrs.iter().flatten().copied().collect()),
        }
    }
}

#[cfg(test)]
mod tests;
