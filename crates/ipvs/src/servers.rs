//! The changes that make virtual servers what is wanted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use kube_proxy_core::{Protocol, SyncError};
use kube_proxy_netlink::ipvs::{Change, PERSISTENT, Server, ServerKey};

use crate::backend::IpvsBackend;
use crate::drain::Drains;
use crate::existing::Existing;
use crate::plan::Wanted;
use crate::rebuild::Rebuild;
use crate::state::State;

impl IpvsBackend {
    /// What makes the virtual servers of the node those that are wanted.
    pub(crate) fn changes_from(
        &mut self,
        existing: &Existing,
        state: &State,
        rebuild: &Rebuild,
    ) -> Result<Vec<Change>, SyncError> {
        let frontends = existing.frontends();
        let mut changes = Vec::new();
        let before = self.drains.waiting.clone();
        self.drains = Drains::default();
        for key in existing.servers.keys().filter(|key| !state.servers.contains_key(key)) {
            if existing.is_ours(&self.config.exclude_cidrs, key, &frontends) {
                changes.push(Change::Delete(*key));
            }
        }
        for (key, (_, wanted)) in &state.servers {
            let Some(found) = existing.servers.get(key) else {
                self.change_server(*key, None, Some(wanted), &mut changes);
                continue;
            };
            let again = rebuild.has_server(*key);
            if again {
                changes.push(Change::Delete(*key));
                changes.push(Change::Add(*key, wanted.server.clone()));
            } else if !same(&found.server, &wanted.server) {
                changes.push(Change::Set(*key, wanted.server.clone()));
            }
            let destinations = self.kernel.destinations(*key)?;
            let mut there = BTreeSet::new();
            for destination in destinations {
                let to = destination.address;
                there.insert(to);
                let live = destination.weight == 1 && destination.forwarding == 0;
                let is_wanted = wanted.destinations.binary_search(&to).is_ok();
                if again {
                    // Also one that drains: the kernel keeps its connections with it once it is there again.
                    changes.push(Change::AddDestination(*key, to, is_wanted.into()));
                } else if is_wanted && !live {
                    changes.push(Change::SetDestination(*key, to, 1));
                }
                if !is_wanted {
                    self.leave(*key, to, destination.weight > 0 && !again, &mut changes);
                    if let Some(deadline) = before.get(&(*key, to)) {
                        self.drains.waiting.entry((*key, to)).and_modify(|at| *at = *deadline);
                    }
                }
            }
            let new = wanted.destinations.iter().filter(|to| !there.contains(to));
            changes.extend(new.map(|to| Change::AddDestination(*key, *to, 1)));
        }
        Ok(changes)
    }

    /// The changes to one virtual server.
    pub(crate) fn change_server(
        &mut self,
        key: ServerKey,
        before: Option<&Wanted>,
        after: Option<&Wanted>,
        changes: &mut Vec<Change>,
    ) {
        let none = Vec::new();
        let (old, new) = match (before, after) {
            (_, None) => {
                self.drains.end_server(key);
                changes.push(Change::Delete(key));
                return;
            }
            (None, Some(after)) => {
                changes.push(Change::Add(key, after.server.clone()));
                (&none, &after.destinations)
            }
            (Some(before), Some(after)) => {
                if before.server != after.server {
                    changes.push(Change::Set(key, after.server.clone()));
                }
                (&before.destinations, &after.destinations)
            }
        };
        for to in new.iter().filter(|to| old.binary_search(to).is_err()) {
            if self.drains.contains(key, *to) {
                self.drains.end(key, *to);
                changes.push(Change::SetDestination(key, *to, 1));
            } else {
                changes.push(Change::AddDestination(key, *to, 1));
            }
        }
        for to in old.iter().filter(|to| new.binary_search(to).is_err()) {
            self.leave(key, *to, true, changes);
        }
    }

    /// An endpoint goes: at once where there are no connections to wait for.
    pub(crate) fn leave(
        &mut self,
        key: ServerKey,
        to: SocketAddr,
        live: bool,
        changes: &mut Vec<Change>,
    ) {
        if key.protocol != Protocol::Tcp.number() {
            changes.push(Change::DeleteDestination(key, to));
            return;
        }
        if live {
            changes.push(Change::SetDestination(key, to, 0));
        }
        self.drains.begin(key, to, Instant::now(), self.config.drain_timeout);
    }
}

/// The timeout matters only with persistence.
pub(crate) fn same(one: &Server, other: &Server) -> bool {
    let persistent = one.flags & PERSISTENT != 0;
    one.scheduler == other.scheduler
        && one.flags == other.flags
        && (!persistent || one.timeout == other.timeout)
}
