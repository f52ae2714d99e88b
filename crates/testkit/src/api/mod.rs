//! A Kubernetes API server in the process, over real HTTP.
//!
//! It stores objects as JSON and serves them as the real server does, as far as a service proxy, kubectl and tests need:
//! get, list with paging and selectors, watch with bookmarks and streaming lists, create, update, patch, delete, discovery.
//! It checks no types and runs no controllers, so it also serves objects that a real server would refuse.
//!
//! The server runs on a thread of its own, with one current-thread runtime.
//! It accepts on a listener that the caller bound, so it lives in whatever network namespace the caller was in.
//! [`ApiServer`] is the handle for synchronous test code; [`Faults`] makes the server misbehave at run time.

mod clock;
mod collection;
mod defaults;
mod discovery;
mod error;
mod faults;
mod handle;
mod http;
mod list;
mod listen;
mod object;
mod patch;
mod query;
mod requests;
mod resource;
mod route;
mod selector;
mod store;
mod watch;
mod write;

#[cfg(test)]
mod tests;

pub use error::ApiError;
pub use faults::{Failure, Faults, StreamingLists};
pub use handle::{ApiServer, Options, Rebind};
pub use requests::{RequestLog, RequestStats, Verb};
