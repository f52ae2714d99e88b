//! The nftables mode: one table `kube-proxy` per family, of shared chains and maps, written over netlink.
//!
//! There is no chain per endpoint and none per service (but with session affinity). A service is a handful of map elements:
//! its frontends lead to a chain that all services with as many endpoints share, and that chain picks one of the endpoints
//! by a random slot number. So a change costs elements, not rules, and the ruleset stays readable at any size.
//!
//! ```text
//! Snapshot + Changes ──▶ State::update ──▶ Diff ──▶ Transaction ──▶ kernel
//!                          │ plan: the elements of one service port
//!                          │ core's Claims: who has a frontend that several want
//!                          └ shares: elements and chains that several need
//! ```
//!
//! A full sync first reads the table back (`actual.rs`) and sends only what differs; so a restart on a node that is up to date
//! sends nothing. Everything left of the transaction is plain data.

mod actual;
mod affinity;
mod backend;
mod chain;
mod compare;
mod config;
mod counts;
mod diff;
mod element;
mod elements;
mod encode;
mod error;
mod fast_path;
mod fnv;
mod key;
mod layout;
mod left_over;
mod links;
mod listen;
mod meaning;
mod parts;
mod plan;
mod range;
mod rebuild;
mod refused;
mod refused_attempts;
mod remove;
mod rules;
mod shares;
mod slots;
mod state;
mod takeover;
mod text;
mod traffic;
mod verify;
mod watch;

pub use backend::{LastSync, NftablesBackend};
pub use chain::REJECT as REJECT_CHAIN;
pub use config::Config;
pub use fast_path::ANNOTATION as FAST_PATH_ANNOTATION;
pub use layout::TABLE;
pub use left_over::udp_frontends;
pub use meaning::chain_meaning;
pub use refused::RefusedOnLoopback;
pub use remove::remove;
pub use watch::WatchGroup;
