//! The loop of one family: what it does with events, when it syncs and checks, and what it reports.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use kube_proxy_core::proxy::Outcome;
use kube_proxy_core::tracker::ChangeCounts;
use kube_proxy_core::{Conflict, Event, FrontendQuery, SessionKey, SyncReport};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::knock::Knocks;
use super::mailbox::{Message, Replacement, waker};
use super::pace::Pace;
use super::report::{NoLocalEndpoints, kind, log_repair, log_sync};
use super::setup::Setup;
use crate::family::check::{FamilyCheck, Repair};
use crate::family::history::History;
use crate::family::on_node::OnNode;
use crate::family::state::FoundSession;
use crate::telemetry::metrics::{Changes, Frontends};

mod comparison;
mod flows;
mod look_ups;
mod sessions;
mod state;

/// Least time between two looks at the rules: a program that changes them all the time must not keep this thread busy.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Has the proxy of one family, and acts for it.
pub(super) struct Worker {
    setup: Setup,
    sender: UnboundedSender<Message>,
    next_check: Instant,
    last_check: Option<Instant>,
    reported: ChangeCounts,
    no_local: NoLocalEndpoints,
    /// Clients of endpoints that left.
    knocks: Knocks,
    /// Of looks at tracked connections.
    flow_pace: Pace,
    /// Who waits for the traffic to be read.
    traffic_wanted: Vec<oneshot::Sender<()>>,
    /// Who waits for a comparison.
    comparisons: Vec<oneshot::Sender<FamilyCheck>>,
    /// Who waits for sessions of clients.
    sessions_asked: Vec<(Vec<SessionKey>, oneshot::Sender<Vec<FoundSession>>)>,
    /// Who waits for what the node holds for frontends.
    look_ups: Vec<(Vec<FrontendQuery>, oneshot::Sender<Vec<OnNode>>)>,
    /// The last repairs of what another program changed.
    repairs: VecDeque<Repair>,
    /// The last changes of Services and endpoints.
    history: History,
    /// When the last sync succeeded.
    synced: Option<SystemTime>,
    /// Why the last sync failed, if it did.
    failure: Option<String>,
    /// Services ask for a fast path that the node does not have.
    lacks_fast_path: bool,
    start: SystemTime,
}

impl Worker {
    pub(super) fn new(setup: Setup, sender: UnboundedSender<Message>) -> Self {
        Self {
            sender,
            next_check: Instant::now() + setup.check_period,
            last_check: None,
            reported: ChangeCounts::default(),
            no_local: NoLocalEndpoints::default(),
            knocks: Knocks::default(),
            flow_pace: Pace::default(),
            traffic_wanted: Vec::new(),
            comparisons: Vec::new(),
            sessions_asked: Vec::new(),
            look_ups: Vec::new(),
            repairs: VecDeque::new(),
            history: History::new(SystemTime::now()),
            synced: None,
            failure: None,
            lacks_fast_path: false,
            start: SystemTime::now(),
            setup,
        }
    }

    pub(super) async fn run(mut self, mut receiver: UnboundedReceiver<Message>) {
        self.work(&mut receiver).await;
        // The next process does not know what this one has put off.
        self.check_flows_left();
    }

    async fn work(&mut self, receiver: &mut UnboundedReceiver<Message>) {
        // The first lists are on their way; their events wait.
        self.setup.proxy.read_ahead().await;
        loop {
            let proxy = &self.setup.proxy;
            let dues =
                [proxy.due(), proxy.dead_check_due(), self.knocks.due(), self.flow_pace.due()];
            let dues = dues.into_iter().flatten();
            let due = dues.fold(self.next_check, Instant::min);
            let wait = due.saturating_duration_since(Instant::now());
            let mut next = match timeout(wait, receiver.recv()).await {
                Ok(Some(message)) => Some(message),
                Ok(None) => return,
                Err(_) => None,
            };
            // Everything that is already here belongs into the same sync.
            while let Some(message) = next {
                if !self.take(message) {
                    return;
                }
                next = receiver.try_recv().ok();
            }
            self.report_changes();
            if !self.traffic_wanted.is_empty() {
                // Without a reading at the start, what an earlier process let pass would count.
                if self.setup.metrics.traffic().has_begun(self.setup.family) {
                    self.read_traffic().await;
                }
                self.traffic_wanted.clear();
            }
            self.compare().await;
            self.find_sessions().await;
            self.look_up().await;
            let now = Instant::now();
            if self.setup.proxy.due().is_some_and(|due| due <= now) {
                self.sync().await;
            }
            self.check_flows_put_off(now);
            self.check_dead_flows();
            if self.next_check <= now {
                self.check().await;
            }
        }
    }

