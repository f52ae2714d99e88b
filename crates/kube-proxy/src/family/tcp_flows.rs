//! Tracked TCP connections: deletes those that began before the rules for their destination were there, and ends those to endpoints that left.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kube_proxy_core::conntrack::{DeadCheck, EarlyCheck, Fate, TcpFlow, TcpPhase};
use kube_proxy_core::{IpFamily, Protocol, Tracker};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::conntrack::{
    Conntrack, Filter, Flow, Inserted, Status, TcpState, TupleFilter,
};
use kube_proxy_netlink::socket::DumpEnd;

use super::tracked::{Checked, netlink, node_addresses};
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

/// A port of this node at which nothing listens: its kernel resets what does not belong to a connection there in any case.
const CLOSED_PORT: u16 = 1;

/// How long an entry waits for the next packet of its client; longer than a client waits before it sends again what was not confirmed.
const LAST_WORD: Duration = Duration::from_mins(5);

/// What became of connections to endpoints that left.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// How many were replaced, so that their clients are reset.
    pub reset: u64,
    /// How many had no answer yet, so that their clients find another endpoint.
    pub forgotten: u64,
    /// Who has to speak to be reset.
    pub clients: Vec<SocketAddr>,
    /// Where the replacements lead.
    pub closed: Option<SocketAddr>,
    /// Every connection was seen, and none came back in between. If not, the check has to be made again.
    pub complete: bool,
}

/// Ends connections to endpoints that left.
///
/// The entry of each is replaced by one that leads to a closed port of this node. So this kernel answers the next packet of the client
/// with a reset, in the name of the frontend and with the numbers that the client expects, whether or not any endpoint is left.
/// A client that only waits has to be made to send one.
pub fn end_dead(
    family: IpFamily,
    check: &DeadCheck,
    node_ip: Option<IpAddr>,
    node_ports: &NodePortScope,
) -> Result<Ended, Error> {
    let own = node_addresses()?;
    let takes_node_ports = |ip: &IpAddr| own.contains(ip) && node_ports.contains(ip);
    let mut conntrack = Conntrack::open()?;
    let (mut dead, mut forgotten) = (Vec::new(), Vec::new());
    let dump = conntrack.dump(&filter(family, check.only_destination()), |flow| {
        let Some(seen) = seen(flow) else { return };
        match check.fate(&seen, |ip| own.contains(ip), takes_node_ports) {
            Fate::Kept => {}
            Fate::Forgotten => forgotten.push(*flow),
            Fate::Reset => dead.push(*flow),
        }
    })?;
    let forgotten = conntrack.delete_all(&forgotten)?.deleted;
    let closed = node_ip.filter(|ip| own.contains(ip)).or_else(|| any_of(&own, family));
    let closed = closed.map(|ip| SocketAddr::new(ip, CLOSED_PORT));
    let replaced = match closed {
        Some(closed) if !dead.is_empty() => replace(&mut conntrack, family, &dead, closed)?,
        _ => Inserted::default(),
    };
    let count = |number: usize| number.try_into().unwrap_or(u64::MAX);
    let clients = dead.iter().filter_map(|flow| flow.original.source_socket()).collect();
    let complete = dump.end == DumpEnd::Complete && replaced.there == 0;
    Ok(Ended {
        reset: count(replaced.inserted),
        forgotten: count(forgotten),
        clients,
        closed,
        complete,
    })
}

/// Has the entries lead to the closed port.
fn replace(
    conntrack: &mut Conntrack,
    family: IpFamily,
    dead: &[Flow],
    closed: SocketAddr,
) -> Result<Inserted, Error> {
    let deleted = conntrack.delete_all(dead)?;
    let replacements: Vec<Flow> = dead.iter().map(replacement).collect();
    // Where the client has sent in between, its packet made an entry, as if there had been none before. That is one of another endpoint, which
    // resets it, unless the connection is one of IPVS: this leads to the same endpoint again.
    let replaced = conntrack.insert_redirected(&replacements, closed)?;
    for refusal in deleted.refused.iter().chain(&replaced.refused) {
        tracing::warn!(%family, "cannot end a connection to an endpoint that left: {refusal}");
    }
    Ok(replaced)
}

/// A connection as it stands, without what the kernel says of one entry.
fn replacement(flow: &Flow) -> Flow {
    Flow {
        id: None,
        status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED,
        tcp_state: Some(TcpState::ESTABLISHED),
        timeout: Some(LAST_WORD),
        ..*flow
    }
}

/// An address of this node that packets can be sent to from elsewhere.
fn any_of(own: &HashSet<IpAddr>, family: IpFamily) -> Option<IpAddr> {
    let usable = |ip: &&IpAddr| {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        IpFamily::of(ip) == family && !ip.is_loopback() && !link_local
    };
    own.iter().filter(usable).min().copied()
}

fn filter(family: IpFamily, only: Option<SocketAddr>) -> Filter {
    let mut filter = Filter::protocol(netlink(family), Protocol::Tcp.number());
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
        phase: match flow.tcp_state {
            // The kernel does not report the state of a connection in a flowtable; it was established when it came there.
            None if flow.status.contains(Status::OFFLOADED) => TcpPhase::Open,
            None => return None,
            Some(TcpState::SYN_SENT) => TcpPhase::Waiting,
            Some(
                TcpState::SYN_RECEIVED
                | TcpState::ESTABLISHED
                | TcpState::FIN_WAIT
                | TcpState::CLOSE_WAIT,
            ) => TcpPhase::Open,
            Some(_) => TcpPhase::Ended,
        },
    })
}

#[cfg(test)]
mod tests;
