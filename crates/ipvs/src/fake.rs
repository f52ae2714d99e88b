//! A working model of the kernel, for tests: it refuses what the kernel refuses, and counts what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use kube_proxy_core::{IpFamily, Refusal, Session, SyncError};
use kube_proxy_netlink::ipset::{Entry, Header, SetType};
use kube_proxy_netlink::ipvs::{Change, Counters, Destination, Found, Server, ServerKey};
use kube_proxy_netlink::route::{Address, AddressFlags, Scope};
use kube_proxy_xtables::Check;

use crate::Config;
use crate::connections::{Connection, Template};
use crate::kernel::{Kernel, Unfit};

/// The index of the interface.
const DEVICE: u32 = 7;

/// Weight and connections of each.
type Destinations = BTreeMap<SocketAddr, (u32, u32)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FakeState {
    pub(crate) servers: BTreeMap<ServerKey, (Server, Destinations)>,
    pub(crate) device: Option<BTreeSet<IpAddr>>,
    pub(crate) node: Vec<IpAddr>,
    pub(crate) next_hops: BTreeSet<IpAddr>,
    pub(crate) sets: BTreeMap<String, (SetType, u32, BTreeSet<Entry>)>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) templates: Vec<Template>,
    pub(crate) rules: String,
    /// The same of the chains of marks, by chain, and the chains of the kernel that lead to one.
    pub(crate) mark_rules: BTreeMap<String, Vec<String>>,
    pub(crate) mark_hooks: BTreeSet<String>,
    /// What this kernel lacks for marks.
    pub(crate) lacks: Option<Lack>,
    /// Rules of the iptables mode for services.
    pub(crate) iptables_mode: bool,
    /// Virtual servers that can only be deleted.
    pub(crate) stuck_servers: BTreeSet<ServerKey>,
    /// Virtual servers whose next changes are refused, and how many.
    pub(crate) refused_servers: BTreeMap<ServerKey, usize>,
    /// Schedulers that this kernel does not have.
    pub(crate) missing_schedulers: BTreeSet<&'static str>,
    /// Addresses that are those of no host.
    pub(crate) unfit: BTreeSet<IpAddr>,
    /// Sets that take no entries.
    pub(crate) stuck_sets: BTreeSet<String>,
}

/// What a kernel may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Sets with marks.
    Sets,
    /// Rules that give marks of a set to packets.
    Rules,
}

/// How often each kind of message was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) changes: usize,
    pub(crate) entries: usize,
    pub(crate) addresses: usize,
    /// Requests that list something.
    pub(crate) lists: usize,
    /// Questions for single objects.
    pub(crate) look_ups: usize,
    pub(crate) restores: usize,
    /// Virtual servers that were there when the table `nat` was written last.
    pub(crate) servers_before_nat: usize,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(Arc<Mutex<(FakeState, Sent)>>);

impl Fake {
    pub(crate) fn lock(&self) -> MutexGuard<'_, (FakeState, Sent)> {
        self.0.lock().unwrap()
    }

    pub(crate) fn take_sent(&self) -> Sent {
        std::mem::take(&mut self.lock().1)
    }

    pub(crate) fn held(&self) -> FakeState {
        self.lock().0.clone()
    }
}

fn refuse<T>(what: impl std::fmt::Display) -> Result<T, SyncError> {
    Err(SyncError::Refused(format!("{what}: refused by the model")))
}

fn refuse_object<T>(kind: &'static str, name: impl std::fmt::Display) -> Result<T, SyncError> {
    let refusal = Refusal { kind, name: name.to_string(), errno: 5 };
    Err(SyncError::RefusedObject {
        message: format!("{kind} {name}: refused by the model"),
        refusal,
    })
}

/// What the kernel finds an entry by: not its mark.
fn identity(entry: &Entry) -> Entry {
    match *entry {
        Entry::IpPortMark { ip, protocol, port, .. } => Entry::IpPort(ip, protocol, port),
        other => other,
    }
}

