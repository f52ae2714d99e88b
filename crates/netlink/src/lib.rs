//! Netlink for a service proxy: codecs over byte slices and one blocking socket.
//!
//! Bottom up:
//! - [`writer`] builds messages in one reusable buffer; [`message`] and [`attr`] read them back and survive any bytes.
//! - [`socket`] speaks to the kernel: request and acknowledgement, dumps, pipelines, and [`batch`]es as nfnetlink transactions.
//! - [`accounting`], [`conntrack`], [`ipset`], [`ipvs`], [`nf_tables`] and [`route`] are the typed protocols on top.
//!
//! Every call blocks. Callers that run an event loop use a thread, or poll the descriptor of an
//! [`AddressMonitor`](route::AddressMonitor).
//! A socket belongs to the network namespace of the thread that opened it, for good.

pub mod accounting;
pub mod attr;
pub mod batch;
pub mod conntrack;
mod error;
mod family;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod generic;
pub mod ipset;
pub mod ipvs;
pub mod memory;
pub mod message;
pub mod netfilter;
pub mod nf_tables;
pub mod route;
pub mod socket;
mod sys;
pub mod wait;
pub mod writer;

pub use error::{Described, Error, Refusal, Target};
pub use family::Family;
pub use nix::errno::Errno;
