//! What keeps Services from working, or may: the report of `kube-proxy check`, which the page shows too.

use serde::{Deserialize, Serialize};

use super::check::Check;

pub(crate) mod facts;
mod finding;
mod proxy;
pub(crate) mod surroundings;

use facts::Facts;
pub use finding::{Finding, Severity};

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// Nothing differs, and nothing keeps Services from working.
    pub ok: bool,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// What the running proxy said, if it answered.
    pub check: Option<Check>,
}

impl Report {
    pub(crate) fn new(facts: Facts) -> Self {
        let mut findings = proxy::of_proxy(&facts);
        findings.extend(surroundings::surroundings(&facts));
        Self::of(findings, facts.check.ok())
    }

    pub(crate) fn of(mut findings: Vec<Finding>, check: Option<Check>) -> Self {
        findings.sort_by_key(|finding| finding.severity);
        let ok = findings.iter().all(|finding| finding.severity != Severity::Problem);
        Self { ok, findings, check }
    }
}

#[cfg(test)]
mod tests;
