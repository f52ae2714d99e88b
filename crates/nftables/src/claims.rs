//! Who has a frontend that several service ports ask for: the one whose cluster IP it is, else the first by name.
//!
//! So no external IP takes the traffic of a cluster IP (CVE-2020-8554).

use kube_proxy_core::ServicePortName;
use rustc_hash::FxHashMap;

use crate::element::Frontend;
use crate::plan::Role;

/// Who asks for each frontend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Sorted; hardly ever more than one.
    by_frontend: FxHashMap<Frontend, Vec<Claim>>,
}

/// One service port asks for a frontend. The first in this order has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    is_other: bool,
    name: ServicePortName,
}

impl Claim {
    fn new(role: Role, name: &ServicePortName) -> Self {
        Self { is_other: role != Role::ClusterIp, name: name.clone() }
    }
}

/// A frontend has another owner now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    /// Who had it.
    pub(crate) from: Option<ServicePortName>,
    /// Who has it.
    pub(crate) to: Option<ServicePortName>,
}

impl Claims {
    /// Who has a frontend.
    pub(crate) fn owner(&self, frontend: &Frontend) -> Option<&ServicePortName> {
        self.by_frontend.get(frontend)?.first().map(|claim| &claim.name)
    }

    /// A service port asks for a frontend.
    pub(crate) fn claim(
        &mut self,
        (frontend, role): (Frontend, Role),
        name: &ServicePortName,
    ) -> Option<Handover> {
        let claim = Claim::new(role, name);
        let claims = self.by_frontend.entry(frontend).or_default();
        let place = claims.binary_search(&claim).err()?;
        let from = claims.first().map(|first| first.name.clone());
        claims.insert(place, claim);
        (place == 0).then(|| Handover { from, to: Some(name.clone()) })
    }

    /// A service port no longer asks for a frontend.
    pub(crate) fn release(
        &mut self,
        (frontend, role): (Frontend, Role),
        name: &ServicePortName,
    ) -> Option<Handover> {
        let claims = self.by_frontend.get_mut(&frontend)?;
        let place = claims.binary_search(&Claim::new(role, name)).ok()?;
        claims.remove(place);
        let to = claims.first().map(|first| first.name.clone());
        if claims.is_empty() {
            self.by_frontend.remove(&frontend);
        }
        (place == 0).then(|| Handover { from: Some(name.clone()), to })
    }
}

#[cfg(test)]
mod tests;
