//! Elements as `nft` writes them.

use std::fmt::Write as _;

use kube_proxy_core::IpFamily;

use super::{Item, Key, SetId, Value};
use crate::layout::set_name;

/// `service-ips: 10.96.0.1 . tcp . 80 : goto cluster-2 (ns/web:http)`
pub(crate) fn text(set: SetId, item: &Item, family: IpFamily) -> String {
    let mut text = format!("{}: {}", set_name(set), key(set, &item.key, family));
    let _ = match &item.value {
        Value::None => Ok(()),
        Value::Until(end) => write!(text, " to {}", key(set, end, family)),
        Value::Endpoint(address) => write!(text, " : {} . {}", address.ip(), address.port()),
        Value::Drop => write!(text, " : drop"),
        Value::Goto(chain) => write!(text, " : goto {chain}"),
        Value::Foreign => write!(text, " : ?"),
    };
    if let Some(comment) = &item.comment {
        let _ = write!(text, " ({comment})");
    }
    text
}

fn key(set: SetId, key: &Key, family: IpFamily) -> String {
    let mut bytes = key.as_bytes();
    let mut take = |length: usize| {
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        field
    };
    let mut parts = Vec::new();
    for field in fields(set) {
        parts.push(match field {
            'i' => match family {
                IpFamily::V4 => {
                    std::net::Ipv4Addr::from(*take(4).first_chunk().unwrap()).to_string()
                }
                IpFamily::V6 => {
                    std::net::Ipv6Addr::from(*take(16).first_chunk().unwrap()).to_string()
                }
            },
            'p' => match take(4)[0] {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            },
            'n' => u16::from_be_bytes(*take(4).first_chunk().unwrap()).to_string(),
            _ => u32::from_ne_bytes(*take(4).first_chunk().unwrap()).to_string(),
        });
    }
    assert!(bytes.is_empty(), "{set:?}: {key:?} is longer than {parts:?}");
    let end = if key.is_interval_end() { " (end)" } else { "" };
    parts.join(" . ") + end
}

/// Address, protocol, port (number) and slot.
fn fields(set: SetId) -> std::str::Chars<'static> {
    match set {
        SetId::ServiceIps
        | SetId::ShortCircuitIps
        | SetId::NoEndpointServices
        | SetId::AffinityIps
        | SetId::FirewallIps => "ipn",
        SetId::ServiceNodeports
        | SetId::ShortCircuitNodeports
        | SetId::NoEndpointNodeports
        | SetId::AffinityNodeports => "pn",
        SetId::ClusterEndpoints | SetId::LocalEndpoints => "ipns",
        SetId::NodeportClusterEndpoints | SetId::NodeportLocalEndpoints => "pns",
        SetId::FirewallSources => "ipni",
        SetId::ClusterIps | SetId::ServiceCidrs | SetId::NodeportIps => "i",
        SetId::HairpinConnections | SetId::Affinity | SetId::AffinityLocal => "iipn",
    }
    .chars()
}
