//! The owner of a frontend that several service ports ask for.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use crate::{Frontend, FrontendKind, ServicePort, ServicePortName};

/// A frontend that several service ports ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The frontend.
    pub frontend: Frontend,
    /// The service port that has it.
    pub owner: ServicePortName,
    /// One that does without.
    pub loser: ServicePortName,
}

/// The owner of each frontend, and the service ports that ask for it in vain.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners {
    holders: FxHashMap<Frontend, Claim>,
    /// The other claims, in order. Few frontends have any.
    waiting: FxHashMap<Frontend, BTreeSet<Claim>>,
    /// Frontends whose claims changed since conflicts were last taken, if they are or were contested.
    unsettled: BTreeSet<Frontend>,
    reported: BTreeSet<Conflict>,
}

/// One service port asks for a frontend. The first in this order owns it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    kind: FrontendKind,
    name: ServicePortName,
}

impl Owners {
    /// The owner of a frontend.
    pub(crate) fn owner(&self, frontend: Frontend) -> Option<&ServicePortName> {
        self.holders.get(&frontend).map(|claim| &claim.name)
    }

    /// The frontends that more than one service port asks for.
    pub(crate) fn contested(&self) -> usize {
        self.waiting.len()
    }

    /// All conflicts, in order.
    pub(crate) fn conflicts(&self) -> Vec<Conflict> {
        let all = self.waiting.keys().flat_map(|frontend| self.conflicts_about(*frontend));
        let all: BTreeSet<Conflict> = all.collect();
        all.into_iter().collect()
    }

    fn conflicts_about(&self, frontend: Frontend) -> impl Iterator<Item = Conflict> {
        let owner = self.holders.get(&frontend);
        let losers = self.waiting.get(&frontend).into_iter().flatten();
        let pairs =
            owner.into_iter().flat_map(move |owner| losers.clone().map(move |l| (owner, l)));
        pairs.map(move |(owner, loser)| Conflict {
            frontend,
            owner: owner.name.clone(),
            loser: loser.name.clone(),
        })
    }

    /// A service port asks for its frontends. Names service ports that lose one by that.
    pub(crate) fn claim(
        &mut self,
        name: &ServicePortName,
        port: &ServicePort,
        affected: &mut BTreeSet<ServicePortName>,
    ) {
        for &(frontend, kind) in &port.frontends {
            let claim = Claim { kind, name: name.clone() };
            let Some(owner) = self.holders.get_mut(&frontend) else {
                self.holders.insert(frontend, claim);
                continue;
            };
            let later = if claim < *owner {
                affected.insert(owner.name.clone());
                std::mem::replace(owner, claim)
            } else {
                claim
            };
            self.waiting.entry(frontend).or_default().insert(later);
            self.unsettled.insert(frontend);
        }
    }

    /// A service port no longer asks for its frontends. Names service ports that get one by that.
    pub(crate) fn release(
        &mut self,
        name: &ServicePortName,
        port: &ServicePort,
        affected: &mut BTreeSet<ServicePortName>,
    ) {
        for &(frontend, kind) in &port.frontends {
            let claim = Claim { kind, name: name.clone() };
            let next = match self.waiting.get_mut(&frontend) {
                None => None,
                Some(waiting) => {
                    self.unsettled.insert(frontend);
                    if self.holders.get(&frontend) == Some(&claim) {
                        waiting.pop_first()
                    } else {
                        waiting.remove(&claim);
                        self.holders.get(&frontend).cloned()
                    }
                }
            };
            if self.waiting.get(&frontend).is_some_and(BTreeSet::is_empty) {
                self.waiting.remove(&frontend);
            }
            match next {
                Some(next) => {
                    affected.insert(next.name.clone());
                    self.holders.insert(frontend, next);
                }
                None => {
                    self.holders.remove(&frontend);
                }
            }
        }
    }

    /// The conflicts that are new since this was last called.
    pub(crate) fn take_new_conflicts(&mut self) -> Vec<Conflict> {
        let mut new = Vec::new();
        for frontend in std::mem::take(&mut self.unsettled) {
            let now: BTreeSet<Conflict> = self.conflicts_about(frontend).collect();
            self.reported.retain(|known| known.frontend != frontend || now.contains(known));
            new.extend(now.into_iter().filter(|conflict| self.reported.insert(conflict.clone())));
        }
        new
    }
}

#[cfg(test)]
mod tests;
