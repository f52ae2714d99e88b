//! Which service port has the destination of a packet.

use std::net::IpAddr;

use super::{LoopbackNodePorts, NodeFacts, OtherPorts, Packet, Reason, Verdict};
use crate::{Frontend, FrontendKind, NoLocalEndpoints, ServiceEntry, ServicePortName, Snapshot};

/// The service port of a destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) name: &'a ServicePortName,
    pub(super) entry: &'a ServiceEntry,
    pub(super) frontend: Frontend,
    pub(super) kind: FrontendKind,
    /// A listener of this process takes the connection.
    pub(super) copied: bool,
    /// No rule takes the packet, and the mode refuses it all the same: the address is on an interface of the node for another service port.
    pub(super) held: bool,
}

/// Where a destination is.
pub(super) enum Place<'a> {
    Served(Found<'a>),
    Nowhere(Verdict, Reason),
}

pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    owner: &dyn Fn(Frontend) -> Option<&'a ServicePortName>,
    node: &NodeFacts,
    packet: &Packet,
) -> Place<'a> {
    let (ip, port) = (packet.destination.ip(), packet.destination.port());
    let address = Frontend::address(packet.protocol, ip, port);
    let node_port =
        Some(Frontend::NodePort(packet.protocol, port)).filter(|_| takes_node_ports(node, packet));
    // An address goes before a node port, as in every mode.
    let mut wanted = std::iter::once(address).chain(node_port);
    let first = wanted.find_map(|frontend| {
        let name = owner(frontend)?;
        let entry = snapshot.entry(name)?;
        let (_, kind) = entry.port.frontends.iter().find(|(own, _)| *own == frontend)?;
        Some((name, entry, frontend, *kind))
    });
    let Some((name, entry, frontend, kind)) = first else {
        let (verdict, reason) = nowhere(snapshot, node, ip);
        return Place::Nowhere(verdict, reason);
    };
    let loopback = frontend == Frontend::NodePort(packet.protocol, port) && ip.is_loopback();
    // It matters only where no rule takes the packet.
    let may_be_held = node.mode.other_ports == OtherPorts::RefusedAtAll && passes(entry, kind);
    Place::Served(Found {
        name,
        entry,
        frontend,
        kind,
        copied: loopback && node.mode.loopback == LoopbackNodePorts::Copied,
        held: may_be_held && is_held(snapshot, ip),
    })
}

/// Which service port has a frontend, found by looking at all of them.
pub(super) fn owner_in(snapshot: &Snapshot, wanted: Frontend) -> Option<&ServicePortName> {
    frontends(snapshot).find(|(.., frontend, _)| *frontend == wanted).map(|(name, ..)| name)
}

/// Whether node ports of the protocol are looked at for this destination.
fn takes_node_ports(node: &NodeFacts, packet: &Packet) -> bool {
    let ip = packet.destination.ip();
    if ip.is_loopback() {
        node.mode.loopback != LoopbackNodePorts::NotServed
            || node.mode.refused_on_loopback.contains(&packet.protocol)
    } else {
        node.addresses.contains(&ip) && node.node_ports.contains(&ip)
    }
}

/// What becomes of packets to an address and port that no service port has.
fn nowhere(snapshot: &Snapshot, node: &NodeFacts, ip: IpAddr) -> (Verdict, Reason) {
    let mut ports = snapshot.services.values().map(|entry| &entry.port);
    let is_cluster_ip = ports.clone().any(|port| port.cluster_ip == ip);
    let known = ports.any(|port| port.frontends.iter().any(|(f, _)| f.ip() == Some(ip)));
    let in_range = snapshot.service_cidrs.iter().any(|net| net.contains(&ip));
    match node.mode.other_ports {
        OtherPorts::RefusedAtClusterIps if is_cluster_ip => (Verdict::Refused, Reason::OtherPort),
        OtherPorts::RefusedAtClusterIps if in_range && !known => {
            (Verdict::Dropped, Reason::UnusedClusterIp)
        }
        OtherPorts::RefusedAtAll if is_held(snapshot, ip) => (Verdict::Refused, Reason::OtherPort),
        _ if known => (Verdict::Passed, Reason::OtherPort),
        _ if in_range => (Verdict::Passed, Reason::UnusedClusterIp),
        _ => (Verdict::Passed, Reason::NoServicePort),
    }
}

/// Whether an address is on an interface for the frontends of some service port: not if traffic for all of them passes.
fn is_held(snapshot: &Snapshot, ip: IpAddr) -> bool {
    let at = frontends(snapshot).filter(|(.., frontend, _)| frontend.ip() == Some(ip));
    let mut served = at.filter(|(_, entry, _, kind)| !passes(entry, *kind));
    served.next().is_some()
}

/// Whether traffic for frontends of this kind is passed on for want of local endpoints.
pub(super) fn passes(entry: &ServiceEntry, kind: FrontendKind) -> bool {
    let unserved = entry.treatment(kind).unserved;
    unserved.is_some_and(|unserved| unserved.action() == NoLocalEndpoints::Passthrough)
}

/// Every frontend of the snapshot.
pub(super) fn frontends(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (&ServicePortName, &ServiceEntry, Frontend, FrontendKind)> {
    snapshot.services.iter().flat_map(|(name, entry)| {
        let frontends = entry.port.frontends.iter();
        frontends.map(move |&(frontend, kind)| (name, &**entry, frontend, kind))
    })
}
