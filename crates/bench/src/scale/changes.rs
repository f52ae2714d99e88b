//! How long a change takes from the API server to the first packet that obeys it.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::connect;
use super::site::Site;

/// How long one change may take.
const GUARD: Duration = Duration::from_mins(2);

/// Pause after a change: longer than the least time between two syncs, which is a second by
/// default, so that a sync is due at once when the next change comes.
const PAUSE: Duration = Duration::from_millis(1300);

/// Moves the only endpoint of one Service again and again; returns the latency of each change.
///
/// It ends with the first packet of the first connection that reaches the new address. Attempts
/// are about a millisecond apart, so that much may be added.
pub(super) fn latencies(site: &Site, count: u32) -> anyhow::Result<Vec<Duration>> {
    let address = site.probed_address();
    let mut latencies = Vec::new();
    for change in 1..=count {
        thread::sleep(PAUSE);
        let endpoint = IpAddr::from(site.probed_endpoint(change));
        let begun = Instant::now();
        site.change(change)?;
        let obeyed = site
            .client
            .netns()
            .run(|| connect::until(address, GUARD, |answering| answering == endpoint))
            .with_context(|| format!("change {change} of {count} has no effect"))?;
        latencies.push(obeyed.begun.saturating_duration_since(begun));
    }
    Ok(latencies)
}
