//! What is on the node, as far as it takes to know what has to change: from changed services to changed chains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kube_proxy_core::{ServiceEntry, ServicePortName, Snapshot};
use rustc_hash::FxHashMap;

use crate::fixed::{HairpinAddress, HairpinWriter, Masquerade};
use crate::keys::address_key;
use crate::layout::{Table, hairpin};
use crate::lists::{COUNT, LISTS, List, ListWriter, Owned, Place, Subject};
use crate::names::{ChainName, ServiceChains};
use crate::restore::{Batch, ChainState};
use crate::rules::Rules;
use crate::service::{ServiceRules, Settings};
use crate::tree::{Passed, Shape, Tree};

/// What planning needs besides the services.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) settings: Settings<'a>,
    pub(crate) masquerade: Masquerade,
    /// Destinations that take NodePort traffic, one element for each rule.
    pub(crate) node_ports: &'a [String],
    /// Services that the kernel refused.
    pub(crate) left_out: &'a BTreeSet<ServicePortName>,
}

impl<'a> Plan<'a> {
    fn entry(&self, name: &ServicePortName) -> Option<&'a ServiceEntry> {
        if self.left_out.contains(name) {
            return None;
        }
        self.snapshot.entry(name)
    }

    fn writer(&self, list: &'static List) -> ListWriter<'a> {
        ListWriter {
            list,
            snapshot: self.snapshot,
            family: self.settings.family,
            node_ports: self.node_ports,
        }
    }
}

/// The rules on the node, without their text.
#[derive(Debug, Default)]
pub(crate) struct State {
    services: FxHashMap<Arc<ServicePortName>, Applied>,
    /// The service ports of each health-check port: those of one Service share it. The first by name stands in the rule.
    health_checks: BTreeMap<u16, BTreeSet<Arc<ServicePortName>>>,
    lists: [Tree<Owned>; COUNT],
    /// The same addresses in each table of [`Table::ALL`].
    hairpin: [Tree<HairpinAddress>; 2],
    /// Rules in the chains of services.
    service_rules: usize,
}

/// What the node holds for one service port.
#[derive(Debug, Default)]
struct Applied {
    places: Box<[(Place, Subject)]>,
    chains: Box<[(ChainName, ChainState)]>,
    local_addresses: Box<[IpAddr]>,
}

impl State {
    /// Nothing on the node.
    /// How its chains divide.
    pub(crate) fn shape(&self) -> Shape {
        self.lists[0].shape()
    }

    pub(crate) fn new(shape: Shape) -> Self {
        Self {
            lists: std::array::from_fn(|_| Tree::new(shape)),
            hairpin: std::array::from_fn(|_| Tree::new(shape)),
            ..Self::default()
        }
    }

