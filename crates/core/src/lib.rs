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
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use kube_proxy_core::{
//!     Event, Intervals, IpFamily, Kind, NoLocalEndpoints, ObjectName, PerFamily, Port, Protocol,
//!     Proxy, ProxyBackend, Scope, Service, Snapshot, SyncError, SyncReport, TrackerOptions,
//!     ZoneSpill,
//! };
//!
//! /// A mode that writes nothing, and says what it would.
//! struct Shy;
//!
//! #[async_trait::async_trait]
//! impl ProxyBackend for Shy {
//!     async fn sync(&mut self, snapshot: &Snapshot, _: Scope<'_>) -> Result<SyncReport, SyncError> {
//!         snapshot.services.keys().for_each(|name| println!("{name} is to be served"));
//!         Ok(SyncReport::default())
//!     }
//!
//!     async fn intact(&mut self) -> Result<bool, SyncError> {
//!         Ok(true)
//!     }
//! }
//!
//! let options = TrackerOptions {
//!     family: IpFamily::V4,
//!     node_name: "node-a".into(),
//!     node_ip: None,
//!     allow_external_ips: false,
//!     no_local_endpoints: NoLocalEndpoints::Drop,
//!     zone_spill: ZoneSpill::default(),
//! };
//! let intervals = Intervals { min: Duration::ZERO, retry: Duration::from_secs(30), max: None };
//! let mut proxy = Proxy::new(options, intervals, Box::new(Shy));
//! let web = Service {
//!     cluster_ips: PerFamily { v4: Some([10, 96, 0, 10].into()), v6: None },
//!     ports: vec![Port {
//!         name: "http".into(),
//!         protocol: Protocol::Tcp,
//!         port: 80.try_into().expect("80 is not zero"),
//!         node_port: None,
//!     }],
//!     ..Service::new(ObjectName::new("default", "web"))
//! };
//! let now = Instant::now();
//! proxy.apply(Event::ServiceApplied(Arc::new(web)), now);
//! assert_eq!(proxy.due(), None, "nothing is written before the first lists are complete");
//! proxy.apply(Event::ListDone(Kind::Service), now);
//! proxy.apply(Event::ListDone(Kind::EndpointSlice), now);
//! assert!(proxy.due().is_some());
//! let outcome = futures::executor::block_on(proxy.sync(Instant::now)).expect("there is work");
//! assert!(outcome.result.is_ok() && outcome.full);
//! assert_eq!(proxy.snapshot().services.len(), 1);
//! ```

pub mod algorithm;
pub mod backend;
pub mod conntrack;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod family;
pub mod frontend;
pub mod kernel_object;
pub mod local_traffic;
pub mod maglev;
pub mod name;
pub mod node;
pub mod node_port;
mod owners;
pub mod policy;
pub mod proxy;
pub mod refused;
pub mod scheduler;
pub mod service;
pub mod session;
pub mod slow_start;
pub mod snapshot;
pub mod topology;
pub mod tracker;
pub mod trust;
pub mod weight;

#[cfg(any(test, feature = "test-support"))]
pub mod testing;

pub use algorithm::Algorithm;
pub use backend::{
    CheckWaker, Deviation, Difference, ObjectCount, ProxyBackend, Refusal, Removed, Repair, Scope,
    SyncError, SyncReport, Traffic, TrafficBytes,
};
pub use endpoint::{
    Conditions, Endpoint, EndpointSlice, Place, SliceEndpoint, SlicePort, Steering,
};
pub use event::{Event, Kind};
pub use family::{IpFamily, PerFamily, Protocol};
pub use frontend::{Frontend, FrontendKind};
pub use kernel_object::{FrontendQuery, KernelObject, ObjectState};
pub use local_traffic::LocalTrafficDetector;
pub use name::{ObjectName, ServicePortName};
pub use node::Node;
pub use node_port::NodePortAddresses;
pub use owners::Conflict;
pub use policy::{
    Masquerade, NoLocalEndpoints, ServicePolicy, TrafficPolicy, Treatment, Unserved, ZoneSpill,
};
pub use proxy::{Outcome, Proxy, RepairLevel};
pub use refused::{Refused, RefusedReason};
pub use scheduler::{Intervals, Scheduler};
pub use service::{Port, Service, ServicePort};
pub use session::{Session, SessionKey};
pub use slow_start::{SlowStart, Step};
pub use snapshot::{Changes, ServiceEntry, Snapshot};
pub use topology::{EndpointSelection, Selection, Spill, Unused};
pub use tracker::{Tracker, TrackerOptions};
pub use trust::Trust;
