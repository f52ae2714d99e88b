//! Connections that the kernel tracks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use kube_proxy_core::Protocol;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, TupleFilter};
use kube_proxy_netlink::{Error, Family};

use crate::debug::explanation::{Connections, Path};

/// Adds where the tracked connections to each destination lead. A path whose connections cannot be read goes without.
///
/// `translated` says that rules of this mode translate to endpoints, so that connections which lead elsewhere are out of date.
pub(in crate::debug) fn add_connections(paths: &mut [Path], translated: bool) {
    let Ok(counts) = read(paths) else { return };
    for path in paths {
        let counts = counts.get(&key(path)).into_iter().flatten();
        let used = |to: &SocketAddr| {
            path.endpoints
                .iter()
                .any(|endpoint| endpoint.address == *to && endpoint.unused.is_none())
        };
        let unused = |to: &SocketAddr| translated && path.service_port.is_some() && !used(to);
        let all = counts.map(|(endpoint, count)| Connections {
            endpoint: *endpoint,
            count: *count,
            unused: unused(endpoint),
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

/// What connections of a path have in common.
type Key = (Protocol, SocketAddr);

fn key(path: &Path) -> Key {
    (path.protocol.parse().unwrap_or(Protocol::Tcp), path.destination)
}

/// How many flows to the destination of each path lead to each place. The table is read once for each family and protocol.
fn read(paths: &[Path]) -> Result<HashMap<Key, BTreeMap<SocketAddr, usize>>, Error> {
    let mut kinds: HashMap<(bool, Protocol), Vec<SocketAddr>> = HashMap::new();
    for (protocol, destination) in paths.iter().map(key) {
        kinds.entry((destination.is_ipv4(), protocol)).or_default().push(destination);
    }
    let mut counts: HashMap<Key, BTreeMap<SocketAddr, usize>> = HashMap::new();
    let mut conntrack = Conntrack::open()?;
    for ((is_v4, protocol), destinations) in kinds {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let original = match destinations[..] {
            [only] => TupleFilter {
                destination: Some(only.ip()),
                destination_port: Some(only.port()),
                ..TupleFilter::default()
            },
            _ => TupleFilter::default(),
        };
        let filter = Filter { original, ..Filter::protocol(family, protocol.number()) };
        let wanted: HashSet<SocketAddr> = destinations.into_iter().collect();
        let _ = conntrack.dump(&filter, |flow| {
            let to = flow.original.destination_socket().filter(|to| wanted.contains(to));
            if let (Some(to), Some(from)) = (to, flow.reply.source_socket()) {
                *counts.entry((protocol, to)).or_default().entry(from).or_default() += 1;
            }
        })?;
    }
    Ok(counts)
}
