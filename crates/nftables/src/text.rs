//! Elements as `nft` writes them.

use std::fmt::Write as _;

use kube_proxy_core::IpFamily;

use crate::element::{Item, SetId, Value};
use crate::key::{Key, read_ip};
use crate::layout::set_name;

/// `frontend-ips: 10.96.0.1 . tcp . 80 : goto cluster-2 (ns/web:http)`
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
    let end = if key.is_interval_end() { " (end)" } else { "" };
    match parts(set, key.as_bytes(), family) {
        Some(parts) => parts.join(" . ") + end,
        // Another program put it there.
        None => format!("{key:?}"),
    }
}

/// The fields of a key; `None` if they are not those that keys of this set have.
fn parts(set: SetId, mut bytes: &[u8], family: IpFamily) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for field in fields(set) {
        if field == 'i' {
            let (ip, rest) = read_ip(bytes, family)?;
            parts.push(ip.to_string());
            bytes = rest;
            continue;
        }
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        bytes = rest;
        parts.push(match field {
            'p' => match word[0] {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                132 => "sctp".to_owned(),
                other => other.to_string(),
            },
            'n' => u16::from_be_bytes([word[0], word[1]]).to_string(),
            _ => u32::from_ne_bytes(*word).to_string(),
        });
    }
    bytes.is_empty().then_some(parts)
}

/// Address, protocol, port (number) and slot.
fn fields(set: SetId) -> std::str::Chars<'static> {
    match set {
        SetId::FrontendIps
        | SetId::ShortCircuitIps
        | SetId::UnservedIps
        | SetId::StickyIps
        | SetId::FirewallAddresses
        | SetId::FirewallDropped
        | SetId::FastPathIps => "ipn",
        SetId::FrontendNodeports
        | SetId::ShortCircuitNodeports
        | SetId::UnservedNodeports
        | SetId::LoopbackNodeports
        | SetId::StickyNodeports
        | SetId::FastPathNodeports => "pn",
        SetId::ClusterEndpoints | SetId::LocalEndpoints => "ipns",
        SetId::NodeportClusterEndpoints | SetId::NodeportLocalEndpoints => "pns",
        SetId::FirewallSources => "ipni",
        SetId::ClusterIps | SetId::ServiceCidrs | SetId::NodeportAddresses => "i",
        SetId::HairpinConnections => "iipn",
        // What clients put there is not compared.
        SetId::ClientAffinity | SetId::ClientAffinityLocal => "",
    }
    .chars()
}
