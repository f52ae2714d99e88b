//! Looks at the node between syncs: at what drains, and whether all is still there.

use std::net::SocketAddr;
use std::time::Instant;

use kube_proxy_core::SyncError;
use kube_proxy_netlink::ipvs::Change;

use crate::actual::Addresses;
use crate::backend::{Applied, IpvsBackend};
use crate::layout::{self, SETS};
use crate::servers::same;

/// Virtual servers whose destinations one look reads.
const LOOKED_AT: usize = 64;

impl IpvsBackend {
    /// Looks at the destinations that drain, and deletes those that nothing uses any more.
    pub(crate) fn look_at_drains(&mut self) -> Result<(), SyncError> {
        let now = Instant::now();
        let mut changes = Vec::new();
        for key in self.drains.servers() {
            let found = self.kernel.destinations(key)?;
            let of_server = self.drains.waiting.iter().filter(|((of, _), _)| *of == key);
            let mut gone = Vec::new();
            for ((_, to), deadline) in of_server {
                let destination = found.iter().find(|found| found.address == *to);
                let over = deadline.is_some_and(|deadline| deadline <= now);
                match destination {
                    None => gone.push(*to),
                    Some(found) if over || found.active + found.inactive == 0 => {
                        if over && found.active > 0 {
                            tracing::info!(
                                connections = found.active,
                                server = %key,
                                endpoint = %to,
                                "cut connections of a removed endpoint after the drain timeout"
                            );
                        }
                        changes.push(Change::DeleteDestination(key, *to));
                        gone.push(*to);
                    }
                    Some(_) => {}
                }
            }
            for to in gone {
                self.drains.end(key, to);
            }
        }
        self.drains.looked(now);
        self.set_alarm();
        if !changes.is_empty() {
            self.kernel.change(&changes)?;
        }
        Ok(())
    }

    /// Whether everything is there; destinations of some virtual servers only, of others the next time.
    pub(crate) fn look(&mut self, applied: &mut Applied) -> Result<bool, SyncError> {
        if self.kernel.device()? != Some(applied.device) {
            return Ok(false);
        }
        let all = self.kernel.addresses()?;
        let addresses = Addresses::sort(&all, Some(applied.device), self.config.family);
        if addresses.node != applied.node_addresses
            || addresses.device.len() < applied.state.addresses()
        {
            return Ok(false);
        }
        if applied.state.outer().next().is_some()
            && applied.needed.differs(&self.kernel.next_hops()?, applied.state.outer())
        {
            return Ok(false);
        }
        let headers = self.kernel.sets()?;
        for (set, ..) in SETS.into_iter().filter(|(set, ..)| set.is_fixed() || applied.marking) {
            let name = set.name(self.config.family);
            let header = headers.iter().find(|header| header.name == name);
            let wanted = applied.state.entries(set);
            let right = header.is_some_and(|header| {
                header.elements.is_none_or(|has| usize::try_from(has) == Ok(wanted))
            });
            if !right {
                return Ok(false);
            }
        }
        let mut there = 0;
        for found in self.kernel.servers()? {
            if let Some((_, wanted)) = applied.state.servers.get(&found.key) {
                there += 1;
                if !same(&found.server, &wanted.server) {
                    return Ok(false);
                }
            }
        }
        if there != applied.state.servers.len() || !self.look_at_destinations(applied)? {
            return Ok(false);
        }
        let marks = self.marks.bits().filter(|_| applied.marking);
        self.kernel.holds(&layout::checks(&self.config, self.random_fully, marks))
    }

    pub(crate) fn look_at_destinations(
        &mut self,
        applied: &mut Applied,
    ) -> Result<bool, SyncError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = applied.cursor.map_or(Unbounded, Excluded);
        let servers = &applied.state.servers;
        let (mut last, mut count) = (None, 0);
        for (key, (_, wanted)) in servers.range((from, Unbounded)).take(LOOKED_AT) {
            (last, count) = (Some(*key), count + 1);
            let found = self.kernel.destinations(*key)?;
            let live = found.iter().filter(|found| found.weight > 0);
            let mut live: Vec<(SocketAddr, u32)> =
                live.map(|found| (found.address, found.weight)).collect();
            live.sort_unstable();
            if !live.into_iter().eq(wanted.weighted().filter(|(_, weight)| *weight > 0)) {
                return Ok(false);
            }
        }
        // At the end it begins again, so that a small node is looked at whole each time.
        applied.cursor = last.filter(|_| count == LOOKED_AT);
        Ok(true)
    }
}
