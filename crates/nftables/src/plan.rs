//! The elements of one service port: a pure function of what it is, which frontends it has, and which endpoints it uses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube_proxy_core::{ServiceEntry, ServicePort, ServicePortName, TrafficPolicy};
use kube_proxy_netlink::nf_tables::user_data;

use crate::Config;
use crate::chain::{Balance, Chain, Endpoints, KeyKind, Masquerade, Remember, Sessions};
use crate::element::{Frontend, Item, Key, SetId, Value};
use crate::range::{Range, from_nets, merge};
use crate::shares::Share;
use crate::slots::{Slot, assign};

/// What the node has, or is to have, for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The service port.
    pub(crate) port: ServicePort,
    /// Its frontends, without those that another service port has.
    pub(crate) frontends: Box<[(Frontend, Role)]>,
    /// The endpoints for the `Cluster` policy, by slot.
    pub(crate) cluster: Box<[Slot]>,
    /// The endpoints for the `Local` policy, by slot.
    pub(crate) local: Box<[Slot]>,
    /// Some endpoint somewhere can take traffic.
    has_any: bool,
    /// The node itself is within the source ranges: then so are the load-balancer addresses, as which it may appear.
    node_is_source: bool,
    /// For elements: the name of the service port.
    comment: Arc<str>,
}

/// How the clients of a service port stay with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// What their sessions are known by.
    pub(crate) sessions: Sessions,
    /// For how many seconds without a new connection.
    pub(crate) timeout: u32,
}

/// What a frontend is, as far as that matters to its traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A cluster IP.
    ClusterIp,
    /// An external IP or node port.
    External,
    /// A load-balancer VIP.
    LoadBalancer,
}

/// The slots that a service port had before, as far as is known: endpoints keep theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OldSlots {
    /// Of the cluster endpoints.
    pub(crate) cluster: Vec<SocketAddr>,
    /// Of the local endpoints.
    pub(crate) local: Vec<SocketAddr>,
}

impl OldSlots {
    /// Those of an earlier plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let addresses = |slots: &[Slot]| slots.iter().map(Slot::address).collect();
        Self { cluster: addresses(&plan.cluster), local: addresses(&plan.local) }
    }
}

/// All frontends that a service port asks for, each once.
pub(crate) fn frontends(port: &ServicePort) -> Vec<(Frontend, Role)> {
    let address = |ip: IpAddr| Frontend::Address(ip, port.protocol, port.port.get());
    let mut all = vec![(address(port.cluster_ip), Role::ClusterIp)];
    let vips = port.load_balancer_vips.iter().map(|ip| (address(*ip), Role::LoadBalancer));
    let external = port.external_ips.iter().map(|ip| (address(*ip), Role::External));
    for (frontend, role) in vips.chain(external) {
        if !all.iter().any(|(known, _)| *known == frontend) {
            all.push((frontend, role));
        }
    }
    if let Some(node_port) = port.node_port {
        all.push((Frontend::NodePort(port.protocol, node_port.get()), Role::External));
    }
    all
}

impl Plan {
    /// Plans a service port that has those of its frontends for which `has` is true.
    pub(crate) fn new(
        name: &ServicePortName,
        entry: &ServiceEntry,
        node_ip: Option<IpAddr>,
        old: &OldSlots,
        has: impl Fn(&Frontend) -> bool,
    ) -> Self {
        let ServiceEntry { port, choice, .. } = entry;
        let ranges = port.load_balancer_source_ranges.as_deref().unwrap_or_default();
        let all = frontends(port).into_iter();
        Self {
            port: port.clone(),
            frontends: all.filter(|(frontend, _)| has(frontend)).collect(),
            cluster: assign(&old.cluster, &choice.cluster),
            local: assign(&old.local, &choice.local),
            has_any: choice.has_any,
            node_is_source: node_ip.is_some_and(|ip| ranges.iter().any(|net| net.contains(&ip))),
            comment: user_data::cut(&name.to_string()).into(),
        }
    }

    /// Hands each element of the service port to `put`, but for those that it shares with others.
    pub(crate) fn elements(&self, config: &Config, put: &mut impl FnMut(SetId, Item)) {
        for (frontend, role) in &self.frontends {
            self.dispatch(config, frontend, *role, put);
            for endpoints in self.lists_of(*role) {
                self.slots(frontend, endpoints, put);
            }
            if *role == Role::LoadBalancer {
                self.firewall(frontend, put);
            }
        }
    }

    /// Hands each thing that it shares with other service ports to `put`, perhaps more than once.
    pub(crate) fn shares(&self, config: &Config, put: &mut impl FnMut(Share)) {
        put(Share::ClusterIp(self.port.cluster_ip));
        for slot in self.cluster.iter().chain(&self.local) {
            if slot.local {
                put(Share::Hairpin(slot.ip, self.port.protocol, slot.port));
            }
        }
        if self.affinity().is_none() {
            return;
        }
        for (frontend, role) in &self.frontends {
            self.dispatch(config, frontend, *role, &mut |_, item| {
                let mut next = item.chain();
                while let Some(chain) = next.filter(Chain::is_of_one_service) {
                    put(Share::Chain(chain));
                    next = chain.leads_to();
                }
            });
        }
    }

    /// How clients stay with an endpoint.
    pub(crate) fn affinity(&self) -> Option<Affinity> {
        let timeout = self.port.session_affinity?;
        let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        // The cluster IP comes first; another service port may have it, but no two have the same frontend.
        let mut frontends = self.frontends.iter();
        let sessions = frontends.find_map(|(frontend, _)| match *frontend {
            Frontend::Address(ip, protocol, port) => Some(Sessions { ip, protocol, port }),
            Frontend::NodePort(..) => None,
        });
        Some(Affinity { sessions: sessions?, timeout })
    }

