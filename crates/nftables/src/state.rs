//! What is on the node, by service port; and what has to change when the snapshot does.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use kube_proxy_core::{Changes, Claims, Handover, NodePortAddresses, ServicePortName, Snapshot};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Config;
use crate::chain::{Chain, Endpoints};
use crate::difference::Difference;
use crate::element::{Frontend, Item, SetId};
use crate::plan::{OldSlots, Plan, Role, frontends, interval_items};
use crate::range::{Range, from_nets};
use crate::shares::{Shares, Touched};

/// What is on the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    plans: FxHashMap<ServicePortName, Plan>,
    claims: Claims<Frontend>,
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
    fn slots(&self, frontend: &Frontend, endpoints: Endpoints) -> Vec<SocketAddr>;
}

impl State {
    /// The state that a snapshot asks for. Endpoints keep the slots that they have in `before`.
    pub(crate) fn build(snapshot: &Snapshot, before: &impl Before, config: &Config) -> Self {
        let mut state =
            Self { service_cidrs: from_nets(&snapshot.service_cidrs), ..Self::default() };
        for (name, entry) in &snapshot.services {
            for (frontend, role) in frontends(&entry.port) {
                state.claims.claim(frontend, role == Role::ClusterIp, name);
            }
        }
        let mut touched = Touched::default();
        state.plans.reserve(snapshot.services.len());
        for (name, entry) in &snapshot.services {
            let old = old_slots(&frontends(&entry.port), before);
            let claims = &state.claims;
            let plan = Plan::new(name, entry, snapshot.node_ip, &old, |frontend| {
                claims.owner(frontend) == Some(name)
            });
            plan.shares(config, &mut |share| state.shares.add(share, &mut touched));
            state.plans.insert(name.clone(), plan);
        }
        state
    }

    /// Every element that belongs into the table, but for sessions.
    pub(crate) fn elements(&self, config: &Config, put: &mut impl FnMut(SetId, Item)) {
        for plan in self.plans.values() {
            plan.elements(config, put);
        }
        for (set, item) in self.shares.all().filter_map(crate::shares::Share::element) {
            put(set, item);
        }
        interval_items(&self.service_cidrs).for_each(|item| put(SetId::ServiceCidrs, item));
        if let NodePortAddresses::Within(nets) = &config.node_ports {
            interval_items(&from_nets(nets)).for_each(|item| put(SetId::NodeportIps, item));
        }
    }

    /// Chains that are needed whatever the elements are.
    pub(crate) fn shared_chains(&self) -> impl Iterator<Item = Chain> {
        self.shares.all().filter_map(crate::shares::Share::chain)
    }

    /// All service ports.
    pub(crate) fn plans(&self) -> impl Iterator<Item = (&ServicePortName, &Plan)> {
        self.plans.iter()
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
    ) -> (Difference, EndedSessions) {
        let mut difference = Difference::default();
        let mut sessions = EndedSessions::default();
        let mut touched = Touched::default();
        for name in &self.affected(snapshot, changes) {
            self.replan(name, snapshot, config, &mut difference, &mut touched, &mut sessions);
        }
        self.finish_shares(&touched, &mut difference);
        if changes.service_cidrs {
            self.update_service_cidrs(snapshot, &mut difference);
        }
        difference.need_chains_of_added(&mut self.chains);
        for chain in &difference.stale_chains {
            self.chains.remove(chain);
        }
        (difference, sessions)
    }

    /// The service port whose sessions are known by this, if it still keeps any.
    pub(crate) fn session_owner(&self, sessions: &Frontend) -> Option<&Plan> {
        self.plans.get(self.claims.owner(sessions)?).filter(|plan| plan.affinity().is_some())
    }

    /// The service port that has a frontend.
    pub(crate) fn owner(&self, frontend: &Frontend) -> Option<&ServicePortName> {
        self.claims.owner(frontend)
    }

    /// Claims and releases frontends; returns every service port that looks different now.
    fn affected(&mut self, snapshot: &Snapshot, changes: &Changes) -> BTreeSet<ServicePortName> {
        let mut affected = changes.services.clone();
        if changes.node_ip {
            let ranged = |plan: &Plan| plan.port.load_balancer_source_ranges.is_some();
            let all = self.plans.iter().filter(|(_, plan)| ranged(plan));
            affected.extend(all.map(|(name, _)| name.clone()));
        }
        for name in &changes.services {
            let before = self.plans.get(name).map(|plan| frontends(&plan.port)).unwrap_or_default();
            let after = snapshot.services.get(name).map(|entry| frontends(&entry.port));
            let after = after.unwrap_or_default();
            let mut handed_over = |handover: Option<Handover>| {
                let Some(Handover { from, to }) = handover else { return };
                affected.extend(from.into_iter().chain(to));
            };
            for (frontend, role) in before.iter().filter(|old| !after.contains(old)) {
                handed_over(self.claims.release(frontend, *role == Role::ClusterIp, name));
            }
            for (frontend, role) in after.iter().filter(|new| !before.contains(new)) {
                handed_over(self.claims.claim(*frontend, *role == Role::ClusterIp, name));
            }
        }
        affected
    }

    fn replan(
        &mut self,
        name: &ServicePortName,
        snapshot: &Snapshot,
        config: &Config,
        difference: &mut Difference,
        touched: &mut Touched,
        sessions: &mut EndedSessions,
    ) {
        let before = self.plans.remove(name);
        let old_slots = before.as_ref().map(OldSlots::of).unwrap_or_default();
        let after = snapshot.services.get(name).map(|entry| {
            Plan::new(name, entry, snapshot.node_ip, &old_slots, |frontend| {
                self.claims.owner(frontend) == Some(name)
            })
        });
        let elements = |plan: Option<&Plan>| {
            let mut all = Vec::new();
            if let Some(plan) = plan {
                plan.elements(config, &mut |set, item| all.push((set, item)));
            }
            all
        };
        difference.compare(elements(before.as_ref()), elements(after.as_ref()));
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

    fn finish_shares(&mut self, touched: &Touched, difference: &mut Difference) {
        let (came, went) = self.shares.differences(touched);
        for share in came {
            if let Some((set, item)) = share.element() {
                difference.added.push(set, item);
            }
            if let Some(chain) = share.chain() {
                difference.need_chain(chain, &mut self.chains);
            }
        }
        for share in went {
            if let Some((set, item)) = share.element() {
                difference.deleted.push(set, item);
            }
            difference.stale_chains.extend(share.chain());
        }
    }

    fn update_service_cidrs(&mut self, snapshot: &Snapshot, difference: &mut Difference) {
        let after = from_nets(&snapshot.service_cidrs);
        let before = std::mem::replace(&mut self.service_cidrs, after);
        let items = |ranges: &[Range]| {
            interval_items(ranges).map(|item| (SetId::ServiceCidrs, item)).collect()
        };
        difference.compare(items(&before), items(&self.service_cidrs));
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
        for endpoints in Endpoints::ALL {
            let mut old = before.list(endpoints).iter();
            self.any |= !old.all(|slot| after.has_endpoint(endpoints, slot.address()));
        }
    }
}

/// The slots that a service port had: those of the first of its frontends that had any.
fn old_slots<R>(frontends: &[(Frontend, R)], before: &impl Before) -> OldSlots {
    let of = |endpoints| {
        let mut lists = frontends.iter().map(|(frontend, _)| before.slots(frontend, endpoints));
        lists.find(|list| !list.is_empty()).unwrap_or_default()
    };
    OldSlots { cluster: of(Endpoints::Cluster), local: of(Endpoints::Local) }
}

#[cfg(test)]
mod tests;
