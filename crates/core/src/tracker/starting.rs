//! Endpoints that start slowly: which ones, since when, and what of it the snapshot shows.
//!
//! An endpoint is new if it is used and was not before, while others were. So what the first list of a process contains is not new,
//! and neither are the first endpoints of a Service, among which there is nothing to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::Tracker;
use crate::{
    Algorithm, Endpoint, ObjectName, ServiceEntry, ServicePortName, SlowStart, Steering, Step,
};

/// The endpoints that start slowly. It takes nothing where no Service asks for it.
#[derive(Debug, Default)]
pub(super) struct Starting {
    /// The time of the next fold; without it nothing starts slowly.
    now: Option<Instant>,
    ports: BTreeMap<ServicePortName, Port>,
}

/// Those of one service port.
#[derive(Debug)]
struct Port {
    slow: SlowStart,
    /// When each began, and its step in the snapshot.
    endpoints: BTreeMap<SocketAddr, (Instant, Step)>,
}

impl Port {
    /// When the next step comes.
    fn due(&self) -> Option<Instant> {
        self.endpoints.values().map(|(begin, step)| *begin + self.slow.next(*step)).min()
    }
}

impl Starting {
    fn due(&self) -> Option<Instant> {
        self.ports.values().filter_map(Port::due).min()
    }

    fn services_due(&self, now: Instant) -> impl Iterator<Item = ObjectName> {
        let due = move |port: &Port| port.due().is_some_and(|due| due <= now);
        let ports = self.ports.iter().filter(move |(_, port)| due(port));
        ports.map(|(name, _)| name.service.clone())
    }

    /// Forgets a service port.
    pub(super) fn forget(&mut self, name: &ServicePortName) {
        self.ports.remove(name);
    }

    /// Gives the endpoints of a service port their steps, which was `old` in the snapshot.
    pub(super) fn show(
        &mut self,
        name: &ServicePortName,
        old: Option<&ServiceEntry>,
        entry: &mut ServiceEntry,
    ) {
        let policy = &entry.port.policy;
        // Another number of slots gives nearly every client of a source hash another endpoint.
        let applies = policy.algorithm != Some(Algorithm::SourceHash);
        let slow = policy.slow_start.filter(|slow| applies && slow.duration().is_some());
        let (Some(slow), Some(now)) = (slow, self.now) else {
            self.forget(name);
            return;
        };
        let used: BTreeSet<SocketAddr> =
            entry.choice.reachable().map(Endpoint::socket_address).collect();
        // Whether this node used it does not matter: one that served other zones or nodes is not new.
        let served = |entry: &ServiceEntry| {
            let serving = |e: &&Endpoint| e.is_ready() || e.is_serving_terminating();
            entry.endpoints.iter().filter(serving).map(Endpoint::socket_address).collect()
        };
        let known: BTreeSet<SocketAddr> = old
            .filter(|entry| entry.choice.reachable().next().is_some())
            .map(served)
            .unwrap_or_default();
        let mut before = self.ports.remove(name).map(|port| port.endpoints).unwrap_or_default();
        before.retain(|address, _| used.contains(address) && known.contains(address));
        let mut endpoints = BTreeMap::new();
        for address in used {
            let is_new = !known.is_empty() && !known.contains(&address);
            let begin = if is_new { Some(now) } else { before.get(&address).map(|(at, _)| *at) };
            let Some(begin) = begin else { continue };
            if let Some(step) = slow.step(now.saturating_duration_since(begin)) {
                endpoints.insert(address, (begin, step));
            }
        }
        if endpoints.is_empty() {
            return;
        }
        let all = entry.endpoints.clone();
        let with_steps =
            |list: &Arc<[Endpoint]>| list.iter().map(|e| stepped(e, &endpoints)).collect();
        entry.endpoints = with_steps(&all);
        for list in [&mut entry.choice.cluster, &mut entry.choice.local] {
            // Lists that are the same stay so.
            *list =
                if Arc::ptr_eq(list, &all) { entry.endpoints.clone() } else { with_steps(list) };
        }
        self.ports.insert(name.clone(), Port { slow, endpoints });
    }
}

/// The endpoint with its step, if it has one.
fn stepped(endpoint: &Endpoint, steps: &BTreeMap<SocketAddr, (Instant, Step)>) -> Endpoint {
    let Some((_, step)) = steps.get(&endpoint.socket_address()) else { return endpoint.clone() };
    let steering = Steering {
        weight: endpoint.weight(),
        zone_hints: endpoint.zone_hints().unwrap_or_default().to_vec(),
        step: Some(*step),
    };
    Endpoint { steering: Some(Arc::new(steering)), ..endpoint.clone() }
}

impl Tracker {
    /// Says what time it is, for the next fold: without it no endpoint starts slowly.
    pub fn tell_time(&mut self, now: Instant) {
        self.starting.now = Some(now);
        self.dirty.extend(self.starting.services_due(now));
    }

    /// When the share of an endpoint that starts slowly grows next, so that a fold is worth while; `None` if none does.
    pub fn step_due(&self) -> Option<Instant> {
        self.starting.due()
    }
}

#[cfg(test)]
mod tests;
