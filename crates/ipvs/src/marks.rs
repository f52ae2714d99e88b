//! Marks for packets of this node and its pods, which reach every endpoint also where the policy `Local` keeps others to those of this node.
//!
//! One virtual server has one list of destinations, and the kernel looks for one by mark before it looks for one by address.
//! So a service port with such frontends has a mark, which a set gives to packets of this node to these frontends ([`Set::Mark`]), and two
//! virtual servers that go by it: the rules in `nat` may have added the mark that asks for masquerading before IPVS looks, and it compares all
//! bits. Where another program has set bits of its own, the packet is balanced as if it had no mark.
//!
//! A mark stays with its service port for as long as it is needed, also over a restart: the set says which it was.
//!
//! [`Set::Mark`]: crate::layout::Set::Mark

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_proxy_core::{Frontend, ServiceEntry, ServicePortName, Snapshot};
use rustc_hash::{FxHashMap, FxHashSet};

/// The bits of marks that are used here. All marks have the highest of them, by which they are known again, and at least one other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    mask: u32,
}

impl Bits {
    /// Those of a mask, without the bit that asks for masquerading. `None` if that leaves no mark.
    pub(crate) fn new(mask: u32, masquerade: u32) -> Option<Self> {
        let mask = mask & !masquerade;
        (mask.count_ones() > 1).then_some(Self { mask })
    }

    /// All of them.
    pub(crate) fn mask(self) -> u32 {
        self.mask
    }

    /// The one that all marks have.
    pub(crate) fn sign(self) -> u32 {
        1 << self.mask.ilog2()
    }

    /// How many marks there are.
    fn count(self) -> u32 {
        (1 << (self.mask.count_ones() - 1)) - 1
    }

    /// The mark with this number, from 1.
    fn mark(self, number: u32) -> u32 {
        let (mut mark, mut rest, mut number) = (self.sign(), self.mask & !self.sign(), number);
        while rest != 0 {
            let lowest = rest & rest.wrapping_neg();
            if number & 1 == 1 {
                mark |= lowest;
            }
            (rest, number) = (rest & !lowest, number >> 1);
        }
        mark
    }

    /// Whether this is one.
    fn has(self, mark: u32) -> bool {
        mark & !self.mask == 0 && mark & self.sign() != 0 && mark != self.sign()
    }
}

/// Marks that are known to be ours, and the bits that they use.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownMarks {
    pub(crate) marks: FxHashSet<u32>,
    pub(crate) mask: u32,
}

impl KnownMarks {
    /// Whether a virtual server with this mark is ours: it is one of these, alone or with the bit that asks for masquerading.
    /// That of an earlier configuration may be any but their own.
    pub(crate) fn has(&self, mark: u32) -> bool {
        let more = mark & !self.mask;
        more.count_ones() <= 1 && self.marks.contains(&(mark & self.mask))
    }
}

/// A frontend as sets have it: address, IP protocol and port.
pub(crate) type Place = (IpAddr, u8, u16);

/// Which service port has which mark.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// `None`: there are no marks.
    bits: Option<Bits>,
    masquerade: u32,
    /// This kernel does not have what they need, as far as is known.
    given_up: bool,
    of: FxHashMap<ServicePortName, u32>,
    /// Those in `of`, and those that must not be given away: virtual servers of others go by them, or the node has entries with them.
    taken: FxHashSet<u32>,
    /// Number of the last that was given away.
    last: u32,
    /// Service ports that should have one.
    without: BTreeSet<ServicePortName>,
}

/// Whether clients on this node may use endpoints that others may not, at some frontend of a service port.
pub(crate) fn short_circuits(entry: &ServiceEntry) -> bool {
    entry.port.frontends.iter().any(|(_, kind)| entry.treatment(*kind).short_circuit)
}

/// Whether marks can do it: with affinity the kernel ignores the ports of destinations of virtual servers that go by mark.
fn can_have_mark(entry: &ServiceEntry) -> bool {
    short_circuits(entry) && entry.port.policy.session_affinity.is_none()
}

impl Marks {
    pub(crate) fn new(mask: u32, masquerade: u32) -> Self {
        Self { bits: Bits::new(mask, masquerade), masquerade, ..Self::default() }
    }

    /// The bits that marks have; `None` if there are none.
    pub(crate) fn bits(&self) -> Option<Bits> {
        self.bits.filter(|_| !self.given_up)
    }

    /// The mark of a service port, unless it does without one now.
    pub(crate) fn of(&self, name: &ServicePortName) -> Option<u32> {
        self.of.get(name).copied().filter(|_| !self.without.contains(name))
    }

