//! Connections that the kernel tracks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use kube_proxy_core::Protocol;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, TupleFilter};
use kube_proxy_netlink::{Error, Family};

use crate::debug::explanation::{Connections, Path};

/// Adds where the tracked connections to each destination lead. A path whose connections cannot be read goes without.
///
/// `translated` says that rules of this mode translate to endpoints, so that connections which lead elsewhere are out of date.
pub(in crate::debug) fn add_connections(paths: &mut [Path], translated: bool) {
    let Ok(mut conntrack) = Conntrack::open() else { return };
    for path in paths {
        let Ok(counts) = read(&mut conntrack, path) else { continue };
        let used = |to: &SocketAddr| {
            path.endpoints
                .iter()
                .any(|endpoint| endpoint.address == *to && endpoint.unused.is_none())
        };
        let unused = |to: &SocketAddr| translated && path.service_port.is_some() && !used(to);
        let all = counts.into_iter().map(|(endpoint, count)| {
            let unused = unused(&endpoint);
            Connections { endpoint, count, unused }
        });
        path.connections = Some(all.collect());
        let stale = path.connections.iter().flatten().filter(|connections| connections.unused);
        let texts: Vec<String> =
            stale.map(|stale| format!("{} to {}", stale.count, stale.endpoint)).collect();
        if !texts.is_empty() {
            path.advice.push(format!(
                "open connections lead to endpoints that take no new ones ({}): clients must connect again, or \
                 conntrack -D --orig-dst {} ends them",
                texts.join(", "),
                path.destination.ip()
            ));
        }
    }
}

/// How many flows to the destination of a path lead to each place.
fn read(conntrack: &mut Conntrack, path: &Path) -> Result<BTreeMap<SocketAddr, usize>, Error> {
    let family = if path.destination.is_ipv4() { Family::V4 } else { Family::V6 };
    let protocol: Protocol = path.protocol.parse().unwrap_or(Protocol::Tcp);
    let original = TupleFilter {
        destination: Some(path.destination.ip()),
        destination_port: Some(path.destination.port()),
        ..TupleFilter::default()
    };
    let filter = Filter { original, ..Filter::protocol(family, protocol.number()) };
    let mut counts = BTreeMap::new();
    let _ = conntrack.dump(&filter, |flow| {
        if let Some(from) = flow.reply.source_socket() {
            *counts.entry(from).or_default() += 1;
        }
    })?;
    Ok(counts)
}
