//! From one service port to its virtual servers, addresses and set entries.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{Endpoint, Protocol, ServiceEntry, ServicePort, Snapshot, TrafficPolicy};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::{HASH_PORT, PERSISTENT, Server, ServerKey};

use crate::Config;
use crate::layout::Set;

/// What service ports compete for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Frontend {
    Address(Protocol, SocketAddr),
    NodePort(Protocol, u16),
}

/// Something that several service ports may need; it is on the node as long as one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    Entry(Set, Entry),
    Address(IpAddr),
}

/// A virtual server and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) server: Server,
    /// Sorted.
    pub(crate) destinations: Vec<SocketAddr>,
}

/// All that one service port needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) servers: Vec<(ServerKey, Wanted)>,
    /// Sorted, each once.
    pub(crate) items: Vec<Item>,
}

/// What plans depend on besides the service port.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) snapshot: &'a Snapshot,
    /// The node's own addresses, but those of the interface for services and of loopback.
    pub(crate) node_addresses: &'a [IpAddr],
    /// Schedulers that this kernel turned out not to have.
    pub(crate) unknown_schedulers: &'a [String],
}

/// The frontends of a service port, and whether each is its cluster IP.
pub(crate) fn frontends(port: &ServicePort) -> Vec<(Frontend, bool)> {
    let address =
        |ip: &IpAddr| Frontend::Address(port.protocol, SocketAddr::new(*ip, port.port.get()));
    let others = port.external_ips.iter().chain(port.load_balancer_vips.iter());
    let mut all = vec![(address(&port.cluster_ip), true)];
    all.extend(others.map(|ip| (address(ip), false)));
    all.extend(port.node_port.map(|n| (Frontend::NodePort(port.protocol, n.get()), false)));
    all.sort_unstable();
    all.dedup_by_key(|(frontend, _)| *frontend);
    all
}

/// Where a kind of frontend leads.
struct Choice<'a> {
    endpoints: &'a [Endpoint],
    /// Who is dropped instead.
    drop: Option<Set>,
}

struct Planner<'a> {
    context: &'a Context<'a>,
    port: &'a ServicePort,
    server: Server,
    planned: Planned,
}

/// Plans one service port; `owns` tells which of its frontends it has.
pub(crate) fn plan(
    context: &Context<'_>,
    entry: &ServiceEntry,
    owns: impl Fn(Frontend) -> bool,
) -> Planned {
    let port = &entry.port;
    let mut planner =
        Planner { context, port, server: server(context, port), planned: Planned::default() };
    let number = port.port.get();
    let protocol = port.protocol;
    let has = |ip: IpAddr| owns(Frontend::Address(protocol, SocketAddr::new(ip, number)));
    if has(port.cluster_ip) {
        planner.address(port.cluster_ip, &internal(context, entry), &[Set::ClusterIp]);
    }
    // Where endpoints of other nodes stand in for local ones, the answers must come back through this node.
    let falls_back = context.config.local_fallback && entry.choice.local.is_empty();
    let local = port.external_traffic_policy == TrafficPolicy::Local && !falls_back;
    let choice = external(context, entry);
    for ip in port.external_ips.iter().copied().filter(|ip| has(*ip)) {
        let set = if local { Set::ExternalIpLocal } else { Set::ExternalIp };
        planner.address(ip, &choice, &[set]);
    }
    for ip in port.load_balancer_vips.iter().copied().filter(|ip| has(*ip)) {
        let sets: &[Set] =
            if local { &[Set::LoadBalancer, Set::LoadBalancerLocal] } else { &[Set::LoadBalancer] };
        planner.address(ip, &choice, sets);
        planner.source_ranges(ip);
    }
    if let Some(node_port) = port.node_port
        && owns(Frontend::NodePort(protocol, node_port.get()))
    {
        planner.node_port(node_port.get(), &choice, local);
    }
    for endpoint in entry.choice.reachable().filter(|endpoint| endpoint.may_be_local()) {
        let (ip, number) = (endpoint.ip, endpoint.port.get());
        planner.entry(Set::LoopBack, Entry::IpPortIp(ip, protocol.number(), number, ip));
    }
    if let Some(health) = port.health_check_node_port {
        planner.entry(Set::HealthCheck, Entry::Port(health.get()));
    }
    let mut result = planner.planned;
    result.items.sort_unstable();
    result.items.dedup();
    result
}

