//! Which iptables a node uses, and its programs.
//!
//! * [`Programs`] finds the programs of a variant and family, asks them what is there, and feeds them.
//!   Where they do not list a table of `nf_tables`, it is read over netlink.
//! * [`Variant`] names the two implementations of iptables; [`Programs::choose`] takes the one that the node uses.
//! * [`Check`] is something that must be there; many are asked for at once.
//! * [`comment_words`], [`if_local`] and [`node_port_destinations`] are parts of rules that several modes have.
//!
//! The xtables lock is the programs': they wait for it, and [`SyncError::Busy`](kube_proxy_core::SyncError::Busy) says that another program holds it.

mod check;
mod choose;
mod node_ports;
mod programs;
mod variant;
mod words;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use programs::fuzzing;

pub use check::Check;
pub use node_ports::node_port_destinations;
pub use programs::{Programs, RestoreError, Version, has_chain};
pub use variant::Variant;
pub use words::{comment_words, if_local, split_words, write_comment};

/// The chain in `filter` that belongs to the kubelet as much as to a kube-proxy: created when missing, never emptied, never deleted.
pub const SHARED_FIREWALL: &str = "KUBE-FIREWALL";
