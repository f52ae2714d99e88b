//! The backend: from snapshots to changes on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube_proxy_core::{
    Algorithm, CheckWaker, Difference, FrontendQuery, KernelObject, ProxyBackend, Scope,
    ServicePortName, Session, SessionKey, Snapshot, SyncError, SyncReport, Traffic, TrafficBytes,
};
use kube_proxy_netlink::ipvs::ServerKey;
use kube_proxy_xtables::Variant;

use crate::Config;
use crate::drain::Drains;
use crate::kernel::{Kernel, Node, Unfit};
use crate::marks::Marks;
use crate::needed::Needed;
use crate::plan::Context;
use crate::rebuild::Rebuild;
use crate::scheduler::{self, ALGORITHMS, SCHEDULER, of_algorithm};
use crate::state::State;
use crate::watch::{AddressWatch, Alarm};

mod refusals;

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
    /// The external IPs and VIPs that the log says are refused.
    pub(crate) refused: BTreeMap<ServicePortName, BTreeSet<IpAddr>>,
    /// Destinations that the kernel did not take, as their addresses are those of no host; a full sync offers all of them again.
    pub(crate) unfit: Unfit,
    known_schedulers: Vec<String>,
    /// Algorithms that turned out to be schedulers that this kernel does not have.
    lacking: BTreeSet<Algorithm>,
    pub(crate) marks: Marks,
    /// What the log said last about service ports without marks.
    pub(crate) told_about_marks: Option<String>,
    alarm: Option<Alarm>,
    pub(crate) watch: Option<AddressWatch>,
    last_look: Instant,
    pub(crate) prepared: bool,
}

pub(crate) struct Applied {
    pub(crate) state: State,
    pub(crate) device: u32,
    pub(crate) node_addresses: Vec<IpAddr>,
    pub(crate) needed: Needed,
    /// Whether the rules and the set of marks are there.
    pub(crate) marking: bool,
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
            marks: Marks::new(config.mark_mask, config.masquerade_mark),
            told_about_marks: None,
            config,
            kernel,
            random_fully,
            applied: None,
            drains: Drains::default(),
            unknown_schedulers: Vec::new(),
            refused: BTreeMap::new(),
            unfit: Unfit::new(),
            known_schedulers: Vec::new(),
            lacking: BTreeSet::new(),
            alarm: None,
            watch: None,
            last_look: Instant::now(),
            prepared: false,
        }
    }

    /// Learns of schedulers that annotations name, or weights need, whether this kernel has them.
    pub(crate) fn try_schedulers<'a>(
        &mut self,
        snapshot: &Snapshot,
        names: impl Iterator<Item = &'a ServicePortName>,
    ) -> Result<(), SyncError> {
        let default = self.config.scheduler.clone();
        let asked = names.filter_map(|name| Some((name, snapshot.entry(name)?)));
        let asked = asked.flat_map(|(name, entry)| {
            scheduler::candidates(entry, &default)
                .into_iter()
                .map(move |scheduler| (name, scheduler))
        });
        for (name, scheduler) in asked.filter(|(_, scheduler)| *scheduler != default) {
            let is = |known: &String| known == scheduler;
            if self.known_schedulers.iter().any(is) || self.unknown_schedulers.iter().any(is) {
                continue;
            }
            if self.kernel.knows_scheduler(scheduler)? {
                self.known_schedulers.push(scheduler.to_string());
            } else {
                tracing::warn!(
                    service = %name,
                    scheduler,
                    used = self.config.scheduler,
                    "this kernel does not have the IPVS scheduler that an annotation or the weights of endpoints ask for"
                );
                self.unknown_schedulers.push(scheduler.to_string());
                let is = |algorithm: &Algorithm| of_algorithm(*algorithm) == Some(scheduler);
                self.lacking.extend(ALGORITHMS.into_iter().filter(is));
            }
        }
        Ok(())
    }

    /// What plans depend on.
    pub(crate) fn context<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        node_addresses: &'a [IpAddr],
        needed: &'a Needed,
    ) -> Context<'a> {
        Context {
            config: &self.config,
            snapshot,
            node_addresses,
            needed,
            unfit: &self.unfit,
            unknown_schedulers: &self.unknown_schedulers,
            marks: &self.marks,
        }
    }

    pub(crate) fn set_alarm(&self) {
        if let Some(alarm) = &self.alarm {
            alarm.set(self.drains.due());
        }
    }
}

#[async_trait]
impl ProxyBackend for IpvsBackend {
    fn annotations(&self) -> Vec<&'static str> {
        vec![SCHEDULER]
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        let has = |algorithm: &Algorithm| !self.lacking.contains(algorithm);
        ALGORITHMS.into_iter().filter(has).collect()
    }

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
            _ => self.sync_fully(snapshot, &Rebuild::of(scope)),
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
            // With them, what is the address of a host.
            if !self.unfit.is_empty() {
                return Ok(false);
            }
        }
        let Some(mut applied) = self.applied.take() else { return Ok(true) };
        self.last_look = Instant::now();
        let result = self.look(&mut applied);
        self.applied = Some(applied);
        result
    }

    async fn compare(&mut self, snapshot: &Snapshot) -> Result<Vec<Difference>, SyncError> {
        self.differences(snapshot)
    }

    /// The kernel remembers sessions by virtual server, that is by frontend.
    async fn session(
        &mut self,
        _snapshot: &Snapshot,
        key: &SessionKey,
    ) -> Result<Option<Session>, SyncError> {
        let protocol = key.service.protocol.number();
        self.kernel.session(ServerKey::Frontend { protocol, address: key.frontend }, key.client)
    }

    fn without_short_circuit(&self) -> Option<&BTreeSet<ServicePortName>> {
        Some(self.marks.without())
    }

    /// The virtual server and each entry and address are asked for by name, and of that server alone the destinations are listed.
    async fn look_up(
        &mut self,
        _snapshot: &Snapshot,
        query: &FrontendQuery,
    ) -> Result<Vec<KernelObject>, SyncError> {
        self.objects_of(query)
    }

    fn set_waker(&mut self, waker: CheckWaker) {
        match Alarm::start(waker.clone()) {
            Ok(alarm) => self.alarm = Some(alarm),
            Err(error) => {
                tracing::warn!(%error, "cannot start the timer of draining servers; they are checked every sync period only");
            }
        }
        match AddressWatch::start(waker) {
            Ok(watch) => self.watch = Some(watch),
            Err(error) => {
                tracing::warn!(%error, "cannot watch the addresses of this node; they are checked every sync period only");
            }
        }
        self.set_alarm();
    }

    async fn traffic(&mut self) -> Result<Vec<Traffic>, SyncError> {
        let Some(applied) = &self.applied else { return Ok(Vec::new()) };
        let mut sums = BTreeMap::new();
        let mut add = |name: &ServicePortName, to, counters: kube_proxy_netlink::ipvs::Counters| {
            let (connections, bytes): &mut (u64, TrafficBytes) =
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
}

#[cfg(test)]
pub(crate) mod tests;
