//! The elements of the table on the node, read back.

use std::net::SocketAddr;
use std::sync::Arc;

use kube_proxy_core::{Frontend, IpFamily, TrafficPolicy};
use kube_proxy_netlink::nf_tables::{Data, Element, NfTables, Set, Verdict};
use kube_proxy_netlink::socket::DumpEnd;
use kube_proxy_netlink::{Errno, Error};
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::chain::Chain;
use crate::element::{Item, SetId, Value};
use crate::key::{Key, KeyKind, Keyed as _, read_ip};
use crate::layout::{TABLE, set_name};

/// From this size on, a set of slots is read by its keys: to list it takes the kernel time that grows with the square of the size.
const LARGE: u32 = 20_000;

/// All elements, but for sessions.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    sets: FxHashMap<SetId, FxHashMap<Key, Applied>>,
    /// There are sessions.
    pub(crate) has_sessions: bool,
}

type Applied = (Value, Option<Arc<str>>);

impl Elements {
    /// Reads all elements; `sets` are the table's sets as the kernel describes them.
    pub(crate) fn read(
        netlink: &mut NfTables,
        sets: &[Set],
        family: IpFamily,
    ) -> Result<Self, Error> {
        let is_there = |id: &SetId| sets.iter().any(|set| set.name == set_name(*id));
        let mut all = Self::default();
        for id in SetId::ALL.into_iter().filter(is_there) {
            // The maps from frontends come first, and tell which slots there must be.
            let large = sets.iter().find(|set| set.name == set_name(id)).and_then(|set| set.count);
            let keys = match large.filter(|count| *count >= LARGE) {
                Some(count) => all.slot_keys(id, count),
                None => None,
            };
            let read = match keys {
                Some(keys) => all.read_keys(netlink, id, &keys, family)?,
                None => false,
            };
            if !read {
                all.read_list(netlink, id, family)?;
            }
        }
        Ok(all)
    }

    /// The endpoints of a frontend, by slot.
    pub(crate) fn slots(&self, frontend: &Frontend, endpoints: TrafficPolicy) -> Vec<SocketAddr> {
        let kind = frontend.key_kind();
        let Some(held) = self.sets.get(&SetId::endpoints(kind, endpoints)) else {
            return Vec::new();
        };
        let slots = (0..).map_while(|number| match held.get(&frontend.key().number(number)) {
            Some((Value::Endpoint(address), _)) => Some(*address),
            _ => None,
        });
        slots.collect()
    }

    /// Takes an element out.
    pub(crate) fn take(&mut self, set: SetId, key: &Key) -> Option<Item> {
        let (value, comment) = self.sets.get_mut(&set)?.remove(key)?;
        Some(Item { key: *key, value, comment })
    }

    /// Takes out all elements of a set; whether they were these and no others.
    pub(crate) fn take_all(&mut self, set: SetId, items: &[Item]) -> bool {
        let mut held = self.sets.remove(&set).unwrap_or_default();
        let same = |item: &Item| {
            held.remove(&item.key) == Some((item.value.clone(), item.comment.clone()))
        };
        items.iter().all(same) && held.is_empty()
    }

    /// Forgets what a set holds.
    pub(crate) fn forget(&mut self, set: SetId) {
        self.sets.remove(&set);
        self.has_sessions &= !set.holds_sessions();
    }

    /// Hands on what nothing took.
    pub(crate) fn rest(self, put: &mut impl FnMut(SetId, Item)) {
        for (set, held) in self.sets {
            for (key, (value, comment)) in held {
                put(set, Item { key, value, comment });
            }
        }
    }

    /// The keys of a set of slots, as the chains tell that frontends lead to; `None` if there are not `count` of them.
    fn slot_keys(&self, set: SetId, count: u32) -> Option<Vec<Key>> {
        let mut keys = Vec::new();
        for kind in KeyKind::ALL {
            for dispatch in [SetId::dispatch(kind), SetId::short_circuit(kind)] {
                for (key, (value, _)) in self.sets.get(&dispatch)? {
                    let Value::Goto(Chain::Entry(_, balance)) = value else { continue };
                    let slots = SetId::endpoints(balance.key, balance.endpoints);
                    if slots == set && balance.key == kind {
                        keys.extend((0..balance.count).map(|number| key.number(number)));
                    }
                }
            }
        }
        (u32::try_from(keys.len()) == Ok(count)).then_some(keys)
    }

    /// Reads a set whose keys are known; `false` if one of them is not there.
    fn read_keys(
        &mut self,
        netlink: &mut NfTables,
        set: SetId,
        keys: &[Key],
        family: IpFamily,
    ) -> Result<bool, Error> {
        let mut held = FxHashMap::with_capacity_and_hasher(keys.len(), FxBuildHasher);
        let bytes = keys.iter().map(Key::as_bytes);
        let result = netlink.elements_with_keys(TABLE, set_name(set), bytes, |element| {
            if let Some(item) = read_item(element, family) {
                held.insert(item.key, (item.value, item.comment));
            }
        });
        match result {
            Ok(()) => {
                self.sets.insert(set, held);
                Ok(true)
            }
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read_list(
        &mut self,
        netlink: &mut NfTables,
        set: SetId,
        family: IpFamily,
    ) -> Result<(), Error> {
        let mut held: FxHashMap<Key, Applied> = FxHashMap::default();
        let mut has_sessions = false;
        let end = netlink.elements(TABLE, set_name(set), |element| {
            if set.holds_sessions() {
                has_sessions = true;
            } else if let Some(item) = read_item(element, family) {
                held.insert(item.key, (item.value, item.comment));
            }
        })?;
        if end == DumpEnd::Partial {
            // Others change the ruleset all the time.
            let object = format!("list elements of set {}", set_name(set));
            return Err(Error::Receive { object, errno: Errno::EINTR });
        }
        self.has_sessions |= has_sessions;
        self.sets.insert(set, held);
        Ok(())
    }
}

/// An element of ours from one of the kernel; `None` for keys that are longer than any of ours.
fn read_item(element: &Element<'_>, family: IpFamily) -> Option<Item> {
    let value = match (&element.data, element.key_end) {
        (None, None) => Value::None,
        (None, Some(end)) => Value::Until(Box::new(Key::read(end, false)?)),
        (Some(Data::Value(bytes)), _) => {
            read_endpoint(bytes, family).map_or(Value::Foreign, Value::Endpoint)
        }
        (Some(Data::Verdict(Verdict::Drop)), _) => Value::Drop,
        (Some(Data::Verdict(Verdict::Goto(chain))), _) => {
            Chain::parse(chain).map_or(Value::Foreign, Value::Goto)
        }
        (Some(Data::Verdict(_)), _) => Value::Foreign,
    };
    let key = Key::read(element.key, element.interval_end)?;
    Some(Item { key, value, comment: element.comment.map(Arc::from) })
}

/// Address and port from the data of an endpoint map.
pub(crate) fn read_endpoint(bytes: &[u8], family: IpFamily) -> Option<SocketAddr> {
    let (ip, rest) = read_ip(bytes, family)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*rest.first_chunk()?)))
}
