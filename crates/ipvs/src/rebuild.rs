//! What a full sync makes again although it seems right: objects for which the kernel refused what was to be changed, again and again.
//!
//! The rules need none of it: every full sync writes all of them.

use kube_proxy_core::{Repair, Scope};
use kube_proxy_netlink::ipvs::ServerKey;

/// Objects to destroy and make again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rebuild {
    /// None: what is there and right stays.
    Nothing,
    /// A virtual server with its destinations, by what it prints as.
    Server(String),
    /// A set with its entries.
    Set(String),
    /// All virtual servers and sets.
    All,
}

impl Rebuild {
    /// What a sync of this scope asks for.
    pub(crate) fn of(scope: Scope<'_>) -> Self {
        let refusal = match scope {
            Scope::Full | Scope::Partial(_) => return Self::Nothing,
            Scope::Repair(Repair::Object(refusal)) => refusal,
            Scope::Repair(_) => return Self::All,
        };
        match refusal.kind {
            "virtual server" => Self::Server(refusal.name.clone()),
            "set" => Self::Set(refusal.name.clone()),
            _ => Self::All,
        }
    }

    /// Whether this virtual server is one of them.
    pub(crate) fn has_server(&self, key: ServerKey) -> bool {
        match self {
            Self::Nothing | Self::Set(_) => false,
            Self::Server(name) => *name == key.to_string(),
            Self::All => true,
        }
    }

    /// Whether this set is one of them, be it the one that takes its place for a moment.
    pub(crate) fn has_set(&self, set: &str) -> bool {
        match self {
            Self::Nothing | Self::Server(_) => false,
            Self::Set(name) => name.strip_prefix("T-").unwrap_or(name) == set,
            Self::All => true,
        }
    }
}
