//! From one service port to its virtual servers, addresses and set entries.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{
    Endpoint, Frontend, FrontendKind, IpFamily, NoLocalEndpoints, Protocol, ServiceEntry,
    ServicePort, ServicePortName, Snapshot, Steering, TrafficPolicy, Treatment, Unserved,
};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::{HASH_FALLBACK, HASH_PORT, PERSISTENT, Server, ServerKey};

use crate::Config;
use crate::kernel::Unfit;
use crate::layout::Set;
use crate::marks::Marks;
use crate::needed::{Needed, outer};
use crate::scheduler::{self, SOURCE_HASH, starts_slowly};

/// Something that several service ports may need; it is on the node as long as one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    Entry(Set, Entry),
    Address(IpAddr),
}

/// A virtual server and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) server: Server,
    /// Of its service port: the kernel knows none of one that goes by mark.
    pub(crate) protocol: Protocol,
    /// Sorted.
    pub(crate) destinations: Vec<SocketAddr>,
    /// The weight of each; empty where all have the usual one.
    weights: Vec<u32>,
}

/// The weight of destinations that have none of their own.
const USUAL: u32 = Steering::USUAL_WEIGHT as u32;

impl Desired {
    fn new(server: Server, protocol: Protocol, mut endpoints: Vec<(SocketAddr, u32)>) -> Self {
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|(address, _)| *address);
        let usual = endpoints.iter().all(|(_, weight)| *weight == USUAL);
        let weights =
            if usual { Vec::new() } else { endpoints.iter().map(|(_, weight)| *weight).collect() };
        let destinations = endpoints.into_iter().map(|(address, _)| address).collect();
        Self { server, protocol, destinations, weights }
    }

    /// Each destination with its weight, in order.
    pub(crate) fn weighted(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        let weight = |index| self.weights.get(index).copied().unwrap_or(USUAL);
        let destinations = self.destinations.iter().enumerate();
        destinations.map(move |(index, address)| (*address, weight(index)))
    }

    /// The weight of a destination, if it is one.
    pub(crate) fn weight(&self, to: &SocketAddr) -> Option<u32> {
        let index = self.destinations.binary_search(to).ok()?;
        Some(self.weights.get(index).copied().unwrap_or(USUAL))
    }
}

/// All that one service port needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) servers: Vec<(ServerKey, Desired)>,
    /// Sorted, each once.
    pub(crate) items: Vec<Item>,
    /// Its external IPs and VIPs, whether they are served here or not.
    pub(crate) outer: Vec<IpAddr>,
}

/// What plans depend on besides the service port.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) snapshot: &'a Snapshot,
    /// The node's own addresses, but those of the interface for services and of loopback.
    pub(crate) node_addresses: &'a [IpAddr],
    /// External IPs and VIPs that this node must not take.
    pub(crate) needed: &'a Needed,
    /// Destinations that this kernel did not take.
    pub(crate) unfit: &'a Unfit,
    /// Schedulers that this kernel turned out not to have.
    pub(crate) unknown_schedulers: &'a [String],
    /// The marks of service ports, by which clients on this node reach every endpoint.
    pub(crate) marks: &'a Marks,
}

/// Where a kind of frontend leads.
struct Choice<'a> {
    endpoints: &'a [Endpoint],
    /// All endpoints of the service port: those that drain keep their connections.
    all: &'a [Endpoint],
    /// The set that bars some from it.
    bar: Option<Set>,
    /// Clients on this node reach every endpoint, those of other nodes too.
    short_circuit: bool,
}

struct Planner<'a> {
    context: &'a Context<'a>,
    port: &'a ServicePort,
    server: Server,
    /// Destinations have tenths of the weights of endpoints, for steps of those that start slowly. Others keep theirs then.
    tenths: bool,
    /// The mark of packets of this node, if the service port has one.
    mark: Option<u32>,
    planned: Planned,
}

/// Plans one service port.
pub(crate) fn plan(context: &Context<'_>, name: &ServicePortName, entry: &ServiceEntry) -> Planned {
    let port = &entry.port;
    let server = server(context, entry);
    let tenths = starts_slowly(port) && server.scheduler != SOURCE_HASH;
    let mark = context.marks.of(name);
    let mut planner = Planner { context, port, server, tenths, mark, planned: Planned::default() };
    let protocol = port.protocol;
    // Where endpoints of other nodes stand in for local ones, the answers must come back through this node.
    let falls_back = context.config.local_fallback && entry.choice.local.is_empty();
    let local = port.policy.external_traffic_policy == TrafficPolicy::Local && !falls_back;
    for (frontend, kind) in &port.frontends {
        let Some(choice) = choice(context, entry, *kind) else { continue };
        match *frontend {
            Frontend::NodePort(_, number) => planner.node_port(number, &choice, local),
            Frontend::Address(_, to) => planner.frontend(to.ip(), *kind, &choice, local),
        }
    }
    for endpoint in entry.choice.reachable().filter(|endpoint| endpoint.may_be_local()) {
        let (ip, number) = (endpoint.ip, endpoint.port.get());
        planner.entry(Set::LoopBack, Entry::IpPortIp(ip, protocol.number(), number, ip));
    }
    planner.servers_by_mark(entry);
    if let Some(health) = port.policy.health_check_node_port {
        planner.entry(Set::HealthCheck, Entry::Port(health.get()));
    }
    let mut result = planner.planned;
    result.outer = outer(port).collect();
    result.items.sort_unstable();
    result.items.dedup();
    result
}

