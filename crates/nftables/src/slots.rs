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

/// Which endpoint of a list has which slot. It takes no memory until an endpoint has gone that was not the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// For each slot the place of its endpoint in the list; `None` if that is the number of the slot.
    order: Option<Box<[u32]>>,
}

impl Slots {
    /// Gives each endpoint a slot, numbered from 0 without a hole, so that as few slots as possible differ from `before`.
    ///
    /// An endpoint keeps its slot if there still is one of that number; new endpoints fill the holes, and then the last ones do.
    pub(crate) fn assign(before: &[SocketAddr], endpoints: &[Endpoint]) -> Self {
        let in_order =
            |(address, endpoint): (&SocketAddr, &Endpoint)| *address == endpoint.socket_address();
        let as_many = before.len().min(endpoints.len());
        if before[..as_many].iter().zip(endpoints).all(in_order) {
            return Self::default();
        }
        let wanted: rustc_hash::FxHashMap<SocketAddr, u32> =
            (0..).zip(endpoints).map(|(place, e)| (e.socket_address(), place)).collect();
        let mut slots: Vec<Option<u32>> = vec![None; endpoints.len()];
        let mut placed = FxHashSet::default();
        for (slot, address) in slots.iter_mut().zip(before) {
            *slot = wanted.get(address).copied().filter(|place| placed.insert(*place));
        }
        let all = (0..).zip(endpoints).map(|(place, _)| place);
        let mut rest = all.filter(|place| !placed.contains(place));
        let filled = slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next()));
        Self { order: Some(filled.collect()) }
    }

    /// The endpoints by slot.
    pub(crate) fn of<'a>(
        &'a self,
        endpoints: &'a [Endpoint],
    ) -> impl ExactSizeIterator<Item = Slot> {
        (0..endpoints.len()).map(move |slot| {
            let place = self.order.as_ref().map_or(slot, |order| order[slot] as usize);
            Slot::from(&endpoints[place])
        })
    }
}

#[cfg(test)]
mod tests;
