//! The ipvs backend: every frontend is a virtual server of the kernel's load balancer.
//!
//! ```text
//! Snapshot ─plan─▶ servers, addresses, set entries ─diff─▶ Delta ─▶ kernel
//!          plan.rs                                state.rs  sync.rs, servers.rs, kernel.rs
//! ```
//!
//! * `layout.rs` is the table of sets, chains and rules; the rules never depend on a service, they look packets up in the sets.
//! * `drain.rs` lets connections of endpoints that go come to their end.
//! * `actual.rs` compares with what is on the node, for full syncs, and reports what is ours.
//! * `cleanup.rs` removes it all, and `kept.rs` says what of it has to wait for connections (`connections.rs`) to end.
//! * `marks.rs` gives marks to service ports whose frontends treat clients on this node in another way, and `marking.rs` writes what they need.
//! * `needed.rs` says which addresses this node must not take for itself.
//! * `look.rs` checks whether all is still there; `watch.rs` says when. `look_up.rs` says what serves one frontend.
//! * `sysctls.rs` sets what the mode needs of the kernel.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses};
use kube_proxy_xtables::Variant;

mod actual;
mod backend;
mod cleanup;
mod compare;
mod connections;
mod drain;
#[cfg(test)]
mod fake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod kept;
mod kernel;
mod layout;
mod look;
mod look_up;
mod marking;
mod marks;
mod needed;
mod plan;
mod rebuild;
mod scheduler;
mod servers;
mod state;
mod sync;
mod sysctls;
mod watch;

pub use backend::IpvsBackend;
pub use cleanup::{Connections, remove};
pub use layout::SHARED_CHAINS;
pub use scheduler::SCHEDULER;

/// The interface that holds the addresses of services.
const DEVICE: &str = "kube-ipvs0";

/// How the virtual servers of one family are made.
#[derive(Clone, Debug)]
pub struct Config {
    /// The family.
    pub family: IpFamily,
    /// Masquerade everything that is sent to a cluster IP.
    pub masquerade_all: bool,
    /// The packet mark that asks for masquerading: `1 << masqueradeBit`.
    pub masquerade_mark: u32,
    /// The bits of packet marks by which clients on this node reach every endpoint; 0 for none. That of `masquerade_mark` is left out.
    pub mark_mask: u32,
    /// How traffic of local pods is recognised.
    pub local_traffic: LocalTrafficDetector,
    /// Which addresses of the node take NodePort traffic; loopback never does.
    pub node_ports: NodePortAddresses,
    /// The scheduler of virtual servers whose Service does not ask for another one.
    pub scheduler: String,
    /// Virtual servers and addresses in these networks are never removed.
    pub exclude_cidrs: Vec<IpNet>,
    /// Set `arp_ignore` and `arp_announce`, so that the node does not answer for the addresses of services.
    pub strict_arp: bool,
    /// Timeout of idle TCP connections; `None` keeps the kernel's, as for the next two.
    pub tcp_timeout: Option<Duration>,
    /// Timeout of TCP connections after FIN.
    pub tcp_fin_timeout: Option<Duration>,
    /// Timeout of UDP flows.
    pub udp_timeout: Option<Duration>,
    /// With a `Local` policy and no local endpoint, use the endpoints of other nodes.
    pub local_fallback: bool,
    /// How long the connections of an endpoint that goes may continue; zero for no limit.
    pub drain_timeout: Duration,
    /// Which iptables to use.
    pub variant: Variant,
}

impl Config {
    /// Whether something with this address must never be removed.
    fn excludes(&self, ip: &IpAddr) -> bool {
        self.exclude_cidrs.iter().any(|net| net.contains(ip))
    }
}
