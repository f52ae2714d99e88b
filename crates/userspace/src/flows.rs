//! Tracked UDP flows that lead to the wrong place after the rules changed.
//!
//! A client that continues sending keeps its conntrack entry, and with it the listening port, or none, of long ago.
//! Here the port is what counts, not the endpoint: that is chosen by this process for each session.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{Frontend, IpFamily, NodePortAddresses, Protocol};
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow};
use kube_proxy_netlink::route::Route;
use kube_proxy_netlink::socket::DumpEnd;
use kube_proxy_netlink::{Error, Family};
use rustc_hash::FxHashMap;

/// The listening ports of a frontend; `None` if no service port has it any more.
pub(crate) type Wanted = Option<[Option<u16>; 2]>;

/// UDP frontends whose flows have to be looked at.
#[derive(Debug, Default)]
pub(crate) struct Touched(pub(crate) FxHashMap<Frontend, Wanted>);

impl Touched {
    /// Notes where a frontend leads now.
    pub(crate) fn note(&mut self, frontend: Frontend, wanted: Wanted) {
        if frontend.protocol() == Protocol::Udp {
            self.0.insert(frontend, wanted);
        }
    }

    /// Whether a flow has to go. `takes_node_ports` says which addresses do.
    fn is_stale(
        &self,
        destination: SocketAddr,
        reply_source: SocketAddr,
        takes_node_ports: impl Fn(&IpAddr) -> bool,
    ) -> bool {
        let port = destination.port();
        let address = Frontend::Address(Protocol::Udp, destination);
        let wanted = match self.0.get(&address) {
            Some(wanted) => wanted,
            None => match self.0.get(&Frontend::NodePort(Protocol::Udp, port)) {
                Some(wanted) if takes_node_ports(&destination.ip()) => wanted,
                _ => return false,
            },
        };
        match wanted {
            Some(ports) => !ports.contains(&Some(reply_source.port())),
            // A flow that was never redirected is none of our business.
            None => destination != reply_source,
        }
    }

    /// Deletes what is stale. Forgets the frontends if every flow was seen and no deletion refused.
    pub(crate) fn clear(
        &mut self,
        family: IpFamily,
        node_ports: &NodePortAddresses,
        loopback: bool,
    ) -> Result<usize, Error> {
        if self.0.is_empty() {
            return Ok(0);
        }
        let own = if self.0.keys().any(|frontend| matches!(frontend, Frontend::NodePort(..))) {
            node_addresses()?
        } else {
            HashSet::new()
        };
        let takes_node_ports = |ip: &IpAddr| {
            own.contains(ip) && node_ports.contains(ip) && (loopback || !ip.is_loopback())
        };
        let family = match family {
            IpFamily::V4 => Family::V4,
            IpFamily::V6 => Family::V6,
        };
        let mut conntrack = Conntrack::open()?;
        let mut stale: Vec<Flow> = Vec::new();
        let dump = conntrack.dump(&Filter::protocol(family, Protocol::Udp.number()), |flow| {
            let ends = (flow.original.destination_socket(), flow.reply.source_socket());
            if let (Some(destination), Some(source)) = ends
                && self.is_stale(destination, source, takes_node_ports)
            {
                stale.push(*flow);
            }
        })?;
        let mut complete = dump.end == DumpEnd::Complete;
        let mut deleted = 0;
        if !stale.is_empty() {
            let result = conntrack.delete_all(&stale)?;
            complete &= result.refused.is_empty();
            deleted = result.deleted;
        }
        if complete {
            self.0.clear();
        }
        Ok(deleted)
    }
}

fn node_addresses() -> Result<HashSet<IpAddr>, Error> {
    let (addresses, _) = Route::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.address).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_port_counts() {
        let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
        let mut touched = Touched::default();
        let cluster_ip = address("10.96.0.10:53");
        let gone = address("10.96.0.11:53");
        let frontend = |at: SocketAddr| Frontend::Address(Protocol::Udp, at);
        touched.note(frontend(cluster_ip), Some([Some(4000), None]));
        touched.note(frontend(gone), None);
        touched.note(Frontend::NodePort(Protocol::Udp, 30053), Some([Some(4000), Some(4001)]));
        touched.note(Frontend::NodePort(Protocol::Tcp, 30080), None);
        assert_eq!(touched.0.len(), 3, "TCP does not count");
        let node: IpAddr = [172, 18, 0, 2].into();
        let stale =
            |to: &str, from: &str| touched.is_stale(address(to), address(from), |ip| *ip == node);
        assert!(!stale("10.96.0.10:53", "10.244.0.1:4000"));
        assert!(stale("10.96.0.10:53", "10.244.0.1:4001"), "another port");
        assert!(stale("10.96.0.10:53", "10.96.0.10:53"), "sent before there was a service");
        assert!(stale("10.96.0.11:53", "10.244.0.1:4000"), "nobody has it any more");
        assert!(!stale("10.96.0.11:53", "10.96.0.11:53"), "never was ours");
        assert!(!stale("172.18.0.2:30053", "10.244.0.1:4001"));
        assert!(stale("172.18.0.2:30053", "172.18.0.2:30053"));
        assert!(!stale("10.244.0.9:30053", "10.244.0.9:30053"), "elsewhere");
        assert!(!stale("10.96.0.12:53", "10.244.0.1:1"), "not touched");
    }
}
