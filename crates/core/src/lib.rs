//! The pure heart of the proxy: what a Service and its endpoints are, which of them take traffic, and when a node has to be written again.
//!
//! The flow is one line:
//!
//! ```text
//! Event ──▶ Tracker ──fold──▶ Snapshot + Changes ──▶ ProxyBackend::sync
//! ```
//!
//! * A *source* (the Kubernetes API, a directory of manifests, your own) turns what it reads into [`Event`]s.
//! * The [`Tracker`] of one IP family keeps the objects in their normalised form and notices what really changed.
//! * [`Tracker::fold`] brings the [`Snapshot`] up to date and says which service ports differ.
//! * A [`ProxyBackend`] makes the node match the snapshot.
//! * [`Proxy`] ties the three together with the [`Scheduler`], which decides when.
//!
//! Nothing in here does I/O, reads a clock, starts a thread or knows a Kubernetes type; time is always passed in.
//! `examples/print_changes.rs` embeds the crate with a backend of its own.

pub mod backend;
pub mod claims;
pub mod conntrack;
pub mod endpoint;
pub mod event;
pub mod family;
pub mod local_traffic;
pub mod name;
pub mod node;
pub mod node_port;
pub mod proxy;
pub mod scheduler;
pub mod service;
pub mod snapshot;
pub mod topology;
pub mod tracker;

#[cfg(test)]
mod testing;

pub use backend::{
    Bytes, Count, ProxyBackend, Removed, Scope, SyncError, SyncReport, Traffic, Waker,
};
pub use claims::{Claims, Handover};
pub use endpoint::{Conditions, Endpoint, EndpointSlice, SliceEndpoint, SlicePort};
pub use event::{Event, Kind};
pub use family::{IpFamily, PerFamily, Protocol};
pub use local_traffic::LocalTrafficDetector;
pub use name::{ObjectName, ServicePortName};
pub use node::Node;
pub use node_port::NodePortAddresses;
pub use proxy::{Outcome, Proxy};
pub use scheduler::{Intervals, Scheduler};
pub use service::{Port, ProxyProtocol, Service, ServicePort, TrafficPolicy};
pub use snapshot::{Changes, ServiceEntry, Snapshot};
pub use topology::EndpointChoice;
pub use tracker::{Tracker, TrackerOptions};
