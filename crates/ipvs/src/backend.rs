//! The backend: from snapshots to changes on the node.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube_proxy_core::{
    Bytes, ProxyBackend, Scope, ServicePortName, Snapshot, SyncError, SyncReport, Traffic, Waker,
};
use kube_proxy_iptables::Variant;
use kube_proxy_netlink::ipvs::ServerKey;

use crate::drain::Drains;
use crate::kernel::{Kernel, Node};
use crate::state::State;
use crate::watch::{AddressWatch, Alarm};
use crate::{Config, cleanup};

/// What is due wakes more often than this; the whole is not looked at each time.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// The ipvs mode for one family.
pub struct IpvsBackend {
    pub(crate) config: Config,
    pub(crate) kernel: Box<dyn Kernel>,
    pub(crate) random_fully: bool,
    /// What is on the node; `None` while that is not known.
    pub(crate) applied: Option<Applied>,
    pub(crate) drains: Drains,
    pub(crate) unknown_schedulers: Vec<String>,
    known_schedulers: Vec<String>,
    alarm: Option<Alarm>,
    pub(crate) watch: Option<AddressWatch>,
    last_look: Instant,
    pub(crate) prepared: bool,
}

pub(crate) struct Applied {
    pub(crate) state: State,
    pub(crate) device: u32,
    pub(crate) node_addresses: Vec<IpAddr>,
    /// Where the next look at destinations begins.
    pub(crate) cursor: Option<ServerKey>,
}

impl IpvsBackend {
    /// Opens what is needed of the kernel and tries the scheduler.
    ///
    /// # Errors
    /// [`SyncError::Unsupported`] says what is missing.
    pub fn new(config: Config) -> Result<Self, SyncError> {
        let node = Node::open(&config)?;
        let random_fully = node.knows_random_fully();
        let config = Config { variant: node.variant(), ..config };
        let mut backend = Self::with_kernel(config, Box::new(node), random_fully);
        let name = backend.config.scheduler.clone();
        if !backend.kernel.knows_scheduler(&name)? {
            return Err(SyncError::Unsupported(format!(
                "this kernel has no IPVS scheduler {name:?} (module ip_vs_{name}): choose another --ipvs-scheduler, such as rr, wrr, lc, wlc, sh or mh"
            )));
        }
        backend.known_schedulers.push(name);
        Ok(backend)
    }

    /// The variant of iptables in use.
    pub fn variant(&self) -> Variant {
        self.config.variant
    }

    pub(crate) fn with_kernel(config: Config, kernel: Box<dyn Kernel>, random_fully: bool) -> Self {
        Self {
            config,
            kernel,
            random_fully,
            applied: None,
            drains: Drains::default(),
            unknown_schedulers: Vec::new(),
            known_schedulers: Vec::new(),
            alarm: None,
            watch: None,
            last_look: Instant::now(),
            prepared: false,
        }
    }

    /// Learns of schedulers that annotations name whether this kernel has them.
    pub(crate) fn try_schedulers<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) -> Result<(), SyncError> {
        let asked = names.filter_map(|name| {
            let scheduler = snapshot.services.get(name)?.port.scheduler.clone()?;
            Some((name, scheduler))
        });
        for (name, scheduler) in asked {
            let is = |known: &String| **known == *scheduler;
            if self.known_schedulers.iter().any(is) || self.unknown_schedulers.iter().any(is) {
                continue;
            }
            if self.kernel.knows_scheduler(&scheduler)? {
                self.known_schedulers.push(scheduler.to_string());
            } else {
                tracing::warn!(
                    "service {name} asks for IPVS scheduler {scheduler:?}, which this kernel does not have; {} is used",
                    self.config.scheduler
                );
                self.unknown_schedulers.push(scheduler.to_string());
            }
        }
        Ok(())
    }

    pub(crate) fn set_alarm(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(self.drains.due());
        }
    }
}

#[async_trait]
impl ProxyBackend for IpvsBackend {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        // Taken away for as long as it takes: whatever fails leaves nothing behind, and the next sync is full.
        match (scope, self.applied.take()) {
            (Scope::Partial(changes), Some(applied)) => {
                self.sync_partially(snapshot, changes, applied)
            }
            _ => self.sync_fully(snapshot),
        }
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        if self.drains.due().is_some_and(|due| due <= Instant::now()) {
            self.look_at_drains()?;
            if self.last_look.elapsed() < LOOK_PAUSE {
                return Ok(true);
            }
        }
        if self.watch.as_ref().is_some_and(AddressWatch::take_changed) {
            tracing::debug!("addresses of this node changed");
        }
        let Some(mut applied) = self.applied.take() else { return Ok(true) };
        self.last_look = Instant::now();
        let result = self.look(&mut applied);
        self.applied = Some(applied);
        result
    }

    fn set_waker(&mut self, waker: Waker) {
        match Alarm::start(waker.clone()) {
            Ok(alarm) => self.alarm = Some(alarm),
            Err(error) => {
                tracing::warn!("endpoints that go are looked at now and then only: {error}");
            }
        }
        match AddressWatch::start(waker) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!("addresses of this node are looked at now and then only: {error}");
            }
        }
        self.set_alarm();
    }

    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let Some(applied) = &self.applied else { return Ok(Vec::new()) };
        let mut sums = std::collections::BTreeMap::new();
        let mut add = |name: &ServicePortName, to, counters: kube_proxy_netlink::ipvs::Counters| {
            let (connections, bytes): &mut (u64, Bytes) =
                sums.entry((name.clone(), to)).or_default();
            *connections += counters.connections;
            bytes.sent += counters.bytes_in;
            bytes.received += counters.bytes_out;
        };
        for found in self.kernel.servers()? {
            let Some((name, _)) = applied.state.servers.get(&found.key) else { continue };
            add(name, None, found.counters);
            for destination in self.kernel.destinations(found.key)? {
                add(name, Some(destination.address), destination.counters);
            }
        }
        let traffic = sums.into_iter().map(|((service, endpoint), (connections, bytes))| Traffic {
            service,
            endpoint,
            connections,
            bytes: Some(bytes),
        });
        Ok(traffic.collect())
    }

    async fn cleanup(&mut self) -> Result<(), SyncError> {
        self.applied = None;
        self.drains = Drains::default();
        let exclude = &self.config.exclude_cidrs;
        let cut = cleanup::Connections::Cut;
        cleanup::cleanup(self.config.family, exclude, cut, &mut *self.kernel).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