/// The chains of marks are written by themselves.
fn restore_marks(held: &mut FakeState, input: &str) -> Result<(), SyncError> {
    if held.lacks == Some(Lack::Rules) && input.contains("--map-set") {
        return refuse("a rule with --map-set");
    }
    for line in input.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut missing = false;
        match words[..] {
            ["-A", chain, ..] => {
                let sets = ["--map-set ", "--match-set "]
                    .into_iter()
                    .filter_map(|option| line.split_once(option)?.1.split(' ').next());
                missing = sets.into_iter().any(|set| !held.sets.contains_key(set));
                held.mark_rules.entry(chain.to_owned()).or_default().push(line.to_owned());
            }
            ["-I", from, "1", ..] => {
                let hook =
                    line.replace("-I ", "-A ").replace(&format!("{from} 1 "), &format!("{from} "));
                missing = !held.mark_hooks.insert(hook);
            }
            ["-D", ..] => missing = !held.mark_hooks.remove(&line.replace("-D ", "-A ")),
            ["-X", chain] => {
                let target = format!("-j {chain}");
                missing = held.mark_hooks.iter().any(|hook| hook.ends_with(&target));
                held.mark_rules.remove(chain);
            }
            _ => {
                if let Some(chain) = words[0].strip_prefix(':') {
                    held.mark_rules.insert(chain.to_owned(), Vec::new());
                }
            }
        }
        if missing {
            return refuse(line);
        }
    }
    Ok(())
}

fn apply(held: &mut FakeState, change: &Change) -> bool {
    if matches!(change, Change::Delete(_)) {
        held.stuck_servers.remove(&change.key());
    } else if held.stuck_servers.contains(&change.key()) {
        return false;
    }
    match change {
        Change::Add(key, server) => {
            let new = !held.servers.contains_key(key);
            held.servers.entry(*key).or_insert((server.clone(), BTreeMap::new()));
            new
        }
        Change::Set(key, server) => {
            held.servers.get_mut(key).map(|(known, _)| known.clone_from(server)).is_some()
        }
        Change::Delete(key) => held.servers.remove(key).is_some(),
        Change::AddDestination(key, to, weight) => held
            .servers
            .get_mut(key)
            .is_some_and(|(_, destinations)| destinations.insert(*to, (*weight, 0)).is_none()),
        Change::SetDestination(key, to, weight) => held
            .servers
            .get_mut(key)
            .is_some_and(|(_, d)| d.get_mut(to).map(|(known, _)| *known = *weight).is_some()),
        Change::DeleteDestination(key, to) => {
            held.servers.get_mut(key).is_some_and(|(_, d)| d.remove(to).is_some())
        }
    }
}