fn server(context: &Context<'_>, entry: &ServiceEntry) -> Server {
    let default = &context.config.scheduler;
    let scheduler = scheduler::chosen(entry, default, context.unknown_schedulers).to_owned();
    let mut server = Server { flags: 0, timeout: 0, scheduler };
    if let Some(timeout) = entry.port.policy.session_affinity {
        server.flags |= PERSISTENT;
        server.timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    }
    // What drains keeps its places in the table of a hash; with the flag, clients of these places get the next one.
    server.flags |= match &*server.scheduler {
        SOURCE_HASH => HASH_FALLBACK,
        "mh" => HASH_PORT | HASH_FALLBACK,
        _ => 0,
    };
    server
}

/// Where frontends of a kind lead. `None`: they are not served at all, not even to who is on this node, as a virtual server takes whatever
/// gets to its address, and the address on the interface keeps packets from going elsewhere.
fn choice<'a>(
    context: &Context<'_>,
    entry: &'a ServiceEntry,
    kind: FrontendKind,
) -> Option<Choice<'a>> {
    let Treatment { policy, short_circuit, unserved, .. } = entry.treatment(kind);
    let all = &entry.endpoints;
    let served = Choice { endpoints: entry.choice.of(policy), all, bar: None, short_circuit };
    let Some(unserved) = unserved.filter(|_| policy == TrafficPolicy::Local) else {
        return Some(served);
    };
    // Without a local endpoint, clients on this node still reach the others.
    if context.config.local_fallback || short_circuit {
        let bar = match unserved {
            _ if context.config.local_fallback => None,
            Unserved::NoEndpoints => None,
            Unserved::NoLocalEndpoints(NoLocalEndpoints::Drop) => Some(Set::DropOutside),
            Unserved::NoLocalEndpoints(NoLocalEndpoints::Reject) => Some(Set::RejectOutside),
            Unserved::NoLocalEndpoints(NoLocalEndpoints::Passthrough) => return None,
        };
        let endpoints = if short_circuit { &entry.choice.cluster[..] } else { fallback(entry) };
        return Some(Choice { endpoints, all, bar, short_circuit });
    }
    let bar = matches!(unserved, Unserved::NoLocalEndpoints(_)).then_some(Set::Drop);
    Some(Choice { bar, ..served })
}

/// Endpoints of all nodes for a port under policy `Local`; core chooses none where no frontend uses them.
fn fallback(entry: &ServiceEntry) -> &[Endpoint] {
    if entry.choice.cluster.is_empty() { &entry.endpoints } else { &entry.choice.cluster }
}

