//! Who has a frontend that several service ports ask for: the one whose cluster IP it is, else the first by name.
//!
//! So no external IP takes the traffic of a cluster IP (CVE-2020-8554).

use std::hash::Hash;

use rustc_hash::FxHashMap;

use crate::ServicePortName;

/// Who asks for each frontend; `F` is whatever a mode tells frontends by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<F: Eq + Hash> {
    /// Sorted; hardly ever more than one.
    by_frontend: FxHashMap<F, Vec<Claim>>,
}

/// One service port asks for a frontend. The first in this order has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    is_other: bool,
    name: ServicePortName,
}

/// A frontend has another owner now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Who had it.
    pub from: Option<ServicePortName>,
    /// Who has it.
    pub to: Option<ServicePortName>,
}

impl<F: Eq + Hash> Default for Claims<F> {
    fn default() -> Self {
        Self { by_frontend: FxHashMap::default() }
    }
}

impl<F: Eq + Hash> Claims<F> {
    /// Who has a frontend.
    pub fn owner(&self, frontend: &F) -> Option<&ServicePortName> {
        self.by_frontend.get(frontend)?.first().map(|claim| &claim.name)
    }

    /// A service port asks for a frontend, which is its cluster IP or is not.
    pub fn claim(
        &mut self,
        frontend: F,
        is_cluster_ip: bool,
        name: &ServicePortName,
    ) -> Option<Handover> {
        let claim = Claim { is_other: !is_cluster_ip, name: name.clone() };
        let claims = self.by_frontend.entry(frontend).or_default();
        let place = claims.binary_search(&claim).err()?;
        let from = claims.first().map(|first| first.name.clone());
        claims.insert(place, claim);
        (place == 0).then(|| Handover { from, to: Some(name.clone()) })
    }

    /// A service port no longer asks for a frontend.
    pub fn release(
        &mut self,
        frontend: &F,
        is_cluster_ip: bool,
        name: &ServicePortName,
    ) -> Option<Handover> {
        let claims = self.by_frontend.get_mut(frontend)?;
        let claim = Claim { is_other: !is_cluster_ip, name: name.clone() };
        let place = claims.binary_search(&claim).ok()?;
        claims.remove(place);
        let to = claims.first().map(|first| first.name.clone());
        if claims.is_empty() {
            self.by_frontend.remove(frontend);
        }
        (place == 0).then(|| Handover { from: Some(name.clone()), to })
    }
}

#[cfg(test)]
mod tests;
