//! Carries out a [`UdpCheck`]: deletes the tracked UDP flows that lead to the wrong place.

use std::collections::HashSet;
use std::net::IpAddr;

use kube_proxy_core::conntrack::{UdpCheck, UdpFlow};
use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, TupleFilter};
use kube_proxy_netlink::socket::DumpEnd;

use super::tracked::{Checked, netlink, node_addresses};
use crate::node::node_ports::NodePortScope;

/// Looks at the flows of one family and deletes the stale ones.
///
/// The kernel sends UDP flows only, and if all in question share one destination, only those to it.
pub fn delete_stale(
    family: IpFamily,
    check: &UdpCheck,
    node_ports: &NodePortScope,
) -> Result<Checked, Error> {
    let own = if check.has_node_ports() { node_addresses()? } else { HashSet::new() };
    let takes_node_ports = |ip: &IpAddr| own.contains(ip) && node_ports.contains(ip);
    let mut conntrack = Conntrack::open()?;
    let mut stale = Vec::new();
    let dump = conntrack.dump(&filter(family, check), |flow| {
        if seen(flow).is_some_and(|seen| check.is_stale(&seen, takes_node_ports)) {
            stale.push(*flow);
        }
    })?;
    let seen_all = dump.end == DumpEnd::Complete;
    if stale.is_empty() {
        return Ok(Checked { deleted: 0, complete: seen_all });
    }
    let result = conntrack.delete_all(&stale)?;
    for refusal in &result.refused {
        tracing::warn!(%family, "cannot delete a stale UDP flow: {refusal}");
    }
    let deleted = result.deleted.try_into().unwrap_or(u64::MAX);
    Ok(Checked { deleted, complete: seen_all && result.refused.is_empty() })
}

fn filter(family: IpFamily, check: &UdpCheck) -> Filter {
    let original = match check.only_destination() {
        Some(to) => TupleFilter {
            destination: Some(to.ip()),
            destination_port: Some(to.port()),
            ..TupleFilter::default()
        },
        None => TupleFilter::default(),
    };
    Filter { original, ..Filter::protocol(netlink(family), Protocol::Udp.number()) }
}

fn seen(flow: &Flow) -> Option<UdpFlow> {
    Some(UdpFlow {
        original_destination: flow.original.destination_socket()?,
        reply_source: flow.reply.source_socket()?,
    })
}
