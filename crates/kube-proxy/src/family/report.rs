//! What a family says of its syncs: log lines, and what it counts over all service ports.

use std::collections::BTreeSet;
use std::time::Duration;

use kube_proxy_core::proxy::Outcome;
use kube_proxy_core::{IpFamily, Proxy, RepairLevel, ServicePortName, SyncReport};

use crate::telemetry::metrics::Frontends;

/// Service ports with a `Local` policy and no local endpoint, kept up to date change by change.
#[derive(Default)]
pub(super) struct NoLocalEndpoints {
    pub(super) internal: BTreeSet<ServicePortName>,
    pub(super) external: BTreeSet<ServicePortName>,
}

impl NoLocalEndpoints {
    /// Takes in the service ports that changed.
    pub(super) fn update(&mut self, proxy: &Proxy, changed: &BTreeSet<ServicePortName>) {
        for name in changed {
            let entry = proxy.snapshot().services.get(name);
            for (set, frontends) in [
                (&mut self.internal, Frontends::Internal),
                (&mut self.external, Frontends::External),
            ] {
                if entry.is_some_and(|entry| frontends.lack_local_endpoints(entry)) {
                    set.insert(name.clone());
                } else {
                    set.remove(name);
                }
            }
        }
    }
}

pub(super) fn kind(full: bool) -> &'static str {
    if full { "full" } else { "partial" }
}

/// One line for each sync that followed one that was refused.
pub(super) fn log_repair(family: IpFamily, level: RepairLevel, succeeded: bool) {
    let what = match level {
        RepairLevel::Full => "compared everything with what is on the node",
        RepairLevel::Object => "wrote the refused object again",
        RepairLevel::Table => "wrote everything again",
    };
    let end = if succeeded { "succeeded" } else { "was refused too" };
    tracing::warn!(%family, level = level.name(), "repair after a refused sync {end}: it {what}");
}

pub(super) fn log_sync(family: IpFamily, outcome: &Outcome, report: &SyncReport, took: Duration) {
    let written: Vec<String> = report
        .counts
        .iter()
        .map(|count| format!("{} {} of {}", count.kind, count.written, count.total))
        .collect();
    tracing::info!(
        %family,
        services = outcome.changes.services.len(),
        rules = written.join(", "),
        "{} sync took {took:.1?}",
        kind(outcome.full)
    );
}
