//! What is on the node, by service port; and what has to change when the snapshot does.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kube_proxy_core::{
    Changes, Frontend, FrontendKind, NodePortAddresses, ServicePortName, Snapshot, TrafficPolicy,
};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Config;
use crate::chain::Chain;
use crate::diff::Diff;
use crate::element::{Item, SetId};
use crate::key::Key;
use crate::plan::{OldSlots, Plan, interval_items};
use crate::range::{Range, from_nets};
use crate::shares::{Share, Shares, Touched};

/// What is on the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    plans: FxHashMap<ServicePortName, Plan>,
    shares: Shares,
    /// Chains that are there, in use or not, besides those that always are.
    chains: FxHashSet<Chain>,
    service_cidrs: Vec<Range>,
}

/// What a change means for the sessions that the node remembers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndedSessions {
    /// Some endpoint or service port with affinity went.
    pub(crate) any: bool,
}

/// What the table held at the start: slots that endpoints keep.
pub(crate) trait Before {
    /// The endpoints of a frontend, by slot.
    fn slots(&self, frontend: &Frontend, endpoints: TrafficPolicy) -> Vec<SocketAddr>;
}

impl State {
    /// The state that a snapshot asks for. Endpoints keep the slots that they have in `before`.
    pub(crate) fn build(snapshot: &Snapshot, before: &impl Before, config: &Config) -> Self {
        let mut state =
            Self { service_cidrs: from_nets(&snapshot.service_cidrs), ..Self::default() };
        let mut touched = Touched::default();
        state.plans.reserve(snapshot.services.len());
        for (name, entry) in &snapshot.services {
            let old = old_slots(&entry.port.frontends, before);
            let plan = Plan::new(entry, snapshot.node_ip, &old);
            plan.shares(config, &mut |share| state.shares.add(share, &mut touched));
            state.plans.insert(name.clone(), plan);
        }
        state
    }

    /// Every element that belongs into the table, but for sessions.
    pub(crate) fn elements(&self, config: &Config, put: &mut impl FnMut(SetId, Item)) {
        for (name, plan) in &self.plans {
            plan.elements(name, config, put);
        }
        self.elements_of_no_plan(config, put);
    }

    fn elements_of_no_plan(&self, config: &Config, put: &mut impl FnMut(SetId, Item)) {
        for (set, item) in self.shares.all().filter_map(Share::element) {
            put(set, item);
        }
        interval_items(&self.service_cidrs).for_each(|item| put(SetId::ServiceCidrs, item));
        if let NodePortAddresses::Within(nets) = &config.node_ports {
            interval_items(&from_nets(nets)).for_each(|item| put(SetId::NodeportAddresses, item));
        }
    }

    /// The elements that belong into one set, made one service port at a time: all of them together take more memory than the state.
    pub(crate) fn elements_of(&self, set: SetId, config: &Config) -> impl Iterator<Item = Item> {
        let of_plan = move |(name, plan): (&ServicePortName, &Plan)| {
            let mut items = Vec::new();
            plan.elements(name, config, &mut |of, item| {
                if of == set {
                    items.push(item);
                }
            });
            items
        };
        let mut others = Vec::new();
        self.elements_of_no_plan(config, &mut |of, item| {
            if of == set {
                others.push(item);
            }
        });
        self.plans.iter().flat_map(of_plan).chain(others)
    }

    /// Chains that are needed whatever the elements are.
    pub(crate) fn shared_chains(&self) -> impl Iterator<Item = Chain> {
        self.shares.all().filter_map(Share::chain)
    }

    /// Some service port is in the fast path, or not, other than the rest of the node.
    pub(crate) fn has_fast_path_choices(&self) -> bool {
        self.shares.has(Share::Chain(Chain::FastPath))
    }

    /// All service ports.
    pub(crate) fn plans(&self) -> impl Iterator<Item = (&ServicePortName, &Plan)> {
        self.plans.iter()
    }

    /// What the node has for a service port.
    pub(crate) fn plan(&self, name: &ServicePortName) -> Option<&Plan> {
        self.plans.get(name)
    }

    /// Whether there is such a service port.
    pub(crate) fn has(&self, name: &ServicePortName) -> bool {
        self.plans.contains_key(name)
    }

    /// Chains that are there, besides those that always are.
    pub(crate) fn chains(&self) -> &FxHashSet<Chain> {
        &self.chains
    }

    /// Notes which chains are there.
    pub(crate) fn set_chains(&mut self, chains: FxHashSet<Chain>) {
        self.chains = chains;
    }

