//! Tracked TCP connections: deletes those that began before the rules for their destination were there.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::conntrack::{EarlyCheck, TcpFlow, TcpPhase};
use kube_proxy_core::{IpFamily, Protocol, Tracker};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, TcpState, TupleFilter};
use kube_proxy_netlink::route::Route;
use kube_proxy_netlink::socket::DumpEnd;

use super::udp_flows::Checked;
use crate::node::node_ports::NodePortScope;

/// Looks at the connections of one family that wait for an answer, and deletes those that began too early.
///
/// The kernel sends those alone, and if all in question share one destination, only those to it.
pub fn delete_early(
    family: IpFamily,
    check: &EarlyCheck,
    tracker: &Tracker,
    node_ports: &NodePortScope,
) -> Result<Checked, Error> {
    let filter = Filter { unanswered: true, ..filter(family, check.only_destination()) };
    let mut conntrack = Conntrack::open()?;
    let mut waiting = Vec::new();
    let dump = conntrack.dump(&filter, |flow| {
        let is_possible = |seen: &TcpFlow| seen.is_waiting() && !seen.is_translated();
        waiting.extend(seen(flow).filter(is_possible).map(|seen| (*flow, seen)));
    })?;
    let seen_all = dump.end == DumpEnd::Complete;
    if waiting.is_empty() {
        return Ok(Checked { deleted: 0, complete: seen_all });
    }
    let own = node_addresses()?;
    let takes_node_ports = |ip: &IpAddr| own.contains(ip) && node_ports.contains(ip);
    waiting.retain(|(_, seen)| tracker.is_early(check, seen, takes_node_ports));
    let early: Vec<Flow> = waiting.into_iter().map(|(flow, _)| flow).collect();
    let result = conntrack.delete_all(&early)?;
    for refusal in &result.refused {
        tracing::warn!(%family, "cannot delete a TCP connection that began before the rules: {refusal}");
    }
    let deleted = result.deleted.try_into().unwrap_or(u64::MAX);
    Ok(Checked { deleted, complete: seen_all && result.refused.is_empty() })
}

fn filter(family: IpFamily, only: Option<SocketAddr>) -> Filter {
    let mut filter = Filter::protocol(super::udp_flows::netlink(family), Protocol::Tcp.number());
    if let Some(to) = only {
        filter.original = TupleFilter {
            destination: Some(to.ip()),
            destination_port: Some(to.port()),
            ..TupleFilter::default()
        };
    }
    filter
}

fn seen(flow: &Flow) -> Option<TcpFlow> {
    Some(TcpFlow {
        original_destination: flow.original.destination_socket()?,
        reply_source: flow.reply.source_socket()?,
        phase: match flow.tcp_state? {
            TcpState::SYN_SENT => TcpPhase::Waiting,
            TcpState::SYN_RECEIVED
            | TcpState::ESTABLISHED
            | TcpState::FIN_WAIT
            | TcpState::CLOSE_WAIT => TcpPhase::Open,
            _ => TcpPhase::Ended,
        },
    })
}

/// All addresses of this node.
pub(super) fn node_addresses() -> Result<HashSet<IpAddr>, Error> {
    let (addresses, _) = Route::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.address).collect())
}
