//! Slot numbers: which endpoint a random number stands for.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::Endpoint;
use rustc_hash::FxHashSet;

/// An endpoint in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    /// Its address.
    pub(crate) ip: IpAddr,
    /// Its port.
    pub(crate) port: u16,
    /// It may run on this node, so that it may reach itself.
    pub(crate) local: bool,
}

impl Slot {
    /// Address and port.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl From<&Endpoint> for Slot {
    fn from(endpoint: &Endpoint) -> Self {
        Self { ip: endpoint.ip, port: endpoint.port.get(), local: endpoint.may_be_local() }
    }
}

/// Gives each endpoint a slot, numbered from 0 without a hole, so that as few slots as possible differ from `before`.
///
/// An endpoint keeps its slot if there still is one of that number; new endpoints fill the holes, and then the last ones do.
pub(crate) fn assign(before: &[SocketAddr], endpoints: &[Endpoint]) -> Box<[Slot]> {
    let all = endpoints.iter().map(Slot::from);
    if before.is_empty() {
        return all.collect();
    }
    let wanted: rustc_hash::FxHashMap<SocketAddr, Slot> =
        all.clone().map(|slot| (slot.address(), slot)).collect();
    let mut slots: Vec<Option<Slot>> = vec![None; endpoints.len()];
    let mut placed = FxHashSet::default();
    for (slot, address) in slots.iter_mut().zip(before) {
        if let Some(endpoint) = wanted.get(address)
            && placed.insert(*address)
        {
            *slot = Some(*endpoint);
        }
    }
    let mut rest = all.filter(|endpoint| !placed.contains(&endpoint.address()));
    for slot in &mut slots {
        if slot.is_none() {
            *slot = rest.next();
        }
    }
    slots.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
