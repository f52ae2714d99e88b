//! The userspace backend: a listening port for each service port, rules that bring traffic there, and connections that this
//! process copies to endpoints.
//!
//! ```text
//! Snapshot ─▶ backend.rs ─▶ which ports to listen on, which endpoints each has ─▶ data_path.rs ─▶ tcp.rs, udp.rs
//!                  └─ rules.rs ─▶ rules by frontend ─▶ table.rs ─▶ iptables-restore
//! ```
//!
//! * `balance.rs` decides which endpoint is next: pure data.
//! * `relay.rs` copies; it is the part that has to be fast.
//! * `table.rs` compares rules with what is on the node, `existing.rs` reads what is there.
//! * `flows.rs` deletes tracked UDP flows that the rules made wrong.
//!
//! The data path runs on a runtime of its own. It ends with the process, and so do its connections.

mod actual;
mod backend;
mod balance;
mod compare;
mod copy_strategy;
mod data_path;
mod flows;
mod limits;
mod local_node_ports;
mod look_up;
mod observer;
mod own;
mod packet_info;
mod port;
mod proxy_header;
mod relay;
mod remove;
mod rules;
mod service;
mod table;
mod tcp;
mod traffic;
mod udp;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use kube_proxy_core::{IpFamily, LocalTrafficDetector, NodePortAddresses};
use kube_proxy_xtables::Variant;

pub use backend::UserspaceBackend;
pub use local_node_ports::LocalNodePorts;
pub use observer::{Activity, LocalNodePortCounts, Observer};
pub use remove::remove;

/// How one family is served.
#[derive(Clone, Debug)]
pub struct Config {
    /// The family.
    pub family: IpFamily,
    /// Which iptables to use.
    pub variant: Variant,
    /// The address to listen on; unspecified for all of them.
    pub listen: IpAddr,
    /// The ports to listen on; `None` for any.
    pub port_range: Option<RangeInclusive<u16>>,
    /// A UDP client that is silent for so long is forgotten.
    pub udp_idle: Duration,
    /// How traffic of local pods is recognised.
    pub local_traffic: LocalTrafficDetector,
    /// Which addresses of the node take NodePort traffic.
    pub node_ports: NodePortAddresses,
    /// Whether NodePorts may be used on loopback addresses, if [`node_ports`](Self::node_ports) has them.
    pub localhost_node_ports: bool,
    /// For how long an endpoint that could not be reached gets no new connections while there are others; zero to keep trying.
    pub rest: Duration,
    /// Whether a connection that carries much is moved by `splice(2)`, or copied through this process like any other.
    pub splice: bool,
    /// Who is told what happens.
    pub observer: Observer,
}
