//! Where Services and EndpointSlices come from: the Kubernetes API, or files of manifests.
//!
//! Both sources turn what they read into [`kube_proxy_core::Event`]s and hand them to a [`Sink`]:
//!
//! ```text
//! API response, YAML ──▶ slim ──▶ normalise ──▶ Event ──▶ Sink
//!                                     └───────▶ Problem ──▶ Problems (log once, count)
//! ```
//!
//! * [`kubernetes::KubernetesSource`] lists and watches the API server.
//! * [`manifests::ManifestSource`] reads files and follows their changes; no cluster is needed.
//!
//! No input makes a source fail or panic: what is wrong with an object is a [`Problem`], and the rest of the objects keep working.

use std::sync::Arc;

pub mod context;
pub mod decode;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod kubernetes;
pub mod manifests;
pub mod names;
pub mod normalise;
mod object;
pub mod problem;
pub mod problems;
mod protobuf;
pub mod slim;

pub use context::Context;
pub use kubernetes::{KubernetesOptions, KubernetesSource};
pub use manifests::ManifestSource;
pub use names::Names;
pub use problem::{Problem, Subject};
pub use problems::Problems;

/// Takes the events of a source, in order. It is called on the thread that runs the source and must not block for long.
pub type Sink = Arc<dyn Fn(kube_proxy_core::Event) + Send + Sync>;
