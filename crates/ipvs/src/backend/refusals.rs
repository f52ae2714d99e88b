//! External IPs and VIPs that this node refuses to serve, because it needs them otherwise.

use std::collections::BTreeSet;
use std::net::IpAddr;

use kube_proxy_core::{ServiceEntry, ServicePortName, Snapshot, SyncError};
use rustc_hash::FxHashSet;

use super::{Applied, IpvsBackend};
use crate::needed::{Needed, outer};

impl IpvsBackend {
    pub(crate) fn read_needed(
        &mut self,
        snapshot: &Snapshot,
        node: &[IpAddr],
    ) -> Result<Needed, SyncError> {
        let any = snapshot.services.values().any(|entry| outer(&entry.port).next().is_some());
        let next_hops = if any { self.kernel.next_hops()? } else { BTreeSet::new() };
        Ok(Needed::of(snapshot, next_hops, node))
    }

    /// Whether these changes need a full sync, for an address is refused that was not, or the other way round.
    /// Costs the changes, unless they make that possible: an address is new, one of them is an endpoint now, or one is an endpoint no more.
    /// What routes that come or go make different is found by the next look.
    pub(crate) fn refuses_otherwise<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
        applied: &mut Applied,
    ) -> Result<bool, SyncError> {
        let Applied { state, needed, node_addresses, .. } = applied;
        let mut possible = false;
        for name in names {
            let entry = snapshot.entry(name);
            let ips =
                |entry: &ServiceEntry| entry.endpoints.iter().map(|endpoint| endpoint.ip).collect();
            let endpoints: FxHashSet<IpAddr> = entry.map(ips).unwrap_or_default();
            let is_open = |ip: &IpAddr| !node_addresses.contains(ip) && !needed.refuses(ip);
            possible |= entry.is_some_and(|entry| {
                outer(&entry.port).any(|ip| !state.has_outer(&ip) && !node_addresses.contains(&ip))
            });
            possible |= endpoints.iter().any(|ip| state.has_outer(ip) && is_open(ip));
            possible |= needed.releases(name, &endpoints);
        }
        if !possible {
            return Ok(false);
        }
        let needed = self.read_needed(snapshot, &applied.node_addresses)?;
        let otherwise = !needed.refused.keys().eq(applied.needed.refused.keys());
        applied.needed = needed;
        Ok(otherwise)
    }

    /// Says, once, what is not served here and what is again, of these service ports, and how many are concerned in all.
    pub(crate) fn tell_refused<'a>(
        &mut self,
        snapshot: &Snapshot,
        needed: &Needed,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) -> usize {
        for name in names {
            let entry = snapshot.entry(name);
            let addresses = entry.into_iter().flat_map(|entry| outer(&entry.port));
            let now: BTreeSet<IpAddr> = addresses.filter(|ip| needed.refuses(ip)).collect();
            let before = self.refused.remove(name).unwrap_or_default();
            for address in now.difference(&before) {
                let why = if needed.next_hops.contains(address) {
                    "the next hop of a route"
                } else {
                    "an endpoint of a Service"
                };
                tracing::warn!(service = %name, %address, "external IP or VIP not served on this node, which needs to reach the address: it is {why}");
            }
            for address in before.difference(&now) {
                tracing::info!(service = %name, %address, "external IP or VIP not refused any more");
            }
            if !now.is_empty() {
                self.refused.insert(name.clone(), now);
            }
        }
        self.refused.len()
    }
}
