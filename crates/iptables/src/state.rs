//! What is on the node, as far as it takes to know what has to change: from changed services to changed chains.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use kube_proxy_core::{ServiceEntry, ServicePortName, Snapshot};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::fixed::{HAIRPIN, HairpinAddress, HairpinWriter, Masquerade};
use crate::keys::{address_key, key};
use crate::layout::Table;
use crate::lists::{COUNT, Claim, LISTS, ListWriter};
use crate::names::{ChainName, ServiceChains};
use crate::restore::{Batch, ChainState};
use crate::rules::Rules;
use crate::service::{Frontend, Role, ServiceRules, Settings, frontends};
use crate::tree::{Shape, Tree};

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
        self.snapshot.services.get(name)
    }
}

/// The rules on the node, without their text.
#[derive(Debug, Default)]
pub(crate) struct State {
    services: FxHashMap<Arc<ServicePortName>, Held>,
    /// Who wants which frontend. A cluster IP goes before everything else that claims its address, so that no external IP takes its traffic
    /// (CVE-2020-8554); among equals the first by name has it.
    claims: FxHashMap<Frontend, Vec<(Arc<ServicePortName>, Role)>>,
    lists: [Tree<Claim>; COUNT],
    /// The same addresses in each table of [`Table::ALL`].
    hairpin: [Tree<HairpinAddress>; 2],
    /// Rules in the chains of services.
    service_rules: usize,
}

/// What the node holds for one service port.
#[derive(Debug, Default)]
struct Held {
    frontends: Box<[(Frontend, Role)]>,
    chains: Box<[(ChainName, ChainState)]>,
    local_addresses: Box<[IpAddr]>,
}

/// Frontends that more than one Service wants, each reported once for as long as that lasts.
#[derive(Debug, Default)]
pub(crate) struct Clashes(FxHashMap<Frontend, FxHashSet<Arc<ServicePortName>>>);

impl State {
    /// Nothing on the node.
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
        clashes: &mut Clashes,
        batch: &mut Batch,
    ) {
        let mut touched = Vec::new();
        for name in names {
            self.update_service(name, plan, &mut touched, batch);
        }
        touched.sort_unstable();
        touched.dedup();
        for frontend in touched {
            self.settle(frontend, plan, clashes);
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
        let hairpin = (HAIRPIN, self.hairpin[table as usize].first_rule());
        let roots = lists.chain([hairpin]);
        roots.filter_map(|(root, rule)| Some((root, rule?.to_owned()))).collect()
    }

    fn update_service(
        &mut self,
        name: &ServicePortName,
        plan: &Plan<'_>,
        touched: &mut Vec<Frontend>,
        batch: &mut Batch,
    ) {
        let (name, old) = match self.services.remove_entry(name) {
            Some(held) => held,
            None => (Arc::new(name.clone()), Held::default()),
        };
        let entry = plan.entry(&name);
        let new = Held {
            frontends: entry.map_or_else(Vec::new, |e| frontends(&e.port)).into(),
            chains: self.write_chains(&name, entry, &old.chains, plan, batch),
            local_addresses: entry.map_or_else(Vec::new, local_addresses).into(),
        };
        self.move_claims(&name, &old.frontends, &new.frontends);
        touched.extend(old.frontends.iter().map(|(frontend, _)| *frontend));
        touched.extend(new.frontends.iter().map(|(frontend, _)| *frontend));
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

    fn move_claims(
        &mut self,
        name: &Arc<ServicePortName>,
        old: &[(Frontend, Role)],
        new: &[(Frontend, Role)],
    ) {
        for (frontend, _) in old {
            if let Some(claims) = self.claims.get_mut(frontend) {
                claims.retain(|(owner, _)| owner != name);
                if claims.is_empty() {
                    self.claims.remove(frontend);
                }
            }
        }
        for (frontend, role) in new {
            let claims = self.claims.entry(*frontend).or_default();
            let rank = |role: Role| role != Role::ClusterIp;
            let before =
                |owner: &ServicePortName, of: Role| (rank(of), owner) < (rank(*role), &**name);
            let place = claims.partition_point(|(owner, of)| before(owner, *of));
            claims.insert(place, (name.clone(), *role));
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

    /// Gives a frontend to the first service port that wants it, in every list where that needs a rule.
    fn settle(&mut self, frontend: Frontend, plan: &Plan<'_>, clashes: &mut Clashes) {
        let claims = self.claims.get(&frontend).map_or(&[][..], Vec::as_slice);
        clashes.report(frontend, claims);
        let winner = claims.first().and_then(|(owner, role)| {
            let entry = plan.entry(owner)?;
            Some((owner, *role, entry, ServiceChains::of(owner)))
        });
        let key = key(frontend);
        for (list, tree) in LISTS.iter().zip(&mut self.lists) {
            if !list.may_hold(frontend) {
                continue;
            }
            match &winner {
                Some((owner, role, entry, chains)) if list.holds(*role, entry, chains) => {
                    let (owner, role) = (Arc::clone(owner), *role);
                    tree.insert(key, Claim { owner, role });
                }
                _ => tree.remove(key),
            }
        }
    }

    fn render(&mut self, plan: &Plan<'_>, batch: &mut Batch) {
        for (list, tree) in LISTS.iter().zip(&mut self.lists) {
            let writer = ListWriter {
                list,
                snapshot: plan.snapshot,
                family: plan.settings.family,
                node_ports: plan.node_ports,
            };
            tree.render(&writer, batch.table(list.table));
        }
        for table in Table::ALL {
            let writer = HairpinWriter::new(table, plan.settings.family, plan.masquerade);
            self.hairpin[table as usize].render(&writer, batch.table(table));
        }
    }
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

impl Clashes {
    /// Says who does not get a frontend, unless that was said before.
    fn report(&mut self, frontend: Frontend, claims: &[(Arc<ServicePortName>, Role)]) {
        let losers: Vec<_> = match claims.split_first() {
            // All ports of one Service share its health-check node port.
            Some(((winner, _), others)) => others
                .iter()
                .filter(|(loser, _)| loser.service != winner.service)
                .map(|(loser, _)| loser)
                .collect(),
            None => Vec::new(),
        };
        if losers.is_empty() {
            self.0.remove(&frontend);
            return;
        }
        let known = self.0.entry(frontend).or_default();
        known.retain(|loser| losers.contains(&loser));
        for loser in losers {
            if known.insert(loser.clone()) {
                let winner = &claims[0].0;
                tracing::warn!(
                    "{frontend} is wanted by service {loser} but taken by service {winner}: {loser} is not reachable there"
                );
            }
        }
    }
}
