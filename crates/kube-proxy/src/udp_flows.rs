//! Carries out a [`UdpCheck`]: deletes the tracked UDP flows that lead to the wrong place.

use std::collections::HashSet;
use std::net::IpAddr;

use kube_proxy_core::conntrack::{UdpCheck, UdpFlow};
use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, TupleFilter};
use kube_proxy_netlink::route::Route;
use kube_proxy_netlink::{Error, Family};

/// Looks at the flows of one family and deletes the stale ones; how many those were.
///
/// The kernel sends UDP flows only, and if all in question share one destination, only those to it.
pub fn delete_stale(family: IpFamily, check: &UdpCheck) -> Result<u64, Error> {
    let own = if check.has_node_ports() { node_addresses()? } else { HashSet::new() };
    let mut conntrack = Conntrack::open()?;
    let mut stale = Vec::new();
    let _ = conntrack.dump(&filter(family, check), |flow| {
        if seen(flow).is_some_and(|seen| check.is_stale(&seen, |ip| own.contains(ip))) {
            stale.push(*flow);
        }
    })?;
    if stale.is_empty() {
        return Ok(0);
    }
    let result = conntrack.delete_all(&stale)?;
    for refusal in &result.refused {
        tracing::warn!(%family, "cannot delete a stale UDP flow: {refusal}");
    }
    Ok(result.deleted.try_into().unwrap_or(u64::MAX))
}

fn filter(family: IpFamily, check: &UdpCheck) -> Filter {
    let family = match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    };
    let original = match check.only_destination() {
        Some(to) => TupleFilter {
            destination: Some(to.ip()),
            destination_port: Some(to.port()),
            ..TupleFilter::default()
        },
        None => TupleFilter::default(),
    };
    Filter { original, ..Filter::protocol(family, Protocol::Udp.number()) }
}

fn seen(flow: &Flow) -> Option<UdpFlow> {
    Some(UdpFlow {
        original_destination: flow.original.destination_socket()?,
        reply_source: flow.reply.source_socket()?,
    })
}

/// The addresses that node ports may be used on.
fn node_addresses() -> Result<HashSet<IpAddr>, Error> {
    let (addresses, _) = Route::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.address).collect())
}
