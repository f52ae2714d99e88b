//! What a Service asks for its traffic, and what that means for each kind of frontend: decided here, mapped by backends.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ipnet::IpNet;

use crate::{Algorithm, IpFamily, SlowStart};

/// Which endpoints a frontend may use: all of the cluster or only those on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficPolicy {
    /// Every endpoint of the cluster.
    #[default]
    Cluster,
    /// Only endpoints on this node; the client address is kept.
    Local,
}

impl TrafficPolicy {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Local];
}

/// What becomes of traffic from outside for an external frontend under the `Local` policy, while this node has no endpoint for it and
/// others have (KEP-6272).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoLocalEndpoints {
    /// It is dropped: a load balancer that still sends here tries again elsewhere.
    #[default]
    Drop,
    /// The client is refused at once.
    Reject,
    /// No rule is written: the packet goes where the routes of the node lead it.
    Passthrough,
}

impl NoLocalEndpoints {
    /// The word for it, as the flag and the annotation have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Passthrough => "passthrough",
        }
    }
}

impl FromStr for NoLocalEndpoints {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "drop" => Ok(Self::Drop),
            "reject" => Ok(Self::Reject),
            "passthrough" => Ok(Self::Passthrough),
            _ => Err("not drop, reject or passthrough"),
        }
    }
}

/// How few ready endpoints a zone may have left before those of other zones join them.
///
/// Zone hints keep the traffic of a node in its zone, however few endpoints are left there. This is what stops that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ZoneSpill {
    /// Fewer than this number.
    Below(u32),
    /// Fewer than this percentage of all that are ready.
    BelowPercent(u8),
}

/// Never.
impl Default for ZoneSpill {
    fn default() -> Self {
        Self::Below(0)
    }
}

impl ZoneSpill {
    /// Whether so many in the zone, of all that are ready, are too few.
    pub fn is_due(self, in_zone: usize, ready: usize) -> bool {
        match self {
            Self::Below(least) => u32::try_from(in_zone).is_ok_and(|in_zone| in_zone < least),
            Self::BelowPercent(percent) => {
                in_zone.saturating_mul(100) < ready.saturating_mul(percent.into())
            }
        }
    }
}

impl FromStr for ZoneSpill {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let read = match text.strip_suffix('%') {
            Some(percent) => Some(percent)
                .filter(|percent| is_number(percent))
                .and_then(|percent| percent.parse().ok())
                .filter(|percent| *percent <= 100)
                .map(Self::BelowPercent),
            None => Some(text)
                .filter(|text| is_number(text))
                .and_then(|text| text.parse().ok())
                .map(Self::Below),
        };
        read.ok_or("not a number of endpoints, and not a percentage from 0% to 100%")
    }
}

/// As it is written: `3`, `25%`.
impl fmt::Display for ZoneSpill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(least) => write!(f, "{least}"),
            Self::BelowPercent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What a Service asks for the traffic of all its ports. A field that is added here reaches every backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePolicy {
    /// `spec.internalTrafficPolicy`: for the cluster IP.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`: for node ports, external IPs and load-balancer VIPs. In a snapshot `Cluster` when there are none.
    pub external_traffic_policy: TrafficPolicy,
    /// What happens without local endpoints, where an annotation says so; in a snapshot also where the default is not to drop.
    pub no_local_endpoints: Option<NoLocalEndpoints>,
    /// When endpoints of other zones join those of this node's, where an annotation says so; in a snapshot also where the default is not never.
    pub zone_spill: Option<ZoneSpill>,
    /// Connections to endpoints that left are ended.
    pub reset_dead_connections: bool,
    /// How an endpoint is chosen, where an annotation says so; in a snapshot where it is not at random, and the mode has it.
    pub algorithm: Option<Algorithm>,
    /// Over which time the share of a new endpoint grows, where an annotation says so.
    pub slow_start: Option<SlowStart>,
    /// `spec.loadBalancerSourceRanges`. Empty lets everybody in. In a snapshot those of the family, sorted, host bits cleared.
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// The timeout of `ClientIP` session affinity; `None` means no affinity.
    pub session_affinity: Option<Duration>,
    /// `spec.healthCheckNodePort` where it applies (type `LoadBalancer` with external policy `Local`).
    pub health_check_node_port: Option<NonZeroU16>,
    /// Annotations for modes that have settings of their own. In a snapshot those that the backend names
    /// ([`ProxyBackend::annotations`](crate::ProxyBackend::annotations)).
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
}

/// What most Services ask for, stored once.
static DEFAULT: LazyLock<Arc<ServicePolicy>> = LazyLock::new(Arc::default);

impl ServicePolicy {
    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(|value| &**value)
    }

    /// The policy as the ports of one family share it.
    pub(crate) fn of_family(&self, family: IpFamily) -> Arc<Self> {
        if *self == **DEFAULT {
            return DEFAULT.clone();
        }
        let mut own = self.clone();
        own.load_balancer_source_ranges = self.source_ranges(family);
        own.shared()
    }

    /// One allocation for all that are the default.
    pub(crate) fn shared(self) -> Arc<Self> {
        if self == **DEFAULT { DEFAULT.clone() } else { Arc::new(self) }
    }

    /// The source ranges of one family; empty when everybody is let in: no range of that family, or one that holds every address.
    fn source_ranges(&self, family: IpFamily) -> Vec<IpNet> {
        let all = self.load_balancer_source_ranges.iter().map(IpNet::trunc);
        let mut own: Vec<_> = all.filter(|net| IpFamily::of_net(net) == family).collect();
        if own.iter().any(|net| net.prefix_len() == 0) {
            return Vec::new();
        }
        own.sort_unstable();
        own.dedup();
        own
    }
}

/// What becomes of packets for the frontends of one kind of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment<'a> {
    /// Which endpoints packets may go to.
    pub policy: TrafficPolicy,
    /// Traffic from this node and its pods may go to every endpoint of the cluster, whatever the policy: the external policy `Local`.
    pub short_circuit: bool,
    /// Which packets get the address of this node.
    pub masquerade: Masquerade,
    /// Why they go to no endpoint, if the policy allows none.
    pub unserved: Option<Unserved>,
    /// Who may use the frontend; `None` is everybody.
    pub sources: Option<&'a [IpNet]>,
}

/// Which packets get the address of this node, so that answers come back through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// Those that are known not to come from a pod of this node.
    FromElsewhere,
    /// All of them.
    Always,
    /// None: the client address is kept.
    Never,
}

/// Why packets for a frontend go to no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// There is none anywhere.
    NoEndpoints,
    /// There are some, but the policy allows none of them; and what becomes of the packets.
    NoLocalEndpoints(NoLocalEndpoints),
}

impl Unserved {
    /// What becomes of the packets: refused at once where there is no endpoint anywhere.
    pub fn action(self) -> NoLocalEndpoints {
        match self {
            Self::NoEndpoints => NoLocalEndpoints::Reject,
            Self::NoLocalEndpoints(action) => action,
        }
    }
}

#[cfg(test)]
mod tests;
