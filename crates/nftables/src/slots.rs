//! Slot numbers: which endpoint a random number stands for.

use std::net::{IpAddr, SocketAddr};

use kube_proxy_core::{Endpoint, maglev, weight};

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

/// Which endpoint of a list has which slots: one, or several by its weight. It takes no memory until an endpoint has gone that was not
/// the last, or one has another weight than the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// For each slot the place of its endpoint in the list; `None` if that is the number of the slot.
    order: Option<Box<[u32]>>,
}

impl Slots {
    /// Gives each endpoint its slots, numbered from 0 without a hole, so that as few slots as possible differ from `before`.
    ///
    /// An endpoint keeps a slot if there still is one of that number and it is due so many; what is left over fills the holes.
    pub(crate) fn assign(before: &[SocketAddr], endpoints: &[Endpoint]) -> Self {
        let in_order =
            |(address, endpoint): (&SocketAddr, &Endpoint)| *address == endpoint.socket_address();
        let due = weight::slots(endpoints);
        let as_many = before.len().min(endpoints.len());
        if due.is_none() && before[..as_many].iter().zip(endpoints).all(in_order) {
            return Self::default();
        }
        let mut due = due.unwrap_or_else(|| vec![1; endpoints.len()]);
        let count = due.iter().map(|slots| *slots as usize).sum();
        let wanted: rustc_hash::FxHashMap<SocketAddr, u32> =
            (0..).zip(endpoints).map(|(place, e)| (e.socket_address(), place)).collect();
        let mut slots: Vec<Option<u32>> = vec![None; count];
        let mut take = |place: &u32| {
            let due = &mut due[*place as usize];
            let gets = *due > 0;
            *due -= u32::from(gets);
            gets
        };
        for (slot, address) in slots.iter_mut().zip(before) {
            *slot = wanted.get(address).copied().filter(&mut take);
        }
        let mut rest = (0..).zip(due).flat_map(|(place, due)| (0..due).map(move |_| place));
        let filled = slots.into_iter().filter_map(|slot| slot.or_else(|| rest.next()));
        Self { order: Some(filled.collect()) }
    }

    /// Gives the endpoints the slots of their Maglev table, whatever was before.
    pub(crate) fn of_table(endpoints: &[Endpoint]) -> Self {
        match endpoints.len() {
            0 | 1 => Self::default(),
            _ => Self { order: Some(maglev::table(endpoints).into()) },
        }
    }

    /// The endpoints by slot.
    pub(crate) fn of<'a>(
        &'a self,
        endpoints: &'a [Endpoint],
    ) -> impl ExactSizeIterator<Item = Slot> {
        let count = self.order.as_ref().map_or(endpoints.len(), |order| order.len());
        (0..count).map(move |slot| {
            let place = self.order.as_ref().map_or(slot, |order| order[slot] as usize);
            Slot::from(&endpoints[place])
        })
    }
}

#[cfg(test)]
mod tests;