    /// Takes changes of the snapshot in, and says what they mean for the node.
    pub(crate) fn update(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        config: &Config,
    ) -> (Diff, EndedSessions) {
        let mut diff = Diff::default();
        let mut sessions = EndedSessions::default();
        let mut touched = Touched::default();
        for name in &self.affected(changes) {
            self.replan(name, snapshot, config, &mut diff, &mut touched, &mut sessions);
        }
        self.finish_shares(&touched, &mut diff);
        if changes.service_cidrs {
            self.update_service_cidrs(snapshot, &mut diff);
        }
        diff.need_chains_of_added(&mut self.chains);
        for chain in &diff.stale_chains {
            self.chains.remove(chain);
        }
        (diff, sessions)
    }

    /// The service ports that keep sessions, by what these are known by.
    pub(crate) fn session_owners(&self) -> FxHashMap<Key, &Plan> {
        let plans = self.plans.values();
        plans.filter_map(|plan| Some((plan.affinity()?.sessions.key(), plan))).collect()
    }

    /// The service port that has each frontend.
    pub(crate) fn owners(&self) -> FxHashMap<Frontend, &ServicePortName> {
        let mut owners = FxHashMap::default();
        for (name, plan) in &self.plans {
            owners.extend(plan.port().frontends.iter().map(|(frontend, _)| (*frontend, name)));
        }
        owners
    }

    /// Every service port that looks different now.
    fn affected(&self, changes: &Changes) -> BTreeSet<ServicePortName> {
        let mut affected = changes.services.clone();
        if changes.node_ip {
            let ranged = |plan: &Plan| plan.port().source_ranges().is_some();
            let all = self.plans.iter().filter(|(_, plan)| ranged(plan));
            affected.extend(all.map(|(name, _)| name.clone()));
        }
        affected
    }

    fn replan(
        &mut self,
        name: &ServicePortName,
        snapshot: &Snapshot,
        config: &Config,
        diff: &mut Diff,
        touched: &mut Touched,
        sessions: &mut EndedSessions,
    ) {
        let before = self.plans.remove(name);
        let old_slots = before.as_ref().map(OldSlots::of).unwrap_or_default();
        let after = snapshot.services.get(name);
        let after = after.map(|entry| Plan::new(entry, snapshot.node_ip, &old_slots));
        let elements = |plan: Option<&Plan>| {
            let mut all = Vec::new();
            if let Some(plan) = plan {
                plan.elements(name, config, &mut |set, item| all.push((set, item)));
            }
            all
        };
        diff.compare(elements(before.as_ref()), elements(after.as_ref()));
        if let Some(plan) = &after {
            plan.shares(config, &mut |share| self.shares.add(share, touched));
        }
        if let Some(plan) = &before {
            plan.shares(config, &mut |share| self.shares.remove(share, touched));
            sessions.note(plan, after.as_ref());
        }
        if let Some(plan) = after {
            self.plans.insert(name.clone(), plan);
        }
    }

    fn finish_shares(&mut self, touched: &Touched, diff: &mut Diff) {
        let (came, went) = self.shares.differences(touched);
        for share in came {
            if let Some((set, item)) = share.element() {
                diff.added.push(set, item);
            }
            if let Some(chain) = share.chain() {
                diff.need_chain(chain, &mut self.chains);
            }
        }
        for share in went {
            if let Some((set, item)) = share.element() {
                diff.deleted.push(set, item);
            }
            diff.stale_chains.extend(share.chain());
        }
    }

    fn update_service_cidrs(&mut self, snapshot: &Snapshot, diff: &mut Diff) {
        let after = from_nets(&snapshot.service_cidrs);
        if after != self.service_cidrs {
            self.service_cidrs = after;
            diff.replace(SetId::ServiceCidrs, interval_items(&self.service_cidrs));
        }
    }
}

impl EndedSessions {
    fn note(&mut self, before: &Plan, after: Option<&Plan>) {
        let Some(old) = before.affinity() else { return };
        let new = after.and_then(|after| Some((after, after.affinity()?.sessions)));
        let Some((after, _)) = new.filter(|(_, sessions)| *sessions == old.sessions) else {
            self.any = true;
            return;
        };
        for endpoints in TrafficPolicy::ALL {
            let mut old = before.list(endpoints);
            self.any |= !old.all(|slot| after.has_endpoint(endpoints, slot.address()));
        }
    }
}

/// The slots that a service port had: those of the first of its frontends that had any.
fn old_slots(frontends: &[(Frontend, FrontendKind)], before: &impl Before) -> OldSlots {
    let of = |endpoints| {
        let mut lists = frontends.iter().map(|(frontend, _)| before.slots(frontend, endpoints));
        lists.find(|list| !list.is_empty()).unwrap_or_default()
    };
    OldSlots { cluster: of(TrafficPolicy::Cluster), local: of(TrafficPolicy::Local) }
}

#[cfg(test)]
mod tests;