    /// Whether this is one of the endpoints of a list, so that sessions with it may go on.
    pub(crate) fn has_endpoint(&self, endpoints: Endpoints, address: SocketAddr) -> bool {
        self.list(endpoints).iter().any(|slot| slot.address() == address)
    }

    /// The endpoints of a list, by slot.
    pub(crate) fn list(&self, endpoints: Endpoints) -> &[Slot] {
        match endpoints {
            Endpoints::Cluster => &self.cluster,
            Endpoints::Local => &self.local,
        }
    }

    /// The lists that the traffic of a frontend uses.
    fn lists_of(&self, role: Role) -> impl Iterator<Item = Endpoints> {
        let policy = self.policy(role);
        // Traffic from this node and its pods is short-circuited to all endpoints.
        let cluster = policy == TrafficPolicy::Cluster || role != Role::ClusterIp;
        let local = policy == TrafficPolicy::Local;
        let lists = [(cluster, Endpoints::Cluster), (local, Endpoints::Local)];
        lists.into_iter().filter_map(|(used, list)| used.then_some(list))
    }

    fn policy(&self, role: Role) -> TrafficPolicy {
        match role {
            Role::ClusterIp => self.port.internal_traffic_policy,
            Role::External | Role::LoadBalancer => self.port.external_traffic_policy,
        }
    }

    /// Where the traffic of a frontend goes.
    fn dispatch(
        &self,
        config: &Config,
        frontend: &Frontend,
        role: Role,
        put: &mut impl FnMut(SetId, Item),
    ) {
        let (kind, key, policy) = (frontend.kind(), frontend.key(), self.policy(role));
        let mut put =
            |set, value| put(set, Item { comment: Some(self.comment.clone()), key, value });
        let masquerade = match (role, policy) {
            (Role::ClusterIp, _) => internal_masquerade(config),
            (_, TrafficPolicy::Cluster) => Masquerade::Always,
            (_, TrafficPolicy::Local) => Masquerade::Never,
        };
        let entry = self.balance(kind, Endpoints::of(policy));
        let short = self.balance(kind, Endpoints::Cluster);
        let short = short.filter(|_| role != Role::ClusterIp && policy == TrafficPolicy::Local);
        if let Some(remember) = self.remember().filter(|_| entry.or(short).is_some()) {
            put(SetId::remember(kind), Value::Goto(Chain::Remember(remember)));
        }
        match entry {
            Some(balance) => {
                put(SetId::dispatch(kind), Value::Goto(Chain::Entry(masquerade, balance)));
            }
            None if self.has_any => put(SetId::no_endpoint(kind), Value::Drop),
            None => put(SetId::no_endpoint(kind), Value::Goto(Chain::Reject)),
        }
        if let Some(balance) = short {
            let chain = Chain::Entry(Masquerade::Node, balance);
            put(SetId::short_circuit(kind), Value::Goto(chain));
        }
    }

    /// How its sessions are remembered, if it has any.
    fn remember(&self) -> Option<Remember> {
        let Affinity { sessions, timeout } = self.affinity()?;
        let local = |role: &Role| self.policy(*role) == TrafficPolicy::Local;
        let local = self.frontends.iter().any(|(_, role)| local(role));
        Some(Remember { sessions, timeout, local })
    }

    /// What picks an endpoint of a list; `None` if there is none.
    fn balance(&self, key: KeyKind, endpoints: Endpoints) -> Option<Balance> {
        let count = u32::try_from(self.list(endpoints).len()).ok().filter(|count| *count > 0)?;
        Some(Balance { key, endpoints, count, affinity: self.affinity().map(|a| a.sessions) })
    }

    /// Which endpoint each slot of a frontend stands for.
    fn slots(&self, frontend: &Frontend, endpoints: Endpoints, put: &mut impl FnMut(SetId, Item)) {
        let (kind, key) = (frontend.kind(), frontend.key());
        for (number, slot) in (0..).zip(self.list(endpoints)) {
            let value = Value::Endpoint(slot.address());
            put(SetId::endpoints(kind, endpoints), Item::new(key.slot(number), value));
        }
    }

    /// Who may use a load-balancer VIP, if not everybody.
    fn firewall(&self, frontend: &Frontend, put: &mut impl FnMut(SetId, Item)) {
        let Some(nets) = &self.port.load_balancer_source_ranges else { return };
        let Frontend::Address(vip, ..) = *frontend else { return };
        let comment = Some(self.comment.clone());
        put(SetId::FirewallIps, Item { key: frontend.key(), value: Value::None, comment });
        let itself = self.node_is_source.then_some(Range { first: vip, last: vip });
        for range in merge(from_nets(nets).into_iter().chain(itself)) {
            let until = Value::Until(Box::new(frontend.key().ip(range.last)));
            put(SetId::FirewallSources, Item::new(frontend.key().ip(range.first), until));
        }
    }
}

/// Which traffic to cluster IPs is masqueraded.
fn internal_masquerade(config: &Config) -> Masquerade {
    if config.masquerade_all {
        Masquerade::Always
    } else if config.local_traffic.is_known() {
        Masquerade::Outside
    } else {
        Masquerade::Never
    }
}

/// Elements of a set of plain intervals.
pub(crate) fn interval_items(ranges: &[Range]) -> impl Iterator<Item = Item> {
    ranges.iter().flat_map(|range| {
        let first = Item::new(Key::new().ip(range.first), Value::None);
        // Intervals up to the last address of all have no end.
        let end = range.end().map(|end| Item::new(Key::new().ip(end).interval_end(), Value::None));
        std::iter::once(first).chain(end)
    })
}

#[cfg(test)]
mod tests;
