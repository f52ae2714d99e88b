//! The elements of one service port: a pure function of what it is, which frontends it has, and which endpoints it uses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kube_proxy_core::{
    Algorithm, Frontend, FrontendKind, NoLocalEndpoints, RefusedReason, ServiceEntry, ServicePort,
    ServicePortName, TrafficPolicy, Treatment, Unserved,
};
use kube_proxy_netlink::nf_tables::user_data;

use crate::Config;
use crate::chain::{Balance, Chain, Masquerade, Pick, Remember, Sessions};
use crate::element::{Item, SetId, Value};
use crate::fast_path::Wish as FastPathWish;
use crate::key::{Key, KeyKind, Keyed as _};
use crate::range::{Range, from_nets, merge};
use crate::shares::Share;
use crate::slots::{Slot, Slots};

/// What the node has, or is to have, for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The service port with its endpoints, as the snapshot had it.
    entry: Arc<ServiceEntry>,
    /// The slots of the endpoints for the `Cluster` policy.
    cluster: Slots,
    /// The slots of the endpoints for the `Local` policy.
    local: Slots,
    /// The node itself is within the source ranges: then so are the load-balancer addresses, as which it may appear.
    node_is_source: bool,
}

/// How the clients of a service port stay with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affinity {
    /// What their sessions are known by.
    pub(crate) sessions: Sessions,
    /// For how many seconds without a new connection.
    pub(crate) timeout: u32,
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
        let addresses = |list| plan.list(list).map(|slot| slot.address()).collect();
        Self { cluster: addresses(TrafficPolicy::Cluster), local: addresses(TrafficPolicy::Local) }
    }
}

impl Plan {
    /// Plans a service port.
    pub(crate) fn new(entry: &Arc<ServiceEntry>, node_ip: Option<IpAddr>, old: &OldSlots) -> Self {
        let ranges = entry.port.source_ranges().unwrap_or_default();
        // A client gets the same endpoint from every node, so slots depend on nothing but the endpoints.
        let none = OldSlots::default();
        let old = if by_source(&entry.port) { &none } else { old };
        Self {
            cluster: Slots::assign(&old.cluster, &entry.choice.cluster),
            local: Slots::assign(&old.local, &entry.choice.local),
            node_is_source: node_ip.is_some_and(|ip| ranges.iter().any(|net| net.contains(&ip))),
            entry: entry.clone(),
        }
    }

    /// The service port, with the frontends that it owns.
    pub(crate) fn port(&self) -> &ServicePort {
        &self.entry.port
    }

    /// Hands each element of the service port with this name to `put`, but for those that it shares with others.
    pub(crate) fn elements(
        &self,
        name: &ServicePortName,
        config: &Config,
        put: &mut impl FnMut(SetId, Item),
    ) {
        let comment: Arc<str> = user_data::cut(&name.to_string()).into();
        for (frontend, kind) in &self.port().frontends {
            self.dispatch(config, frontend, *kind, &mut |set, key, value| {
                put(set, Item { key, value, comment: Some(comment.clone()) });
            });
            if let Some((set, key, value)) = refused_on_loopback(config, frontend) {
                put(set, Item { key, value, comment: Some(comment.clone()) });
            }
            for endpoints in self.lists_of(*kind) {
                self.slots(frontend, endpoints, put);
            }
            if self.chooses_fast_path(config) {
                let comment = Some(comment.clone());
                let set = SetId::fast_path(frontend.key_kind());
                put(set, Item { key: frontend.key(), value: Value::None, comment });
            }
            if *kind == FrontendKind::LoadBalancerVip {
                self.firewall(config, frontend, &comment, put);
            }
        }
    }

    /// Hands each thing that it shares with other service ports to `put`, perhaps more than once.
    pub(crate) fn shares(&self, config: &Config, put: &mut impl FnMut(Share)) {
        // Also while another service port has it: then it is that one's cluster IP too.
        put(Share::ClusterIp(self.port().cluster_ip));
        if self.chooses_fast_path(config) {
            put(Share::Chain(Chain::FastPath));
        }
        for slot in TrafficPolicy::ALL.into_iter().flat_map(|list| self.list(list)) {
            if slot.local {
                put(Share::Hairpin(slot.ip, self.port().protocol, slot.port));
            }
        }
        if self.affinity().is_none() {
            return;
        }
        for (frontend, kind) in &self.port().frontends {
            self.dispatch(config, frontend, *kind, &mut |_, _, value| {
                let mut next = value.chain();
                while let Some(chain) = next.filter(Chain::is_of_one_service) {
                    put(Share::Chain(chain));
                    next = chain.leads_to();
                }
            });
        }
    }