    /// Writes what these service ports need now, and deletes what they no longer need.
    pub(crate) fn update<'n>(
        &mut self,
        names: impl Iterator<Item = &'n ServicePortName>,
        plan: &Plan<'_>,
        batch: &mut Batch,
    ) {
        let mut touched = Touched::default();
        for name in names {
            self.update_service(name, plan, &mut touched, batch);
        }
        for (place, owned) in touched {
            self.settle(place, owned, plan);
        }
        self.render(plan, batch);
    }

    /// Rules of ours in a table, besides the fixed chains.
    pub(crate) fn rule_count(&self, table: Table) -> usize {
        let lists = LISTS.iter().zip(&self.lists);
        let dispatch: usize =
            lists.filter(|(list, _)| list.table == table).map(|(_, tree)| tree.rule_count()).sum();
        let hairpin = self.hairpin[table as usize].rule_count();
        match table {
            Table::Filter => dispatch + hairpin,
            Table::Nat => dispatch + hairpin + self.service_rules,
        }
    }

    /// The first rule of each root in a table that has one, with its chain.
    pub(crate) fn first_rules(&self, table: Table) -> Vec<(&'static str, String)> {
        let lists = LISTS.iter().zip(&self.lists).filter(|(list, _)| list.table == table);
        let lists = lists.map(|(list, tree)| (list.root, tree.first_rule()));
        let hairpin = (hairpin(table).0, self.hairpin[table as usize].first_rule());
        let roots = lists.chain([hairpin]);
        roots.filter_map(|(root, rule)| Some((root, rule?.to_owned()))).collect()
    }

    /// The chains that packets to a place pass in each list that may have it, from the root on.
    pub(crate) fn ways_to(
        &self,
        place: Place,
        plan: &Plan<'_>,
    ) -> Vec<(&'static List, Vec<Passed>)> {
        let lists = LISTS.iter().zip(&self.lists).filter(|(list, _)| list.may_hold(place));
        lists.map(|(list, tree)| (list, tree.way_to(&place.key(), &plan.writer(list)))).collect()
    }

    /// The root whose last rules lead to the root of this list, if one does.
    pub(crate) fn root_before(
        &self,
        list: &List,
        plan: &Plan<'_>,
    ) -> Option<(&'static str, Passed)> {
        let target = format!("-j {}", list.root);
        let lists = LISTS.iter().zip(&self.lists).filter(|(of, _)| of.table == list.table);
        let mut roots = lists.map(|(of, tree)| (of.root, tree.root_with_tail(&plan.writer(of))));
        roots.find(|(_, passed)| {
            passed.rules[passed.own.clone()].iter().any(|r| r.ends_with(&target))
        })
    }

    fn update_service(
        &mut self,
        name: &ServicePortName,
        plan: &Plan<'_>,
        touched: &mut Touched,
        batch: &mut Batch,
    ) {
        let (name, old) = match self.services.remove_entry(name) {
            Some(held) => held,
            None => (Arc::new(name.clone()), Applied::default()),
        };
        let entry = plan.entry(&name);
        let new = Applied {
            places: entry.map_or_else(Vec::new, places).into(),
            chains: self.write_chains(&name, entry, &old.chains, plan, batch),
            local_addresses: entry.map_or_else(Vec::new, local_addresses).into(),
        };
        self.move_places(&name, &old.places, &new.places, touched);
        self.move_hairpin(&old.local_addresses, &new.local_addresses);
        if entry.is_some() {
            self.services.insert(name, new);
        }
    }

    fn write_chains(
        &mut self,
        name: &Arc<ServicePortName>,
        entry: Option<&ServiceEntry>,
        old: &[(ChainName, ChainState)],
        plan: &Plan<'_>,
        batch: &mut Batch,
    ) -> Box<[(ChainName, ChainState)]> {
        let text = batch.table(Table::Nat);
        let mut there: FxHashMap<_, _> = old.iter().copied().collect();
        let mut chains = Vec::new();
        if let Some(entry) = entry {
            let service = ServiceRules {
                settings: plan.settings,
                name,
                entry,
                names: ServiceChains::of(name),
            };
            for (chain, kind) in service.chains() {
                let there = there.remove(&chain);
                let write = |rules: &mut Rules<'_>| service.write(kind, rules);
                let state = text.chain(kind.part(), chain, there, write);
                chains.push((chain, state));
            }
        }
        text.delete(there.into_keys().collect());
        let rules = |chains: &[(ChainName, ChainState)]| -> usize {
            chains.iter().map(|(_, state)| state.rules as usize).sum()
        };
        self.service_rules = self.service_rules + rules(&chains) - rules(old);
        chains.into()
    }

    /// Notes whose the places are now that a service port had or has. Each has one owner at most, so that one without an owner among the
    /// changed service ports has none.
    fn move_places(
        &mut self,
        name: &Arc<ServicePortName>,
        old: &[(Place, Subject)],
        new: &[(Place, Subject)],
        touched: &mut Touched,
    ) {
        for (place, _) in old {
            if let Place::HealthCheck(port) = place
                && let Some(users) = self.health_checks.get_mut(port)
            {
                users.remove(name);
            }
            touched.entry(*place).or_default();
        }
        for (place, subject) in new {
            if let Place::HealthCheck(port) = place {
                self.health_checks.entry(*port).or_default().insert(name.clone());
            }
            touched.insert(*place, Some(Owned { owner: name.clone(), subject: *subject }));
        }
    }

    fn move_hairpin(&mut self, old: &[IpAddr], new: &[IpAddr]) {
        for tree in &mut self.hairpin {
            for ip in new {
                let (key, first) = HairpinAddress::first_user(*ip);
                match tree.get_mut(&key) {
                    Some(address) => address.users += 1,
                    None => tree.insert(key, first),
                }
            }
            for ip in old {
                let key = address_key(*ip);
                match tree.get_mut(&key) {
                    Some(address) if address.users > 1 => address.users -= 1,
                    _ => tree.remove(key),
                }
            }
        }
    }

    /// Gives a place to its owner, in every list where that needs a rule.
    fn settle(&mut self, place: Place, owned: Option<Owned>, plan: &Plan<'_>) {
        let holder = match place {
            Place::Frontend(_) => owned,
            Place::HealthCheck(port) => self.user_of(port),
        };
        let held = holder.and_then(|owned| {
            let entry = plan.entry(&owned.owner)?;
            let chains = ServiceChains::of(&owned.owner);
            Some((owned, entry, chains))
        });
        let key = place.key();
        for (list, tree) in LISTS.iter().zip(&mut self.lists) {
            if !list.may_hold(place) {
                continue;
            }
            match &held {
                Some((owned, entry, chains)) if list.holds(owned.subject, entry, chains) => {
                    tree.insert(key, owned.clone());
                }
                _ => tree.remove(key),
            }
        }
    }

    /// The service port that stands in the rule of a health-check port.
    fn user_of(&mut self, port: u16) -> Option<Owned> {
        let users = self.health_checks.get(&port)?;
        let Some(first) = users.first() else {
            self.health_checks.remove(&port);
            return None;
        };
        Some(Owned { owner: first.clone(), subject: Subject::HealthCheck })
    }

    fn render(&mut self, plan: &Plan<'_>, batch: &mut Batch) {
        for (list, tree) in LISTS.iter().zip(&mut self.lists) {
            tree.render(&plan.writer(list), batch.table(list.table));
        }
        for table in Table::ALL {
            let writer = HairpinWriter::new(table, plan.settings.family, plan.masquerade);
            self.hairpin[table as usize].render(&writer, batch.table(table));
        }
    }
}

/// The places whose owner changed service ports settle, in a fixed order; `None` is no owner.
type Touched = BTreeMap<Place, Option<Owned>>;

/// Where a service port has rules in lists.
fn places(entry: &ServiceEntry) -> Vec<(Place, Subject)> {
    let frontends = entry.port.frontends.iter();
    let health_check = entry.port.policy.health_check_node_port;
    frontends
        .map(|(frontend, kind)| (Place::Frontend(*frontend), Subject::Frontend(*kind)))
        .chain(health_check.map(|port| (Place::HealthCheck(port.get()), Subject::HealthCheck)))
        .collect()
}

/// The addresses of endpoints that may be on this node, each once: they may talk to themselves through the service.
fn local_addresses(entry: &ServiceEntry) -> Vec<IpAddr> {
    let mut addresses: Vec<_> = entry
        .choice
        .reachable()
        .filter(|endpoint| endpoint.may_be_local())
        .map(|endpoint| endpoint.ip)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