    /// Acts on a message; `false` at the end.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Event(event, received) => self.apply(event, received),
            Message::Check => self.check_soon(),
            Message::RemovedUdp(frontends) => {
                self.setup.proxy.removed_udp(frontends);
                self.check_flows();
            }
            Message::Look(look) => look(self.setup.proxy.tracker(), self.state()),
            Message::Compare(answer) => self.comparisons.push(answer),
            Message::Sessions(keys, answer) => self.sessions_asked.push((keys, answer)),
            Message::LookUps(queries, answer) => self.look_ups.push((queries, answer)),
            Message::ReadTraffic(wanted) => self.traffic_wanted.push(wanted),
            Message::Replace(replacement) => return self.replace(*replacement),
            Message::Stop => return false,
        }
        true
    }

    /// Continues with other node-port addresses, or with another backend for them; `false` if there is none.
    fn replace(&mut self, replacement: Replacement) -> bool {
        let family = self.setup.family;
        let addresses = &replacement.node_ports.addresses;
        if self.setup.proxy.set_node_ports(addresses, Instant::now()) {
            tracing::info!(%family, "the address of this node has changed; node ports follow");
            self.setup.node_ports = replacement.node_ports;
            self.report_waiting();
            return true;
        }
        match (replacement.create)() {
            Ok(mut backend) => {
                tracing::info!(%family, "the address of this node has changed; writing the rules again");
                backend.set_waker(waker(&self.sender));
                self.setup.proxy.replace_backend(backend, Instant::now());
                self.setup.node_ports = replacement.node_ports;
                self.report_waiting();
                true
            }
            Err(error) => {
                tracing::error!(%family, "no backend after the address of this node has changed: {error}");
                false
            }
        }
    }

    fn apply(&mut self, event: Event, received: SystemTime) {
        let waiting = self.setup.proxy.waiting_since();
        self.setup.proxy.apply(event, Instant::now());
        self.history.add(self.setup.proxy.take_object_changes(), received);
        if self.setup.proxy.waiting_since() != waiting {
            self.setup.metrics.sync.queued(self.setup.family, since_epoch());
            self.report_waiting();
        }
    }

    fn check_soon(&mut self) {
        let earliest = self.last_check.map_or_else(Instant::now, |last| last + MIN_CHECK_INTERVAL);
        self.next_check = self.next_check.min(earliest);
    }

    fn report_waiting(&self) {
        if let Some(health) = self.setup.health.family(self.setup.family) {
            health.set_waiting_since(self.setup.proxy.waiting_since());
        }
    }

    fn report_changes(&mut self) {
        let counts = self.setup.proxy.change_counts();
        if counts == self.reported {
            return;
        }
        let pending = |now: u64, before: u64| now.cast_signed() - before.cast_signed();
        let old = std::mem::replace(&mut self.reported, counts);
        self.setup.metrics.changes.seen(
            Changes {
                new: counts.services - old.services,
                pending: pending(counts.services_pending, old.services_pending),
            },
            Changes {
                new: counts.endpoints - old.endpoints,
                pending: pending(counts.endpoints_pending, old.endpoints_pending),
            },
        );
    }

    async fn sync(&mut self) {
        let family = self.setup.family;
        let begin = Instant::now();
        let Some(outcome) = self.setup.proxy.sync(Instant::now).await else {
            self.history.written(SystemTime::now());
            self.report_waiting();
            return;
        };
        let took = begin.elapsed();
        self.setup.metrics.sync.synced(family, outcome.full, took);
        if let Some(level) = outcome.repair {
            self.setup.metrics.sync.repaired(family, level);
            log_repair(family, level, outcome.result.is_ok());
        }
        match &outcome.result {
            Ok(report) => {
                if !self.setup.metrics.traffic().has_begun(family) {
                    // From now on.
                    self.read_traffic().await;
                }
                self.succeeded(&outcome, report);
                if outcome.full {
                    // It took several times of what stays.
                    kube_proxy_netlink::memory::give_back();
                }
                log_sync(family, &outcome, report, took);
                self.check_flows();
            }
            Err(error) => {
                self.setup.metrics.sync.failed(
                    self.setup.mode.metrics.failures,
                    family,
                    outcome.full,
                    error,
                );
                self.failure = Some(error.to_string());
                let kind = kind(outcome.full);
                let retry = self.setup.proxy.due().map(|due| due.saturating_duration_since(begin));
                tracing::error!(
                    %family,
                    "{kind} sync failed after {took:.1?}, next try (a full one) in {:.1?}: {error}",
                    retry.unwrap_or_default().saturating_sub(took)
                );
            }
        }
        self.report_waiting();
        self.report_changes();
    }

    fn succeeded(&mut self, outcome: &Outcome, report: &SyncReport) {
        let family = self.setup.family;
        let metrics = &self.setup.metrics;
        metrics.sync.succeeded(
            self.setup.mode.metrics.reports_rules,
            family,
            report,
            since_epoch(),
        );
        metrics.service_ports.refused(family, report.refused);
        if let Some(names) = self.setup.proxy.without_short_circuit() {
            metrics.service_ports.without_short_circuit(family, names.len());
        }
        metrics.service_ports.without_fast_path(family, report.without_fast_path);
        self.lacks_fast_path = report.without_fast_path > 0;
        let now = SystemTime::now();
        (self.synced, self.failure) = (Some(now), None);
        self.history.written(now);
        for changed in &outcome.trigger_times {
            // What happened before this process started says nothing about its speed.
            if *changed >= self.start
                && let Ok(after) = now.duration_since(*changed)
            {
                metrics.sync.programmed(family, after);
            }
        }
        self.no_local.update(&self.setup.proxy, &outcome.changes.services);
        metrics.service_ports.no_local_endpoints(
            family,
            Frontends::Internal,
            self.no_local.internal.len(),
        );
        metrics.service_ports.no_local_endpoints(
            family,
            Frontends::External,
            self.no_local.external.len(),
        );
        self.report_conflicts();
        self.report_lacking();
        self.setup.health_ports.update(self.setup.proxy.snapshot(), &outcome.changes.services);
        if let Some(health) = self.setup.health.family(family) {
            health.set_updated(now);
        }
        // Once, after the first success.
        if let Some(leftovers) = self.setup.leftovers.take() {
            let sender = self.sender.clone();
            leftovers.start(move |frontends| {
                let _ = sender.send(Message::RemovedUdp(frontends));
            });
        }
    }

    /// Names the service ports that do without a frontend because another has it, each once.
    fn report_conflicts(&mut self) {
        let family = self.setup.family;
        let contested = self.setup.proxy.contested_frontends();
        self.setup.metrics.service_ports.contested_frontends(family, contested);
        for Conflict { frontend, owner, loser } in self.setup.proxy.take_new_conflicts() {
            tracing::warn!(
                %family, %frontend, service = %loser, %owner,
                "frontend conflict: the service port is not reachable there, the owner is"
            );
        }
    }

    /// Names the Services that ask for an algorithm which the mode does not have, each once.
    fn report_lacking(&mut self) {
        let family = self.setup.family;
        let lacking = self.setup.proxy.tracker().lacking();
        self.setup.metrics.service_ports.lacking_algorithm(family, lacking);
        for (service, algorithm) in self.setup.proxy.take_new_lacking() {
            self.setup.advice.lacks_algorithm(&service, algorithm, Instant::now());
            tracing::warn!(
                %family, %service, %algorithm,
                "this mode, or this kernel, does not have the algorithm that the annotation kube-proxy.io/lb-algorithm asks for; endpoints are chosen at random"
            );
        }
    }

    async fn check(&mut self) {
        let family = self.setup.family;
        match self.setup.proxy.check(Instant::now()).await {
            Ok(true) => self.check_flows(),
            Ok(false) => {
                tracing::warn!(%family, "the rules on this node are not what was written; writing them again");
                self.setup.metrics.sync.drifted(family);
                self.note_damage().await;
                self.report_waiting();
            }
            Err(error) => tracing::warn!(%family, "cannot look at the rules on this node: {error}"),
        }
        let now = Instant::now();
        self.last_check = Some(now);
        self.next_check = now + self.setup.check_period;
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