impl Kernel for Fake {
    fn servers(&mut self) -> Result<Vec<Found>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        let found = held.servers.iter().map(|(key, (server, _))| Found {
            key: *key,
            server: server.clone(),
            counters: Counters { connections: 3, bytes_in: 10, bytes_out: 20 },
        });
        Ok(found.collect())
    }

    fn server(&mut self, key: ServerKey) -> Result<Option<Found>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.look_ups += 1;
        let counters = Counters::default();
        let found = held.servers.get(&key);
        Ok(found.map(|(server, _)| Found { key, server: server.clone(), counters }))
    }

    fn destinations(&mut self, key: ServerKey) -> Result<Vec<Destination>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        let Some((_, destinations)) = held.servers.get(&key) else { return refuse(key) };
        let found = destinations.iter().map(|(address, (weight, active))| Destination {
            address: *address,
            weight: *weight,
            forwarding: 0,
            active: *active,
            inactive: 0,
            counters: Counters { connections: 1, bytes_in: 2, bytes_out: 4 },
        });
        Ok(found.collect())
    }

    fn connections(&mut self) -> Result<Vec<Connection>, SyncError> {
        Ok(self.lock().0.connections.clone())
    }

    fn session(&mut self, key: ServerKey, client: IpAddr) -> Result<Option<Session>, SyncError> {
        let is_asked = |of: &&Template| of.server == key && of.client == client;
        Ok(self.lock().0.templates.iter().find(is_asked).map(|template| template.session))
    }

    fn change(&mut self, changes: &[Change]) -> Result<Unfit, SyncError> {
        let (held, told) = &mut *self.lock();
        told.changes += changes.len();
        let is_refused = |change: &&Change| {
            let left = held.refused_servers.get_mut(&change.key()).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        if let Some(change) = changes.iter().find(is_refused) {
            return refuse_object("virtual server", change.key());
        }
        let mut unfit = Unfit::new();
        for change in changes {
            match change {
                Change::AddDestination(key, to, _) if held.unfit.contains(&to.ip()) => {
                    unfit.insert((*key, *to));
                }
                _ if !apply(held, change) => {
                    return refuse_object("virtual server", change.key());
                }
                _ => {}
            }
        }
        Ok(unfit)
    }

    fn knows_scheduler(&mut self, name: &str) -> Result<bool, SyncError> {
        let is_missing = self.lock().0.missing_schedulers.contains(name);
        Ok(["rr", "wrr", "sh", "mh", "lc"].contains(&name) && !is_missing)
    }

    fn device(&mut self) -> Result<Option<u32>, SyncError> {
        Ok(self.lock().0.device.as_ref().map(|_| DEVICE))
    }

    fn add_device(&mut self) -> Result<(), SyncError> {
        self.lock().0.device = Some(BTreeSet::new());
        Ok(())
    }

    fn delete_device(&mut self) -> Result<(), SyncError> {
        self.lock().0.device = None;
        Ok(())
    }

    fn addresses(&mut self) -> Result<Vec<Address>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        let make = |interface, prefix_len: Option<u8>, ip: &IpAddr| Address {
            address: *ip,
            prefix_len: prefix_len.unwrap_or(IpFamily::of(ip).bits()),
            interface,
            scope: Scope::Global,
            flags: AddressFlags::PERMANENT,
            label: None,
        };
        let ours = held.device.iter().flatten().map(|ip| make(DEVICE, None, ip));
        Ok(ours.chain(held.node.iter().map(|ip| make(2, Some(24), ip))).collect())
    }

    fn interface_of(&mut self, ip: IpAddr) -> Result<Option<u32>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.look_ups += 1;
        let device = held.device.iter().flatten().any(|held| *held == ip).then_some(DEVICE);
        Ok(device.or(held.node.contains(&ip).then_some(2)))
    }

    fn next_hops(&mut self) -> Result<BTreeSet<IpAddr>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        Ok(held.next_hops.clone())
    }

    fn add_addresses(&mut self, _: u32, addresses: &[IpAddr]) -> Result<(), SyncError> {
        let (held, told) = &mut *self.lock();
        told.addresses += addresses.len();
        let Some(device) = &mut held.device else { return refuse("no interface") };
        device.extend(addresses);
        Ok(())
    }

    fn delete_addresses(&mut self, _: u32, addresses: &[IpAddr]) -> Result<(), SyncError> {
        let (held, told) = &mut *self.lock();
        told.addresses += addresses.len();
        let Some(device) = &mut held.device else { return refuse("no interface") };
        device.retain(|ip| !addresses.contains(ip));
        Ok(())
    }

    fn sets(&mut self) -> Result<Vec<Header>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        let headers = held.sets.iter().map(|(name, (kind, max, entries))| Header {
            name: name.clone(),
            kind: kind.name().to_owned(),
            family: 0,
            elements: u32::try_from(entries.len()).ok(),
            max: Some(*max),
            has_marks: *kind == SetType::IpPortMark,
        });
        Ok(headers.collect())
    }

    fn members(&mut self, set: &str) -> Result<Vec<Entry>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.lists += 1;
        let Some((.., entries)) = held.sets.get(set) else { return refuse(set) };
        Ok(entries.iter().copied().collect())
    }

    fn contains(&mut self, set: &str, entry: Entry) -> Result<Option<bool>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.look_ups += 1;
        Ok(held.sets.get(set).map(|(.., entries)| entries.contains(&entry)))
    }

    fn create_set(&mut self, set: &str, kind: SetType, max: u32) -> Result<(), SyncError> {
        let (held, _) = &mut *self.lock();
        if held.lacks == Some(Lack::Sets) && kind == SetType::IpPortMark {
            return Err(SyncError::Unsupported("the model has no such sets".to_owned()));
        }
        match held.sets.insert(set.to_owned(), (kind, max, BTreeSet::new())) {
            None => Ok(()),
            Some(_) => refuse(set),
        }
    }

    fn destroy_set(&mut self, set: &str) -> Result<(), SyncError> {
        let (held, _) = &mut *self.lock();
        let map = format!("--map-set {set} ");
        let of_marks = held.mark_rules.values().flatten();
        if held.rules.contains(&format!("--match-set {set} "))
            || of_marks.into_iter().any(|rule| rule.contains(&map))
        {
            return refuse(set);
        }
        held.stuck_sets.remove(set);
        held.sets.remove(set).map_or_else(|| refuse(set), |_| Ok(()))
    }

    fn swap_sets(&mut self, set: &str, other: &str) -> Result<(), SyncError> {
        let (held, _) = &mut *self.lock();
        let (Some(a), Some(b)) = (held.sets.remove(set), held.sets.remove(other)) else {
            return refuse(set);
        };
        held.sets.insert(set.to_owned(), b);
        held.sets.insert(other.to_owned(), a);
        let (a, b) = (held.stuck_sets.remove(set), held.stuck_sets.remove(other));
        held.stuck_sets.extend(a.then(|| other.to_owned()));
        held.stuck_sets.extend(b.then(|| set.to_owned()));
        Ok(())
    }

    fn add_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError> {
        let (held, told) = &mut *self.lock();
        told.entries += entries.len();
        if held.stuck_sets.contains(set) {
            return refuse_object("set", set);
        }
        let Some((_, max, known)) = held.sets.get_mut(set) else { return refuse(set) };
        for entry in entries {
            known.retain(|old| identity(old) != identity(entry));
            known.insert(*entry);
        }
        if known.len() > *max as usize { refuse(set) } else { Ok(()) }
    }

    fn delete_entries(&mut self, set: &str, entries: &[Entry]) -> Result<(), SyncError> {
        let (held, told) = &mut *self.lock();
        told.entries += entries.len();
        let Some((.., known)) = held.sets.get_mut(set) else { return refuse(set) };
        known.retain(|old| !entries.iter().any(|entry| identity(old) == identity(entry)));
        Ok(())
    }

    fn save(&mut self, table: &str, each: &mut dyn FnMut(&str)) -> Result<(), SyncError> {
        if self.lock().0.iptables_mode && table == "nat" {
            each("-A KUBE-SVC-X -j KUBE-SEP-X");
        }
        if table == "mangle" {
            let (held, _) = &*self.lock();
            held.mark_rules.keys().for_each(|chain| each(&format!(":{chain} - [0:0]")));
            held.mark_hooks.iter().for_each(|hook| each(hook));
        }
        Ok(())
    }

    fn restore(&mut self, input: &str) -> Result<(), SyncError> {
        let (held, told) = &mut *self.lock();
        told.restores += 1;
        if input.starts_with("*mangle\n") && input.contains("KUBE-IPVS-MARK") {
            return restore_marks(held, input);
        }
        let mut words = input.split_whitespace();
        while let Some(word) = words.next() {
            if word == "--match-set" && !words.next().is_some_and(|set| held.sets.contains_key(set))
            {
                return refuse("a rule that refers to a set that is not there");
            }
        }
        if !input.starts_with("*nat\n") {
            held.rules.clear();
        }
        held.rules.push_str(input);
        if input.contains("*nat\n") {
            told.servers_before_nat = held.servers.len();
        }
        Ok(())
    }

    fn holds(&mut self, checks: &[Check]) -> Result<bool, SyncError> {
        let (held, _) = &mut *self.lock();
        let of_marks = |rule: &String| {
            let mut all = held.mark_rules.values().flatten().chain(&held.mark_hooks);
            all.any(|known| known.contains(rule))
        };
        Ok(checks.iter().all(|check| match check {
            Check::Chain { chain, .. } => held.rules.contains(&format!(":{chain} ")),
            Check::Rule { rule, .. } => held.rules.contains(rule) || of_marks(rule),
        }))
    }

    fn find_rules(&mut self, _: &str, rules: &[(&str, &str)]) -> Result<Vec<bool>, SyncError> {
        let (held, told) = &mut *self.lock();
        told.look_ups += rules.len();
        Ok(rules.iter().map(|(_, rule)| held.rules.contains(rule)).collect())
    }

    fn prepare(&mut self, _: &Config) -> Result<(), SyncError> {
        Ok(())
    }
}
