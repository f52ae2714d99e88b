//! What the answer of the running proxy means.

use super::facts::Facts;
use super::finding::{Finding, Severity};
use crate::family::check::{Difference, FamilyCheck};
use std::fmt::Write as _;

/// Differences that one finding names; `-o json` has more.
const SHOWN: usize = 10;
/// An API server without news sends a bookmark about every minute.
const SILENT_SECONDS: f64 = 120.0;

/// What the running proxy says of itself.
pub(super) fn of_proxy(facts: &Facts) -> Vec<Finding> {
    let check = match &facts.check {
        Ok(check) => check,
        Err(reason) => {
            return vec![Finding::new(
                Severity::Problem,
                "no-answer",
                reason,
                "Nobody brings the rules of this node up to date; what was written before stays and still serves.",
                "Look at the state and the log of the kube-proxy pod of this node, or name the address of its metrics server with --server.",
            )];
        }
    };
    let mut findings: Vec<_> = check.families.iter().flat_map(of_family).collect();
    if let Some(silence) = check.api_server_silent_seconds.filter(|s| *s > SILENT_SECONDS) {
        findings.push(Finding::new(
            Severity::Problem,
            "api-server-silent",
            format!("the API server has been silent for {silence:.0} s"),
            "Changes of Services and endpoints do not reach this node; it serves what it knew before.",
            "Check the way from this node to the API server (address, certificates, firewall), and the log of kube-proxy.",
        ));
    }
    findings
}

fn of_family(family: &FamilyCheck) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = &family.family;
    if let Some(reason) = &family.failure {
        findings.push(Finding::new(
            Severity::Problem,
            "not-compared",
            format!("{name}: the node could not be read: {reason}"),
            "Whether the rules are as they should be is not known.",
            "Run the command again; if it stays, the log of kube-proxy says more.",
        ));
    } else if !family.compared {
        findings.push(Finding::new(
            Severity::Problem,
            "not-synced",
            format!("{name}: no sync has succeeded since kube-proxy started"),
            "Services work as the process before left them, or not at all.",
            "The log of kube-proxy says what it waits for, or why the sync fails.",
        ));
    } else if family.total > 0 {
        findings.push(Finding::new(
            Severity::Problem,
            "rules-differ",
            format!(
                "{name}: {} not as it should be on this node{}",
                if family.total == 1 { "1 object is".to_owned() } else { format!("{} objects are", family.total) },
                listed(family.differences.iter().map(Difference::text), family.total)
            ),
            "The Services behind that do not work as they should.",
            "kube-proxy repairs what it notices at its next full sync; a restart of it repairs at once. Find out who changed them.",
        ));
    }
    if let Some(last) = family.repairs.last() {
        findings.push(Finding::new(
            Severity::Warning,
            "rules-repaired",
            format!(
                "{name}: another program changed the rules of kube-proxy, last before {}; they were written again{}",
                last.at,
                listed(last.differences.iter().map(Difference::text), last.total)
            ),
            "Until the repair, the Services behind that did not work.",
            "Find out who changed them: a firewall that is reloaded, another service proxy, a script.",
        ));
    }
    findings
}

/// Lines under a finding.
fn listed(lines: impl Iterator<Item = String>, total: usize) -> String {
    let mut text = String::new();
    for line in lines.take(SHOWN) {
        let _ = write!(text, "\n    {line}");
    }
    if total > SHOWN {
        let _ = write!(text, "\n    and {} more", total - SHOWN);
    }
    text
}