    /// All that service ports have.
    pub(crate) fn all(&self) -> KnownMarks {
        let mask = self.bits.map_or(0, Bits::mask);
        KnownMarks { marks: self.of.values().copied().collect(), mask }
    }

    /// The marks of the packets that a service port's mark becomes: as it is, and with the one that asks for masquerading.
    pub(crate) fn of_packets(&self, mark: u32) -> [u32; 2] {
        [mark, mark | self.masquerade]
    }

    /// Service ports whose clients on this node use the endpoints of all others.
    pub(crate) fn without(&self) -> &BTreeSet<ServicePortName> {
        &self.without
    }

    /// Takes in what was found on the node: which marks the entries of the set have, and what virtual servers of others go by.
    pub(crate) fn recover(
        &mut self,
        snapshot: &Snapshot,
        recorded: &FxHashMap<Place, u32>,
        foreign: &FxHashSet<u32>,
        node: &[IpAddr],
    ) {
        self.without.clear();
        self.given_up = false;
        let Some(bits) = self.bits else { return };
        let masquerade = self.masquerade;
        let is_free = |mark: u32| {
            !foreign.contains(&mark) && !foreign.contains(&(mark | masquerade)) && bits.has(mark)
        };
        self.of
            .retain(|name, mark| snapshot.entry(name).is_some_and(can_have_mark) && is_free(*mark));
        let mut given: FxHashSet<u32> = self.of.values().copied().collect();
        for (name, entry) in &snapshot.services {
            if !self.of.contains_key(name)
                && can_have_mark(entry)
                && let Some(mark) = of_frontends(entry, recorded, node).find(|mark| is_free(*mark))
                && given.insert(mark)
            {
                self.of.insert(name.clone(), mark);
            }
        }
        given.extend(recorded.values());
        given.extend(foreign.iter().map(|mark| mark & !masquerade));
        self.taken = given;
    }

    /// Gives marks to service ports that need one and have none, and says which service ports do without, for whatever reason.
    /// Whether there were enough.
    pub(crate) fn assign<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) -> bool {
        let mut enough = true;
        for name in names {
            self.without.remove(name);
            let Some(entry) = snapshot.entry(name).filter(|entry| short_circuits(entry)) else {
                continue;
            };
            if !can_have_mark(entry) || self.bits().is_none() {
                self.without.insert(name.clone());
            } else if !self.of.contains_key(name) {
                if let Some(mark) = self.next() {
                    self.of.insert(name.clone(), mark);
                } else {
                    enough = false;
                    self.without.insert(name.clone());
                }
            }
        }
        enough
    }

    /// The next that is free; one that was given back comes last.
    fn next(&mut self) -> Option<u32> {
        let bits = self.bits?;
        let count = bits.count();
        let numbers = (1..=count).map(|step| (self.last + step - 1) % count + 1);
        let found = numbers.map(|number| (number, bits.mark(number)));
        let (number, mark) = found.into_iter().find(|(_, mark)| !self.taken.contains(mark))?;
        self.last = number;
        self.taken.insert(mark);
        Some(mark)
    }

    /// Takes back the marks of service ports that need none any more. Only when nothing on the node has them.
    pub(crate) fn release<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) {
        for name in names {
            if !snapshot.entry(name).is_some_and(can_have_mark)
                && let Some(mark) = self.of.remove(name)
            {
                self.taken.remove(&mark);
            }
        }
    }

    /// There are none until something is recovered: this kernel does not have what they need.
    pub(crate) fn give_up(&mut self, snapshot: &Snapshot) {
        self.given_up = true;
        self.of.clear();
        let names = snapshot.services.iter().filter(|(_, entry)| short_circuits(entry));
        self.without = names.map(|(name, _)| name.clone()).collect();
    }
}

/// The marks that the set has for the frontends of a service port.
fn of_frontends<'a>(
    entry: &'a ServiceEntry,
    recorded: &'a FxHashMap<Place, u32>,
    node: &'a [IpAddr],
) -> impl Iterator<Item = u32> + 'a {
    entry.port.frontends.iter().flat_map(move |(frontend, _)| {
        let places: Vec<Place> = match *frontend {
            Frontend::Address(protocol, to) => vec![(to.ip(), protocol.number(), to.port())],
            Frontend::NodePort(protocol, port) => {
                node.iter().map(|ip| (*ip, protocol.number(), port)).collect()
            }
        };
        places.into_iter().filter_map(|place| recorded.get(&place).copied())
    })
}

#[cfg(test)]
mod tests;
