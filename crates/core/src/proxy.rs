//! One family, put together: tracker, scheduler and backend.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use crate::conntrack::{DeadCheck, Departures, EarlyCheck, UdpCheck};
use crate::tracker::{ChangeCounts, ObjectChange, TrackerOptions};
use crate::{
    Algorithm, Changes, CheckWaker, Conflict, Difference, Event, Frontend, FrontendQuery,
    Intervals, KernelObject, NodePortAddresses, ObjectName, ProxyBackend, Refused, Scheduler,
    Scope, ServicePortName, Session, SessionKey, Snapshot, SyncError, SyncReport, Tracker, Traffic,
};

mod repair;

use repair::Escalation;
pub use repair::RepairLevel;

/// Keeps one family of one node in sync. It does nothing by itself: its owner hands in events and the time, and calls
/// [`sync`](Self::sync) when [`due`](Self::due) says so.
///
/// ```text
/// loop {
///     wait for an event, or until proxy.due()
///     proxy.apply(event, now)            on an event
///     proxy.sync(now).await              when due
/// }
/// ```
pub struct Proxy {
    tracker: Tracker,
    scheduler: Scheduler,
    backend: Box<dyn ProxyBackend>,
    /// Folded into the snapshot, but not yet on the node.
    unsynced: Changes,
    /// Nothing on the node may be taken for granted: at the start, after a failure, and when damage was found.
    need_full: bool,
    /// What was refused since the last success.
    escalation: Escalation,
    /// When the last full sync succeeded.
    last_full: Option<Instant>,
    /// Longest time between full syncs, unless the cluster is large.
    max_interval: Option<Duration>,
    /// Endpoints that left, whose connections are to be ended.
    departures: Departures,
}

/// What a call of [`Proxy::sync`] did.
#[derive(Debug)]
pub struct Outcome {
    /// What the backend said.
    pub result: Result<SyncReport, SyncError>,
    /// Whether it was a full sync.
    pub full: bool,
    /// How deep it went, if the sync before was refused.
    pub repair: Option<RepairLevel>,
    /// What differed from the last successful sync.
    pub changes: Changes,
    /// When the endpoint changes happened that are now on the node. Empty after a failure; they are kept for the next success.
    pub trigger_times: Vec<SystemTime>,
}

impl Proxy {
    /// A proxy that has seen nothing and written nothing.
    pub fn new(
        options: TrackerOptions,
        intervals: Intervals,
        backend: Box<dyn ProxyBackend>,
    ) -> Self {
        let mut tracker = Tracker::new(options);
        tracker.carry_annotations(backend.annotations());
        tracker.offer_algorithms(backend.algorithms());
        Self {
            tracker,
            scheduler: Scheduler::new(intervals),
            backend,
            unsynced: Changes::default(),
            need_full: true,
            escalation: Escalation::default(),
            last_full: None,
            max_interval: intervals.max,
            departures: Departures::default(),
        }
    }

    /// Takes in one event. A sync is asked for only if it may make a difference, and never before the first lists are complete.
    pub fn apply(&mut self, event: Event, now: Instant) {
        let changed = self.tracker.apply(event);
        if changed && self.tracker.is_synced() {
            self.scheduler.request(now);
        }
    }

    /// When [`sync`](Self::sync) has to be called next, if nothing else happens.
    pub fn due(&self) -> Option<Instant> {
        let due = [self.scheduler.due(), self.full_due(), self.step_due()];
        due.into_iter().flatten().min()
    }

    /// When the share of an endpoint that starts slowly grows next, as far as syncs may follow each other.
    fn step_due(&self) -> Option<Instant> {
        let due = self.tracker.step_due()?;
        Some(self.scheduler.soonest().map_or(due, |soonest| due.max(soonest)))
    }

    /// When the next full sync is due although nothing asks for one. Not in a large cluster, where it would cost more than it is worth.
    fn full_due(&self) -> Option<Instant> {
        // While a sync fails, its retry is what counts.
        let last_full =
            self.last_full.filter(|_| !self.need_full && !self.snapshot().is_large())?;
        Some(last_full + self.max_interval?)
    }