impl Planner<'_> {
    fn entry(&mut self, set: Set, entry: Entry) {
        self.planned.items.push(Item::Entry(set, entry));
    }

    fn server(&mut self, ip: IpAddr, port: u16, choice: &Choice<'_>) {
        let protocol = self.port.protocol.number();
        let key = ServerKey::Frontend { protocol, address: SocketAddr::new(ip, port) };
        if let Some(set) = choice.bar {
            self.entry(set, Entry::IpPort(ip, protocol, port));
        }
        if choice.short_circuit
            && let Some((mark, bits)) = self.mark.zip(self.context.marks.bits())
        {
            self.entry(
                Set::Mark,
                Entry::IpPortMark { ip, protocol, port, mark, mask: bits.mask() },
            );
            self.entry(Set::LoopBack, Entry::IpPortIp(ip, protocol, port, ip));
        }
        let desired = self.desired(key, choice);
        self.planned.servers.push((key, desired));
    }

    /// What packets of this node with the mark of the service port go to, if any frontend gives it to them.
    fn servers_by_mark(&mut self, entry: &ServiceEntry) {
        let is_mark = |item: &Item| matches!(item, Item::Entry(Set::Mark, _));
        let Some(mark) = self.mark.filter(|_| self.planned.items.iter().any(is_mark)) else {
            return;
        };
        let (endpoints, all) = (&entry.choice.cluster[..], &entry.endpoints[..]);
        let choice = Choice { endpoints, all, bar: None, short_circuit: true };
        let v6 = self.context.config.family == IpFamily::V6;
        for mark in self.context.marks.of_packets(mark) {
            let key = ServerKey::Mark { v6, mark };
            let desired = self.desired(key, &choice);
            self.planned.servers.push((key, desired));
        }
    }

    fn desired(&self, key: ServerKey, choice: &Choice<'_>) -> Desired {
        let ready = |endpoint: &&Endpoint| endpoint.is_ready() || endpoint.is_serving_terminating();
        let chosen =
            choice.endpoints.iter().filter(ready).map(|e| (e.socket_address(), self.weight(e)));
        let drain = choice.all.iter().filter(|endpoint| self.only_keeps(endpoint, choice));
        let drain = drain.map(|endpoint| (endpoint.socket_address(), 0));
        let is_fit = |(to, _): &(SocketAddr, u32)| !self.context.unfit.contains(&(key, *to));
        let endpoints = chosen.chain(drain).filter(is_fit).collect();
        Desired::new(self.server.clone(), self.port.protocol, endpoints)
    }

    fn weight(&self, endpoint: &Endpoint) -> u32 {
        if self.tenths { endpoint.share() } else { endpoint.weight().into() }
    }

    /// Whether an endpoint keeps what it has and gets nothing new.
    ///
    /// A TCP destination that is removed drains until its connections have ended, which is not to be seen of UDP:
    /// there it stays for as long as its endpoint answers.
    fn only_keeps(&self, endpoint: &Endpoint, choice: &Choice<'_>) -> bool {
        let place = |other: &Endpoint| (other.ip, other.port).cmp(&(endpoint.ip, endpoint.port));
        endpoint.keeps_connections()
            || (self.port.protocol == Protocol::Udp
                && endpoint.is_serving_terminating()
                && choice.endpoints.binary_search_by(place).is_err())
    }

    /// A frontend with an address of its own, unless this node must not take that.
    fn frontend(&mut self, ip: IpAddr, kind: FrontendKind, choice: &Choice<'_>, local: bool) {
        if kind.is_external() && self.context.needed.refuses(&ip) {
            return;
        }
        let sets: &[Set] = match (kind, local) {
            (FrontendKind::ClusterIp, _) => &[Set::ClusterIp],
            (FrontendKind::LoadBalancerVip, true) => &[Set::LoadBalancer, Set::LoadBalancerLocal],
            (FrontendKind::LoadBalancerVip, false) => &[Set::LoadBalancer],
            (FrontendKind::ExternalIp | FrontendKind::NodePort, true) => &[Set::ExternalIpLocal],
            (FrontendKind::ExternalIp | FrontendKind::NodePort, false) => &[Set::ExternalIp],
        };
        self.address(ip, choice, sets);
        if kind == FrontendKind::LoadBalancerVip {
            self.source_ranges(ip);
        }
    }

    /// A cluster IP, external IP or load-balancer VIP.
    fn address(&mut self, ip: IpAddr, choice: &Choice<'_>, sets: &[Set]) {
        let port = self.port.port.get();
        self.server(ip, port, choice);
        for set in sets {
            self.entry(*set, Entry::IpPort(ip, self.port.protocol.number(), port));
        }
        // An address that the node has already is not taken to another interface, nor closed.
        if !self.context.node_addresses.contains(&ip) {
            self.planned.items.push(Item::Address(ip));
            self.entry(Set::Addresses, Entry::Ip(ip));
        }
    }

    fn source_ranges(&mut self, vip: IpAddr) {
        let Some(ranges) = self.port.source_ranges() else { return };
        let (protocol, port) = (self.port.protocol.number(), self.port.port.get());
        self.entry(Set::LoadBalancerFirewall, Entry::IpPort(vip, protocol, port));
        for net in ranges {
            let entry = Entry::IpPortNet(vip, protocol, port, net.network(), net.prefix_len());
            self.entry(Set::SourceCidr, entry);
        }
        let node = self.context.snapshot.node_ip;
        if node.is_some_and(|node| ranges.iter().any(|net| net.contains(&node))) {
            self.entry(Set::SourceIp, Entry::IpPortIp(vip, protocol, port, vip));
        }
    }

    fn node_port(&mut self, node_port: u16, choice: &Choice<'_>, local: bool) {
        let protocol = self.port.protocol;
        let sets: &[Set] = if local {
            &[Set::NodePort(protocol), Set::NodePortLocal(protocol)]
        } else {
            &[Set::NodePort(protocol)]
        };
        let context = self.context;
        let takes = |ip: &&IpAddr| context.config.node_ports.contains(ip);
        for ip in context.node_addresses.iter().filter(takes) {
            self.server(*ip, node_port, choice);
            if protocol == Protocol::Sctp {
                for set in sets {
                    self.entry(*set, Entry::IpPort(*ip, protocol.number(), node_port));
                }
            }
        }
        if protocol != Protocol::Sctp {
            for set in sets {
                self.entry(*set, Entry::Port(node_port));
            }
        }
    }
}
