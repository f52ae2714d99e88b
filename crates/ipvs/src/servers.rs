//! The changes that make virtual servers what is wanted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use kube_proxy_core::{Protocol, SyncError};
use kube_proxy_netlink::ipvs::{Change, PERSISTENT, Server, ServerKey};

use crate::actual::Actual;
use crate::backend::IpvsBackend;
use crate::drain::Drains;
use crate::plan::Desired;
use crate::rebuild::Rebuild;
use crate::state::State;

impl IpvsBackend {
    /// What makes the virtual servers of the node those that are wanted.
    pub(crate) fn changes_from(
        &mut self,
        existing: &Actual,
        state: &State,
        rebuild: &Rebuild,
    ) -> Result<Vec<Change>, SyncError> {
        let records = existing.records(self.marks.all());
        let mut changes = Vec::new();
        let before = self.drains.waiting.clone();
        self.drains = Drains::default();
        for key in existing.servers.keys().filter(|key| !state.servers.contains_key(key)) {
            if existing.is_ours(&self.config.exclude_cidrs, key, &records) {
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
                let weight = wanted.weight(&to);
                let right = weight == Some(destination.weight) && destination.forwarding == 0;
                if again {
                    // Also one that drains: the kernel keeps its connections with it once it is there again.
                    changes.push(Change::AddDestination(*key, to, weight.unwrap_or(0)));
                } else if let Some(weight) = weight.filter(|_| !right) {
                    changes.push(Change::SetDestination(*key, to, weight));
                }
                if weight.is_none() {
                    let live = destination.weight > 0 && !again;
                    self.leave(*key, wanted.protocol, (to, live), &mut changes);
                    if let Some(deadline) = before.get(&(*key, to)) {
                        self.drains.waiting.entry((*key, to)).and_modify(|at| *at = *deadline);
                    }
                }
            }
            let new = wanted.weighted().filter(|(to, _)| !there.contains(to));
            changes.extend(new.map(|(to, weight)| Change::AddDestination(*key, to, weight)));
        }
        Ok(changes)
    }

    /// The changes to one virtual server.
    pub(crate) fn change_server(
        &mut self,
        key: ServerKey,
        before: Option<&Desired>,
        after: Option<&Desired>,
        changes: &mut Vec<Change>,
    ) {
        let Some(after) = after else {
            self.drains.end_server(key);
            changes.push(Change::Delete(key));
            return;
        };
        match before {
            None => changes.push(Change::Add(key, after.server.clone())),
            Some(before) if before.server != after.server => {
                changes.push(Change::Set(key, after.server.clone()));
            }
            Some(_) => {}
        }
        for (to, weight) in after.weighted() {
            let old = before.and_then(|before| before.weight(&to));
            if old == Some(weight) {
                continue;
            }
            if old.is_some() || self.drains.contains(key, to) {
                self.drains.end(key, to);
                changes.push(Change::SetDestination(key, to, weight));
            } else {
                changes.push(Change::AddDestination(key, to, weight));
            }
        }
        let gone = before.into_iter().flat_map(Desired::weighted);
        for (to, weight) in gone.filter(|(to, _)| after.weight(to).is_none()) {
            self.leave(key, after.protocol, (to, weight > 0), changes);
        }
    }

    /// An endpoint goes, which may be live: at once where there are no connections to wait for.
    fn leave(
        &mut self,
        key: ServerKey,
        protocol: Protocol,
        (to, live): (SocketAddr, bool),
        changes: &mut Vec<Change>,
    ) {
        if protocol != Protocol::Tcp {
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
