//! A Kubernetes API server in the process, over real HTTP.
//!
//! It stores objects as JSON and serves them in JSON or protobuf as the real server does, as far as a service proxy, kubectl and tests need:
//! get, list with paging and selectors, watch with bookmarks and streaming lists, create, update, patch, delete, discovery.
//! It checks no types and runs no controllers, so it also serves objects that a real server would refuse.
//!
//! The server runs on a thread of its own, with one current-thread runtime.
//! It accepts on a listener that the caller bound, so it lives in whatever network namespace the caller was in.
//! [`ApiServer`] is the handle for synchronous test code; [`Faults`] makes the server misbehave at run time.

mod collection;
mod count;
mod defaults;
mod discovery;
mod encoding;
mod error;
mod event;
mod faults;
mod handle;
mod http;
mod list;
mod listen;
mod object;
mod options;
mod patch;
mod protobuf;
mod query;
mod requests;
mod resource;
mod respond;
mod route;
mod selector;
mod shared;
mod store;
mod switches;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use error::ApiError;
pub use faults::{Failure, StreamingLists};
pub use handle::{ApiServer, Rebind};
pub use options::Options;
pub use protobuf::{protobuf_event, protobuf_list, protobuf_object};
pub use requests::{RequestLog, RequestStats, Verb};
pub use switches::Faults;

/// The example of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