    /// Since when a change waits to be put on the node. Its age shows whether the proxy is healthy.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.scheduler.waiting_since()
    }

    /// What the node should look like, as of the last sync.
    pub fn snapshot(&self) -> &Snapshot {
        self.tracker.snapshot()
    }

    /// Numbers for metrics.
    pub fn change_counts(&self) -> ChangeCounts {
        self.tracker.change_counts()
    }

    /// Takes the changes of objects that made a difference, see [`Tracker::take_object_changes`].
    pub fn take_object_changes(&mut self) -> impl Iterator<Item = ObjectChange> + '_ {
        self.tracker.take_object_changes()
    }

    /// The frontends that more than one service port asks for, as of the last sync.
    pub fn contested_frontends(&self) -> usize {
        self.tracker.contested_frontends()
    }

    /// What keeps the objects, to look things up that the snapshot does not say.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Takes the conflicts about frontends that arose since this was last called; each is reported once for as long as it lasts.
    pub fn take_new_conflicts(&mut self) -> Vec<Conflict> {
        self.tracker.take_new_conflicts()
    }

    /// Says what Services get that do not ask for an algorithm; `false` if the mode does not have it, and the random choice stays.
    pub fn prefer_algorithm(&mut self, preferred: Algorithm) -> bool {
        self.tracker.prefer_algorithm(preferred)
    }

    /// Takes the Services that ask for an algorithm that the mode does not have, each once for as long as it does.
    pub fn take_new_lacking(&mut self) -> Vec<(ObjectName, Algorithm)> {
        self.tracker.take_new_lacking()
    }

    /// Asks for a full sync.
    pub fn require_full(&mut self, now: Instant) {
        self.need_full = true;
        self.scheduler.request(now);
    }

    /// Continues with another backend of the same family, for a node that has changed. It takes over what is on the node in a full sync, as after a restart.
    pub fn replace_backend(&mut self, backend: Box<dyn ProxyBackend>, now: Instant) {
        self.tracker.carry_annotations(backend.annotations());
        self.tracker.offer_algorithms(backend.algorithms());
        self.backend = backend;
        self.escalation = Escalation::default();
        // Nothing is written before the first lists are complete, which ask for the first sync themselves.
        if self.tracker.is_synced() {
            self.require_full(now);
        }
    }

    /// Node ports are on other addresses of the node now. `false` if that needs another backend, see [`Self::replace_backend`].
    pub fn set_node_ports(&mut self, addresses: &NodePortAddresses, now: Instant) -> bool {
        let done = self.backend.set_node_ports(addresses);
        if done && self.tracker.is_synced() {
            self.require_full(now);
        }
        done
    }

    /// Lets the backend read what the node holds, see [`ProxyBackend::read_ahead`]: to be called once, at the start.
    pub async fn read_ahead(&mut self) {
        self.backend.read_ahead().await;
    }

    /// Makes the node match the snapshot; `None` if the changes cancelled each other out and there was nothing to do.
    /// `clock` gives the time when the sync ended.
    pub async fn sync(&mut self, clock: impl Fn() -> Instant) -> Option<Outcome> {
        self.tracker.tell_time(clock());
        let changes = self.tracker.fold();
        self.unsynced.merge(changes);
        let full = self.need_full || self.full_due().is_some_and(|due| due <= clock());
        if !full && self.unsynced.is_empty() {
            self.tracker.take_trigger_times();
            self.scheduler.finished(clock(), true);
            return None;
        }
        let repair = self.escalation.level();
        let scope = match self.escalation.scope() {
            Some(scope) => scope,
            None if full => Scope::Full,
            None => Scope::Partial(&self.unsynced),
        };
        let result = self.backend.sync(self.tracker.snapshot(), scope).await;
        self.escalation.ended(&result);
        if let Ok(report) = &result {
            self.tracker.touch_udp(report.removed_udp.iter().copied());
        }
        let end = clock();
        self.scheduler.finished(end, result.is_ok());
        // A mode may find out only in a sync that the kernel does not have what a Service asks for.
        if self.tracker.offer_algorithms(self.backend.algorithms()) {
            self.scheduler.request(end);
        }
        if full && result.is_ok() {
            self.last_full = Some(end);
        }
        self.need_full = result.is_err();
        if result.is_err() {
            let changes = self.unsynced.clone();
            return Some(Outcome { result, full, repair, changes, trigger_times: Vec::new() });
        }
        self.departures.add(self.tracker.take_left(), end);
        let changes = std::mem::take(&mut self.unsynced);
        let trigger_times = self.tracker.take_trigger_times();
        Some(Outcome { result, full, repair, changes, trigger_times })
    }

    /// Checks whether the node still has what was written, and asks for a full sync if not. Nothing is looked at before the first success.
    pub async fn check(&mut self, now: Instant) -> Result<bool, SyncError> {
        if self.need_full {
            return Ok(true);
        }
        let intact = self.backend.intact().await?;
        if !intact {
            self.require_full(now);
        }
        Ok(intact)
    }

    /// What on the node differs from what the last sync wrote, object by object, see [`ProxyBackend::compare`]; nothing is changed.
    /// `None` before the first full sync worked: there is nothing to compare with yet.
    pub async fn compare(&mut self) -> Result<Option<Vec<Difference>>, SyncError> {
        if self.last_full.is_none() {
            return Ok(None);
        }
        self.backend.compare(self.tracker.snapshot()).await.map(Some)
    }

    /// The session of a client, see [`ProxyBackend::session`]. Before the first full sync worked there is none that counts.
    pub async fn session(&mut self, key: &SessionKey) -> Result<Option<Session>, SyncError> {
        if self.last_full.is_none() {
            return Ok(None);
        }
        self.backend.session(self.tracker.snapshot(), key).await
    }

    /// What the node holds for one frontend, see [`ProxyBackend::look_up`]; nothing is changed.
    /// `None` before the first full sync worked: there is nothing that it should hold yet.
    pub async fn look_up(
        &mut self,
        query: &FrontendQuery,
    ) -> Result<Option<Vec<KernelObject>>, SyncError> {
        if self.last_full.is_none() {
            return Ok(None);
        }
        self.backend.look_up(self.tracker.snapshot(), query).await.map(Some)
    }

    /// Service ports at which clients of this node share the endpoints of others, see [`ProxyBackend::without_short_circuit`].
    pub fn without_short_circuit(&self) -> Option<&BTreeSet<ServicePortName>> {
        self.backend.without_short_circuit()
    }

    /// Hands the backend what it calls when [`check`](Self::check) should come before its turn.
    pub fn set_waker(&mut self, waker: CheckWaker) {
        self.backend.set_waker(waker);
    }

    /// What went through each service port, see [`ProxyBackend::traffic`]; `None` while a full sync is missing, as the backend may not know.
    pub async fn traffic(&mut self) -> Result<Option<Vec<Traffic>>, SyncError> {
        if self.need_full {
            return Ok(None);
        }
        self.backend.traffic().await.map(Some)
    }

    /// What no endpoint got, see [`ProxyBackend::refused`]; `None` while a full sync is missing, as the backend may not know.
    pub async fn refused(&mut self) -> Result<Option<Vec<Refused>>, SyncError> {
        if self.need_full {
            return Ok(None);
        }
        self.backend.refused().await.map(Some)
    }

    /// UDP frontends that were removed from the node without being in the snapshot, such as those of another mode: their flows are part of
    /// the next check.
    pub fn removed_udp(&mut self, frontends: impl IntoIterator<Item = Frontend>) {
        self.tracker.touch_udp(frontends);
    }

    /// Takes what has to be checked about UDP flows; `None` while a sync is missing, as old rules would create the deleted flows again.
    pub fn take_udp_check(&mut self) -> Option<UdpCheck> {
        if self.need_full { None } else { self.tracker.take_udp_check() }
    }

    /// Gives back a check that could not be carried out, to be part of the next one.
    pub fn return_udp_check(&mut self, check: &UdpCheck) {
        self.tracker.return_udp_check(check);
    }

    /// Takes what has to be checked about TCP connections that began before the rules; `None` while a sync is missing. What decides
    /// is [`Tracker::is_early`].
    pub fn take_early_check(&mut self) -> Option<EarlyCheck> {
        if self.need_full { None } else { self.tracker.take_early_check() }
    }

    /// When [`take_dead_check`](Self::take_dead_check) has to be called next.
    pub fn dead_check_due(&self) -> Option<Instant> {
        self.departures.due()
    }

    /// Takes what has to be checked about connections to endpoints that left long enough ago; `None` if nothing.
    pub fn take_dead_check(&mut self, now: Instant) -> Option<DeadCheck> {
        self.departures.take_check(self.tracker.snapshot(), now)
    }

    /// Gives back a check that could not be carried out: its service ports are looked at again later.
    pub fn return_dead_check(&mut self, check: DeadCheck, now: Instant) {
        self.departures.take_back(check, now);
    }

    /// Gives back a check that could not be carried out, to be part of the next one.
    pub fn return_early_check(&mut self, check: EarlyCheck) {
        self.tracker.return_early_check(check);
    }
}

#[cfg(test)]
mod tests;
