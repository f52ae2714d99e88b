//! What several service ports may need and the node has once: counted, so that the last one who needs it takes it away.

use std::net::IpAddr;

use kube_proxy_core::Protocol;
use rustc_hash::FxHashMap;

use crate::chain::Chain;
use crate::element::{Item, SetId, Value};
use crate::key::Key;

/// Something that several service ports may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Share {
    /// An element of `cluster-ips`.
    ClusterIp(IpAddr),
    /// An element of `hairpin-connections`: an endpoint on this node.
    Hairpin(IpAddr, Protocol, u16),
    /// A chain for the sessions of a service port.
    Chain(Chain),
}

impl Share {
    /// The element, if it is one.
    pub(crate) fn element(&self) -> Option<(SetId, Item)> {
        match *self {
            Self::ClusterIp(ip) => {
                Some((SetId::ClusterIps, Item::new(Key::new().ip(ip), Value::None)))
            }
            Self::Hairpin(ip, protocol, port) => {
                let key = Key::new().ip(ip).ip(ip).protocol(protocol).port(port);
                Some((SetId::HairpinConnections, Item::new(key, Value::None)))
            }
            Self::Chain(_) => None,
        }
    }

    /// The chain, if it is one.
    pub(crate) fn chain(&self) -> Option<Chain> {
        match *self {
            Self::Chain(chain) => Some(chain),
            Self::ClusterIp(_) | Self::Hairpin(..) => None,
        }
    }
}

/// How many need each thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    counts: FxHashMap<Share, u32>,
}

/// What was there before some changes, of the things that they touched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched(FxHashMap<Share, bool>);

impl Shares {
    /// One more needs it.
    pub(crate) fn add(&mut self, share: Share, touched: &mut Touched) {
        let count = self.counts.entry(share).or_default();
        touched.0.entry(share).or_insert(*count > 0);
        *count += 1;
    }

    /// One less needs it.
    pub(crate) fn remove(&mut self, share: Share, touched: &mut Touched) {
        let Some(count) = self.counts.get_mut(&share) else { return };
        touched.0.entry(share).or_insert(true);
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&share);
        }
    }

    /// Whether something is needed.
    pub(crate) fn has(&self, share: Share) -> bool {
        self.counts.contains_key(&share)
    }

    /// Everything that is needed.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Share> {
        self.counts.keys()
    }

    /// What came and what went, in order.
    pub(crate) fn differences(&self, touched: &Touched) -> (Vec<Share>, Vec<Share>) {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for (share, before) in &touched.0 {
            match (before, self.counts.contains_key(share)) {
                (false, true) => came.push(*share),
                (true, false) => went.push(*share),
                _ => {}
            }
        }
        came.sort_unstable();
        went.sort_unstable();
        (came, went)
    }
}

#[cfg(test)]
mod tests;
