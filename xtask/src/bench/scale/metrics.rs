//! What a kube-proxy says of itself on its metrics port.

use std::time::Duration;

use anyhow::ensure;
use kube_proxy_testkit::probe::Probe;

/// Where the metrics are by default.
const ADDRESS: &str = "127.0.0.1:10249";

/// Names of the histogram of full syncs: the present one, and that of older versions.
const FULL_SYNCS: [&str; 2] = [
    "kubeproxy_sync_full_proxy_rules_duration_seconds",
    "kubeproxy_sync_proxy_rules_duration_seconds",
];

/// Syncs of everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FullSyncs {
    /// Their number.
    pub(super) count: f64,
    /// Time they took together, in seconds.
    pub(super) seconds: f64,
}

/// Asks a process on this node.
pub(super) fn full_syncs(node: &Probe<'_>) -> anyhow::Result<Option<FullSyncs>> {
    let response = node.timeout(Duration::from_secs(30)).http_get(ADDRESS.parse()?, "/metrics")?;
    ensure!(response.status == 200, "GET /metrics: status {}", response.status);
    Ok(parse(&response.body))
}

fn parse(text: &str) -> Option<FullSyncs> {
    FULL_SYNCS.iter().find_map(|name| {
        let count = sum(text, &format!("{name}_count"))?;
        let seconds = sum(text, &format!("{name}_sum"))?;
        (count > 0.0).then_some(FullSyncs { count, seconds })
    })
}

/// Sum of the samples of this name over all labels.
fn sum(text: &str, name: &str) -> Option<f64> {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    samples.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests;