fn server(context: &Context<'_>, port: &ServicePort) -> Server {
    let own = port.scheduler.as_deref();
    let known = own.filter(|own| !context.unknown_schedulers.iter().any(|name| name == own));
    let scheduler = known.unwrap_or(&context.config.scheduler).to_owned();
    let mut server = Server { flags: 0, timeout: 0, scheduler };
    if let Some(timeout) = port.session_affinity {
        server.flags |= PERSISTENT;
        server.timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
    }
    if server.scheduler == "mh" {
        server.flags |= HASH_PORT;
    }
    server
}

fn internal<'a>(context: &Context<'_>, entry: &'a ServiceEntry) -> Choice<'a> {
    let choice = &entry.choice;
    match entry.port.internal_traffic_policy {
        TrafficPolicy::Local if !choice.local.is_empty() => {
            Choice { endpoints: &choice.local, drop: None }
        }
        TrafficPolicy::Local if context.config.local_fallback => {
            Choice { endpoints: fallback(entry), drop: None }
        }
        TrafficPolicy::Local => {
            Choice { endpoints: &[], drop: choice.has_any.then_some(Set::Drop) }
        }
        TrafficPolicy::Cluster => Choice { endpoints: &choice.cluster, drop: None },
    }
}

/// Endpoints of all nodes for a port under policy `Local`; core chooses none where no frontend uses them.
fn fallback(entry: &ServiceEntry) -> &[Endpoint] {
    if entry.choice.cluster.is_empty() { &entry.endpoints } else { &entry.choice.cluster }
}

/// Without a local endpoint, whoever is on this node still reaches the others.
fn external<'a>(context: &Context<'_>, entry: &'a ServiceEntry) -> Choice<'a> {
    let choice = &entry.choice;
    match entry.port.external_traffic_policy {
        TrafficPolicy::Local if !choice.local.is_empty() => {
            Choice { endpoints: &choice.local, drop: None }
        }
        TrafficPolicy::Local => {
            let drop = choice.has_any && !context.config.local_fallback;
            Choice { endpoints: &choice.cluster, drop: drop.then_some(Set::DropOutside) }
        }
        TrafficPolicy::Cluster => Choice { endpoints: &choice.cluster, drop: None },
    }
}

impl Planner<'_> {
    fn entry(&mut self, set: Set, entry: Entry) {
        self.planned.items.push(Item::Entry(set, entry));
    }

    fn server(&mut self, ip: IpAddr, port: u16, choice: &Choice<'_>) {
        let protocol = self.port.protocol.number();
        let key = ServerKey { protocol, address: SocketAddr::new(ip, port) };
        if let Some(set) = choice.drop {
            self.entry(set, Entry::IpPort(ip, protocol, port));
        }
        let ready = |endpoint: &&Endpoint| endpoint.is_ready() || endpoint.is_serving_terminating();
        let mut destinations: Vec<_> =
            choice.endpoints.iter().filter(ready).map(Endpoint::socket_address).collect();
        destinations.sort_unstable();
        destinations.dedup();
        self.planned.servers.push((key, Wanted { server: self.server.clone(), destinations }));
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
        let Some(ranges) = &self.port.load_balancer_source_ranges else { return };
        let (protocol, port) = (self.port.protocol.number(), self.port.port.get());
        self.entry(Set::LoadBalancerFirewall, Entry::IpPort(vip, protocol, port));
        for net in ranges.iter() {
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