    /// How clients stay with an endpoint.
    pub(crate) fn affinity(&self) -> Option<Affinity> {
        let timeout = self.port().policy.session_affinity?;
        let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).max(1);
        // The cluster IP comes first; another service port may have it, but no two have the same frontend.
        let mut frontends = self.port().frontends.iter();
        let sessions = frontends.find_map(|(frontend, _)| match *frontend {
            Frontend::Address(protocol, to) => {
                Some(Sessions { ip: to.ip(), protocol, port: to.port() })
            }
            Frontend::NodePort(..) => None,
        });
        Some(Affinity { sessions: sessions?, timeout })
    }

    /// Whether this is one of the endpoints of a list, so that sessions with it may continue.
    pub(crate) fn has_endpoint(&self, endpoints: TrafficPolicy, address: SocketAddr) -> bool {
        self.list(endpoints).any(|slot| slot.address() == address)
    }

    /// The endpoints of a list, by slot.
    pub(crate) fn list(&self, endpoints: TrafficPolicy) -> impl ExactSizeIterator<Item = Slot> {
        let slots = match endpoints {
            TrafficPolicy::Cluster => &self.cluster,
            TrafficPolicy::Local => &self.local,
        };
        slots.of(self.entry.choice.of(endpoints))
    }

    /// The lists that the traffic of a frontend uses: what is short-circuited uses all endpoints.
    fn lists_of(&self, kind: FrontendKind) -> impl Iterator<Item = TrafficPolicy> {
        let Treatment { policy, short_circuit, .. } = self.entry.treatment(kind);
        let used = move |list: &TrafficPolicy| {
            *list == policy || (short_circuit && *list == TrafficPolicy::Cluster)
        };
        TrafficPolicy::ALL.into_iter().filter(used)
    }

    /// Where the traffic of a frontend goes.
    fn dispatch(
        &self,
        config: &Config,
        frontend: &Frontend,
        kind: FrontendKind,
        put: &mut impl FnMut(SetId, Key, Value),
    ) {
        let (by, key) = (frontend.key_kind(), frontend.key());
        let Treatment { policy, short_circuit, masquerade, unserved, .. } =
            self.entry.treatment(kind);
        let mut put = |set, value| put(set, key, value);
        let masquerade = match masquerade {
            kube_proxy_core::Masquerade::FromElsewhere => internal_masquerade(config),
            kube_proxy_core::Masquerade::Always => Masquerade::Always,
            kube_proxy_core::Masquerade::Never => Masquerade::Never,
        };
        let entry = self.balance(by, policy);
        let short = self.balance(by, TrafficPolicy::Cluster).filter(|_| short_circuit);
        if let Some(remember) = self.remember().filter(|_| entry.or(short).is_some()) {
            put(SetId::remember(by), Value::Goto(Chain::Remember(remember)));
        }
        match entry {
            Some(balance) => {
                put(SetId::dispatch(by), Value::Goto(Chain::Entry(masquerade, balance)));
            }
            None => {
                if let Some(value) = unserved.and_then(without_endpoint) {
                    put(SetId::unserved(by), value);
                }
            }
        }
        if let Some(balance) = short {
            let chain = Chain::Entry(Masquerade::Node, balance);
            put(SetId::short_circuit(by), Value::Goto(chain));
        }
    }

    /// Whether its connections are in the fast path where those of others are not, or the reverse.
    fn chooses_fast_path(&self, config: &Config) -> bool {
        let wanted = FastPathWish::of(self.port());
        config.fast_path_choice
            && wanted
                .is_some_and(|wish| (wish == FastPathWish::In) != config.offload_after.is_some())
    }

    /// The elements whose packets get no endpoint, each with the reason.
    pub(crate) fn refusing(
        &self,
        config: &Config,
    ) -> impl Iterator<Item = (SetId, Frontend, RefusedReason)> {
        self.port().frontends.iter().flat_map(|(frontend, kind)| {
            let treatment = self.entry.treatment(*kind);
            let unserved =
                treatment.unserved.filter(|unserved| without_endpoint(*unserved).is_some());
            let unserved = unserved.map(|unserved| {
                let set = SetId::unserved(frontend.key_kind());
                (set, *frontend, RefusedReason::of(unserved, *kind))
            });
            let sources = (config.count_refused && treatment.sources.is_some()).then_some((
                SetId::FirewallDropped,
                *frontend,
                RefusedReason::SourceRanges,
            ));
            unserved.into_iter().chain(sources)
        })
    }

    /// How its sessions are remembered, if it has any.
    fn remember(&self) -> Option<Remember> {
        let Affinity { sessions, timeout } = self.affinity()?;
        let local = |kind: &FrontendKind| self.port().traffic_policy(*kind) == TrafficPolicy::Local;
        let local = self.port().frontends.iter().any(|(_, kind)| local(kind));
        Some(Remember { sessions, timeout, local })
    }

    /// What picks an endpoint of a list; `None` if there is none.
    fn balance(&self, key: KeyKind, endpoints: TrafficPolicy) -> Option<Balance> {
        let count = u32::try_from(self.list(endpoints).len()).ok().filter(|count| *count > 0)?;
        let pick = if by_source(self.port()) { Pick::Source } else { Pick::Random };
        let affinity = self.affinity().map(|affinity| affinity.sessions);
        Some(Balance { key, endpoints, count, pick, affinity })
    }

    /// Which endpoint each slot of a frontend stands for.
    fn slots(
        &self,
        frontend: &Frontend,
        endpoints: TrafficPolicy,
        put: &mut impl FnMut(SetId, Item),
    ) {
        let (by, key) = (frontend.key_kind(), frontend.key());
        for (number, slot) in (0..).zip(self.list(endpoints)) {
            let value = Value::Endpoint(slot.address());
            put(SetId::endpoints(by, endpoints), Item::new(key.number(number), value));
        }
    }

    /// Who may use a load-balancer VIP, if not everybody.
    fn firewall(
        &self,
        config: &Config,
        frontend: &Frontend,
        comment: &Arc<str>,
        put: &mut impl FnMut(SetId, Item),
    ) {
        let Some(nets) = self.port().source_ranges() else { return };
        let Some(vip) = frontend.ip() else { return };
        let (key, comment) = (frontend.key(), Some(comment.clone()));
        if config.count_refused {
            let comment = comment.clone();
            put(SetId::FirewallDropped, Item { key, value: Value::Drop, comment });
        }
        put(SetId::FirewallAddresses, Item { key, value: Value::None, comment });
        let itself = self.node_is_source.then_some(Range { first: vip, last: vip });
        for range in merge(from_nets(nets).into_iter().chain(itself)) {
            let until = Value::Until(Box::new(frontend.key().ip(range.last)));
            put(SetId::FirewallSources, Item::new(frontend.key().ip(range.first), until));
        }
    }
}

/// Whether endpoints are picked by the address of the client.
fn by_source(port: &ServicePort) -> bool {
    port.policy.algorithm == Some(Algorithm::SourceHash)
}

/// Loopback addresses of a node port that nothing listens at for this protocol.
fn refused_on_loopback(config: &Config, frontend: &Frontend) -> Option<(SetId, Key, Value)> {
    let Frontend::NodePort(protocol, _) = frontend else { return None };
    config
        .refused_on_loopback
        .contains(protocol)
        .then(|| (SetId::LoopbackNodeports, frontend.key(), Value::Goto(Chain::Reject)))
}

/// What becomes of traffic that no endpoint may take; `None` leaves it alone.
fn without_endpoint(unserved: Unserved) -> Option<Value> {
    match unserved.action() {
        NoLocalEndpoints::Drop => Some(Value::Drop),
        NoLocalEndpoints::Reject => Some(Value::Goto(Chain::Reject)),
        NoLocalEndpoints::Passthrough => None,
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
