//! What is on the node already, what of it is ours, and how it differs from what is wanted.
//!
//! Ours are the sets by their names, host addresses on the interface, and virtual servers that one of these records:
//! the address is on the interface, address and port are in a set of frontends, or the port is in a set of node ports and the address the
//! node's own. One that goes by mark is ours if an entry of the set of marks has it, perhaps with another bit: that of masquerading.
//! Records are written before a virtual server and deleted after it. What `excludeCIDRs` names is never removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use kube_proxy_core::{IpFamily, Protocol, SyncError};
use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::{Found, ServerKey};
use kube_proxy_netlink::route::{Address, Scope};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::kernel::Kernel;
use crate::layout::{SETS, Set};
use crate::marks::{KnownMarks, Place};
use crate::plan::Item;

/// Addresses of the node, and of the interface for services.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Sorted; what node ports may be used on.
    pub(crate) node: Vec<IpAddr>,
    /// Host addresses on the interface.
    pub(crate) device: BTreeSet<IpAddr>,
    /// Others on the interface, which are not ours.
    pub(crate) foreign: usize,
    /// Any of the other family on the interface.
    pub(crate) other_family: bool,
}

impl Addresses {
    pub(crate) fn sort(all: &[Address], device: Option<u32>, family: IpFamily) -> Self {
        let mut sorted = Self::default();
        for address in all {
            let ip = address.address;
            let own = IpFamily::of(&ip) == family;
            if Some(address.interface) == device {
                // The kernel gives each interface one of the link, but not as that of a single host.
                let link_local = address.scope == Scope::Link;
                if !own {
                    sorted.other_family |= !link_local;
                } else if address.prefix_len == family.bits() {
                    sorted.device.insert(ip);
                } else if !link_local {
                    sorted.foreign += 1;
                }
            } else if own
                && !ip.is_loopback()
                && address.scope != Scope::Host
                && !is_link_local(&ip)
            {
                sorted.node.push(ip);
            }
        }
        sorted.node.sort_unstable();
        sorted.node.dedup();
        sorted
    }
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// What of ours virtual servers are there for.
#[derive(Debug, Default)]
pub(crate) struct Records {
    frontends: FxHashSet<Place>,
    marks: KnownMarks,
}

/// What is on the node.
#[derive(Debug, Default)]
pub(crate) struct Actual {
    /// Sets of ours that are there, with the most entries they can hold.
    pub(crate) sets: BTreeMap<Set, Option<u32>>,
    pub(crate) items: BTreeSet<Item>,
    pub(crate) servers: BTreeMap<ServerKey, Found>,
    pub(crate) addresses: Addresses,
}

impl Actual {
    /// Reads all of it.
    pub(crate) fn read(
        kernel: &mut dyn Kernel,
        family: IpFamily,
        device: Option<u32>,
    ) -> Result<Self, SyncError> {
        let all = kernel.addresses()?;
        let addresses = Addresses::sort(&all, device, family);
        let mut items: BTreeSet<Item> =
            addresses.device.iter().copied().map(Item::Address).collect();
        let mut sets = BTreeMap::new();
        let headers = kernel.sets()?;
        for (set, _, kind) in SETS {
            let name = set.name(family);
            let Some(header) = headers.iter().find(|header| header.name == name) else { continue };
            let number = if family == IpFamily::V4 { 2 } else { 10 };
            if header.kind != kind.name()
                || (header.family != 0 && header.family != number)
                || header.has_marks != (set == Set::Mark)
            {
                let options = |marks: bool| if marks { " with skbinfo" } else { "" };
                return Err(SyncError::Refused(format!(
                    "ipset {name} exists with type {}{} of address family {}, needed is {}{} of {family}: remove it (`ipset destroy {name}`)",
                    header.kind,
                    options(header.has_marks),
                    header.family,
                    kind.name(),
                    options(set == Set::Mark),
                )));
            }
            items.extend(kernel.members(&name)?.into_iter().map(|entry| Item::Entry(set, entry)));
            sets.insert(set, header.max);
        }
        let servers = kernel.servers()?.into_iter().map(|found| (found.key, found)).collect();
        Ok(Self { sets, items, servers, addresses })
    }

    /// Whether a virtual server was made by this program, or a Go kube-proxy.
    pub(crate) fn is_ours(&self, exclude: &[IpNet], key: &ServerKey, records: &Records) -> bool {
        let (number, address) = match key {
            ServerKey::Frontend { protocol, address } => (*protocol, *address),
            ServerKey::Mark { mark, .. } => return records.marks.has(*mark),
        };
        let (ip, port) = (address.ip(), address.port());
        if exclude.iter().any(|net| net.contains(&ip)) {
            return false;
        }
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|protocol| protocol.number() == number);
        let Some(protocol) = protocol else { return false };
        let node_port =
            self.items.contains(&Item::Entry(Set::NodePort(protocol), Entry::Port(port)))
                && self.addresses.node.contains(&ip);
        self.addresses.device.contains(&ip)
            || records.frontends.contains(&(ip, number, port))
            || node_port
    }

    /// What the sets record, with marks that are known to be ours.
    pub(crate) fn records(&self, ours: KnownMarks) -> Records {
        let marks = self.known_marks(ours);
        let frontends = self.items.iter().filter_map(|item| match item {
            Item::Entry(set, Entry::IpPort(ip, protocol, port))
                if set.holds_frontends() || *set == Set::NodePort(Protocol::Sctp) =>
            {
                Some((*ip, *protocol, *port))
            }
            _ => None,
        });
        Records { frontends: frontends.collect(), marks }
    }

    /// The marks that the set has for frontends.
    pub(crate) fn marks(&self) -> FxHashMap<Place, u32> {
        let marks = self.items.iter().filter_map(|item| match item {
            Item::Entry(Set::Mark, Entry::IpPortMark { ip, protocol, port, mark, .. }) => {
                Some(((*ip, *protocol, *port), *mark))
            }
            _ => None,
        });
        marks.collect()
    }

    /// The marks that virtual servers of others go by.
    pub(crate) fn foreign_marks(&self, ours: KnownMarks) -> FxHashSet<u32> {
        let known = self.known_marks(ours);
        let marks = self.servers.keys().filter_map(ServerKey::mark);
        marks.filter(|mark| !known.has(*mark)).collect()
    }

    /// Those of the entries, with others.
    pub(crate) fn known_marks(&self, mut known: KnownMarks) -> KnownMarks {
        for item in &self.items {
            if let Item::Entry(Set::Mark, Entry::IpPortMark { mark, mask, .. }) = item {
                known.marks.insert(*mark);
                known.mask |= mask;
            }
        }
        known
    }
}

#[cfg(test)]
mod tests;
