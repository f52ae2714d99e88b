//! What the backend is told once.

use std::num::NonZeroU32;

use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses, Protocol};
use kube_proxy_netlink::Family;

/// What the backend of one family has to know besides snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The family.
    pub family: IpFamily,
    /// All traffic to cluster IPs is masqueraded.
    pub masquerade_all: bool,
    /// The packet mark that asks for masquerading; one bit.
    pub masquerade_mark: u32,
    /// How traffic from pods of this node is recognised.
    pub local_traffic: LocalTrafficDetector,
    /// Which of the node's addresses take NodePort traffic.
    pub node_ports: NodePortAddresses,
    /// Protocols that are refused at node ports on loopback addresses; all others are left to who listens there.
    pub refused_on_loopback: Vec<Protocol>,
    /// Forwarded connections with more packets than this, of both directions, pass by the rules in a flowtable; `None` for none.
    pub offload_after: Option<NonZeroU32>,
    /// Packets that source ranges drop are counted by service port, which takes a map; what gets no endpoint for another reason is always counted.
    pub count_refused: bool,
    /// Services may be in or out of the fast path by annotation.
    pub fast_path_choice: bool,
}

/// The threshold where Services ask for the fast path and the node names none: beyond short connections.
const OFFLOAD_AFTER: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

impl Config {
    /// The family, as netlink names it.
    pub(crate) fn netlink_family(&self) -> Family {
        netlink_family(self.family)
    }

    /// How many packets an offloaded connection has had.
    pub(crate) fn offload_threshold(&self) -> NonZeroU32 {
        self.offload_after.unwrap_or(OFFLOAD_AFTER)
    }
}

/// A family, as netlink names it.
pub(crate) fn netlink_family(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    }
}
