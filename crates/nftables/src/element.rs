//! Elements of our sets and maps, as values: what is planned, compared, and written.

use std::net::SocketAddr;
use std::sync::Arc;

use kube_proxy_core::TrafficPolicy;

use crate::chain::Chain;
use crate::key::{Key, KeyKind};

/// One of the table's sets and maps; `layout` describes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum SetId {
    FrontendIps,
    FrontendNodeports,
    ShortCircuitIps,
    ShortCircuitNodeports,
    UnservedIps,
    UnservedNodeports,
    LoopbackNodeports,
    ClusterEndpoints,
    LocalEndpoints,
    NodeportClusterEndpoints,
    NodeportLocalEndpoints,
    StickyIps,
    StickyNodeports,
    FirewallAddresses,
    FirewallSources,
    FirewallDropped,
    ClusterIps,
    ServiceCidrs,
    NodeportAddresses,
    HairpinConnections,
    ClientAffinity,
    ClientAffinityLocal,
    FastPathIps,
    FastPathNodeports,
}

impl SetId {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 24] = [
        Self::FrontendIps,
        Self::FrontendNodeports,
        Self::ShortCircuitIps,
        Self::ShortCircuitNodeports,
        Self::UnservedIps,
        Self::UnservedNodeports,
        Self::LoopbackNodeports,
        Self::ClusterEndpoints,
        Self::LocalEndpoints,
        Self::NodeportClusterEndpoints,
        Self::NodeportLocalEndpoints,
        Self::StickyIps,
        Self::StickyNodeports,
        Self::FirewallAddresses,
        Self::FirewallSources,
        Self::FirewallDropped,
        Self::ClusterIps,
        Self::ServiceCidrs,
        Self::NodeportAddresses,
        Self::HairpinConnections,
        Self::ClientAffinity,
        Self::ClientAffinityLocal,
        Self::FastPathIps,
        Self::FastPathNodeports,
    ];

    /// From a frontend to the chain for its traffic.
    pub(crate) fn dispatch(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::FrontendIps,
            KeyKind::NodePort => Self::FrontendNodeports,
        }
    }

    /// From an external frontend under the `Local` policy to the chain for traffic from this node and its pods.
    pub(crate) fn short_circuit(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::ShortCircuitIps,
            KeyKind::NodePort => Self::ShortCircuitNodeports,
        }
    }

    /// From a frontend without endpoints to what becomes of its traffic.
    pub(crate) fn unserved(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::UnservedIps,
            KeyKind::NodePort => Self::UnservedNodeports,
        }
    }

    /// From a frontend and a slot to an endpoint.
    pub(crate) fn endpoints(key: KeyKind, endpoints: TrafficPolicy) -> Self {
        match (key, endpoints) {
            (KeyKind::Address, TrafficPolicy::Cluster) => Self::ClusterEndpoints,
            (KeyKind::Address, TrafficPolicy::Local) => Self::LocalEndpoints,
            (KeyKind::NodePort, TrafficPolicy::Cluster) => Self::NodeportClusterEndpoints,
            (KeyKind::NodePort, TrafficPolicy::Local) => Self::NodeportLocalEndpoints,
        }
    }

    /// From a frontend with session affinity to the chain that remembers.
    pub(crate) fn remember(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::StickyIps,
            KeyKind::NodePort => Self::StickyNodeports,
        }
    }

    /// The frontends that are in the fast path, or not, other than the rest of the node.
    pub(crate) fn fast_path(key: KeyKind) -> Self {
        match key {
            KeyKind::Address => Self::FastPathIps,
            KeyKind::NodePort => Self::FastPathNodeports,
        }
    }

    /// From a client and a service port to the endpoint of the session, among the endpoints of a list.
    pub(crate) fn sessions(endpoints: TrafficPolicy) -> Self {
        match endpoints {
            TrafficPolicy::Cluster => Self::ClientAffinity,
            TrafficPolicy::Local => Self::ClientAffinityLocal,
        }
    }

    /// The maps whose elements refuse or drop packets of one service port, and count them.
    pub(crate) const REFUSING: [Self; 3] =
        [Self::UnservedIps, Self::UnservedNodeports, Self::FirewallDropped];

    /// Whether its elements are intervals of plain addresses: a set that is written whole or not at all.
    ///
    /// The kernel keeps where an interval begins and where it ends as two elements, and newer kernels refuse the one without the other,
    /// or in another order.
    pub(crate) fn is_plain_intervals(self) -> bool {
        matches!(self, Self::ServiceCidrs | Self::NodeportAddresses)
    }

    /// Whether rules put elements into it, which we only read.
    pub(crate) fn holds_sessions(self) -> bool {
        matches!(self, Self::ClientAffinity | Self::ClientAffinityLocal)
    }
}

/// What an element holds besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing.
    None,
    /// The end of the interval that the key begins.
    Until(Box<Key>),
    /// An endpoint.
    Endpoint(SocketAddr),
    /// The packet is dropped.
    Drop,
    /// The packet continues in a chain.
    Goto(Chain),
    /// Something that we never write.
    Foreign,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its key.
    pub(crate) key: Key,
    /// What else it holds.
    pub(crate) value: Value,
    /// Its comment.
    pub(crate) comment: Option<Arc<str>>,
}

impl Item {
    /// An element of a set, or one with a value and no comment.
    pub(crate) fn new(key: Key, value: Value) -> Self {
        Self { key, value, comment: None }
    }

    /// The chain that it leads to.
    pub(crate) fn chain(&self) -> Option<Chain> {
        self.value.chain()
    }
}

impl Value {
    /// The chain that it leads to.
    pub(crate) fn chain(&self) -> Option<Chain> {
        match self {
            Self::Goto(chain) => Some(*chain),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
