//! What a kube-proxy says of itself on its metrics port.

use std::time::Duration;

use anyhow::ensure;
use kube_proxy_testkit::probe::Probe;

/// Where the metrics are by default.
const ADDRESS: &str = "127.0.0.1:10249";

/// Name of the histogram of syncs of what changed.
const PARTIAL_SYNC: &str = "kubeproxy_sync_partial_proxy_rules_duration_seconds";

/// Names of the histogram of full syncs: the present one, and that of older versions.
const FULL_SYNCS: [&str; 2] = [
    "kubeproxy_sync_full_proxy_rules_duration_seconds",
    "kubeproxy_sync_proxy_rules_duration_seconds",
];

/// Syncs, of all families together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Syncs {
    /// Their number.
    pub(super) count: f64,
    /// Time they took together, in seconds.
    pub(super) seconds: f64,
}

/// Asks a process on this node for its syncs of everything.
pub(super) fn full_syncs(node: &Probe<'_>) -> anyhow::Result<Option<Syncs>> {
    let text = scrape(node)?;
    Ok(FULL_SYNCS.iter().find_map(|name| parse(&text, name)))
}

/// Asks a process on this node for its syncs of what changed.
pub(super) fn partial_syncs(node: &Probe<'_>) -> anyhow::Result<Option<Syncs>> {
    Ok(parse(&scrape(node)?, PARTIAL_SYNC))
}

/// All metrics of a process on this node.
pub(super) fn scrape(node: &Probe<'_>) -> anyhow::Result<String> {
    let response = node.timeout(Duration::from_secs(30)).http_get(ADDRESS.parse()?, "/metrics")?;
    ensure!(response.status == 200, "GET /metrics: status {}", response.status);
    Ok(response.body)
}

fn parse(text: &str, histogram: &str) -> Option<Syncs> {
    let count = sum(text, &format!("{histogram}_count"))?;
    let seconds = sum(text, &format!("{histogram}_sum"))?;
    (count > 0.0).then_some(Syncs { count, seconds })
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
