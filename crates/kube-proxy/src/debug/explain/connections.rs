//! Connections that the kernel tracks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;

use kube_proxy_core::Protocol;
use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, TupleFilter};

use crate::debug::explanation::{Connections, Path};

/// Adds where the tracked connections to each destination lead. A path whose connections cannot be read goes without.
///
/// `translated` says that rules of this mode translate to endpoints, so that connections which lead elsewhere are out of date.
pub(in crate::debug) fn add_connections(paths: &mut [Path], translated: bool) {
    let counts = read(paths);
    for path in paths {
        let Some(counts) = counts.get(&key(path)) else { continue };
        let used = |to: &SocketAddr| {
            path.endpoints
                .iter()
                .any(|endpoint| endpoint.address == *to && endpoint.unused.is_none())
        };
        let unused = |to: &SocketAddr| translated && path.service_port.is_some() && !used(to);
        let all = counts.iter().map(|(endpoint, count)| Connections {
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

/// How many flows to a destination lead to each place.
type Counts = BTreeMap<SocketAddr, usize>;

/// Those of the destination of each path. The table is read once for each family and protocol; where that fails they are missing.
fn read(paths: &[Path]) -> HashMap<Key, Counts> {
    let mut kinds: HashMap<(bool, Protocol), HashMap<Key, Counts>> = HashMap::new();
    for (protocol, destination) in paths.iter().map(key) {
        let of_kind = kinds.entry((destination.is_ipv4(), protocol)).or_default();
        of_kind.insert((protocol, destination), Counts::new());
    }
    let Ok(mut conntrack) = Conntrack::open() else { return HashMap::new() };
    let read = kinds.into_iter().filter_map(|((is_v4, protocol), mut counts)| {
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let original = common(counts.keys().map(|(_, destination)| *destination));
        let filter = Filter { original, ..Filter::protocol(family, protocol.number()) };
        let dump = conntrack.dump(&filter, |flow| {
            let to = flow.original.destination_socket();
            let wanted = to.and_then(|to| counts.get_mut(&(protocol, to)));
            if let (Some(counts), Some(from)) = (wanted, flow.reply.source_socket()) {
                *counts.entry(from).or_default() += 1;
            }
        });
        dump.is_ok().then_some(counts)
    });
    read.flatten().collect()
}

/// What all of these destinations have, so that the kernel sends little else. The ports of a Service share an address.
fn common(destinations: impl Iterator<Item = SocketAddr> + Clone) -> TupleFilter {
    let ips: HashSet<_> = destinations.clone().map(|to| to.ip()).collect();
    let ports: HashSet<_> = destinations.map(|to| to.port()).collect();
    let only_ip = ips.iter().next().filter(|_| ips.len() == 1);
    let only_port = ports.iter().next().filter(|_| ips.len() == 1 && ports.len() == 1);
    TupleFilter {
        destination: only_ip.copied(),
        destination_port: only_port.copied(),
        ..TupleFilter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_filters_by_what_all_destinations_have() {
        let of = |texts: &[&str]| {
            let filter = common(texts.iter().map(|text| text.parse().unwrap()));
            (filter.destination.map(|ip| ip.to_string()), filter.destination_port)
        };
        let ip = Some("10.96.0.1".to_owned());
        assert_eq!(of(&["10.96.0.1:80"]), (ip.clone(), Some(80)));
        assert_eq!(of(&["10.96.0.1:80", "10.96.0.1:443"]), (ip, None));
        assert_eq!(of(&["10.96.0.1:80", "10.96.0.2:80"]), (None, None));
        assert_eq!(of(&[]), (None, None));
    }
}
