//! One IP family on a thread of its own: events in, syncs when due. Kernel work blocks this thread and nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use kube_proxy_core::proxy::Outcome;
use kube_proxy_core::tracker::ChangeCounts;
use kube_proxy_core::{
    Event, IpFamily, Proxy, ProxyBackend, ServicePortName, SyncError, SyncReport, Waker,
};
use tokio::sync::oneshot;

use crate::config::Mode;
use crate::health::Health;
use crate::leftovers::Leftovers;
use crate::metrics::{Changes, Frontends, Metrics};
use crate::service_health::HealthPorts;
use crate::udp_flows::{self, NodePortScope};

/// What the thread is told.
enum Message {
    Event(Event),
    /// The backend asks to be looked at.
    Check,
    /// Somebody wants to know the traffic; dropping the sender tells that it was read.
    ReadTraffic(oneshot::Sender<()>),
    /// The node has changed: from now on another backend.
    Replace(Box<Replacement>),
    Stop,
}

/// Another backend, made on the thread that will use it.
pub struct Replacement {
    /// Makes it.
    pub create: Box<dyn FnOnce() -> Result<Box<dyn ProxyBackend>, SyncError> + Send>,
    /// Where node ports may be used from now on.
    pub node_ports: NodePortScope,
}

/// How long to wait for a family to read its traffic: it may be in the middle of a sync.
const TRAFFIC_PATIENCE: Duration = Duration::from_secs(1);

/// Least time between two looks at the rules: whoever changes them all the time must not keep this thread busy.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The events of one family, from before its thread runs: they wait.
pub struct Inbox {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

/// The handle of a running family.
pub struct FamilyThread {
    family: IpFamily,
    sender: Sender<Message>,
    thread: JoinHandle<()>,
}

/// Where events of one family go.
#[derive(Clone)]
pub struct EventSender(Sender<Message>);

impl EventSender {
    /// Hands an event over. After the family has stopped, events go nowhere.
    pub fn send(&self, event: Event) {
        let _ = self.0.send(Message::Event(event));
    }
}

/// Asks a family to read its traffic.
#[derive(Clone)]
pub struct TrafficReader(Sender<Message>);

impl TrafficReader {
    /// Asks now; the future ends when the metrics tell the traffic up to then, or after a while.
    pub fn read(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.0.send(Message::ReadTraffic(sender));
        async move {
            // Whatever the outcome: what was read before is still true of an earlier time.
            let _ = tokio::time::timeout(TRAFFIC_PATIENCE, receiver).await;
        }
    }
}

/// What the thread works with.
pub struct Setup {
    /// The family.
    pub family: IpFamily,
    /// Tracker, scheduler and backend, put together.
    pub proxy: Proxy,
    /// The mode of its backend.
    pub mode: Mode,
    /// Where node ports may be used.
    pub node_ports: NodePortScope,
    /// How often to look whether the rules are still there.
    pub check_period: Duration,
    /// What to remove once this mode serves.
    pub leftovers: Leftovers,
    /// Where it reports.
    pub health: Arc<Health>,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Where it tells of health-check node ports.
    pub health_ports: Arc<HealthPorts>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = channel();
        Self { sender, receiver }
    }
}

impl Inbox {
    /// A sender for this family's events.
    pub fn sender(&self) -> EventSender {
        EventSender(self.sender.clone())
    }
}

impl FamilyThread {
    /// Starts the thread.
    pub fn start(mut setup: Setup, inbox: Inbox) -> std::io::Result<Self> {
        let Inbox { sender, receiver } = inbox;
        setup.proxy.set_waker(waker(&sender));
        let (family, waking) = (setup.family, sender.clone());
        let name = format!("sync-{family}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => runtime.block_on(Worker::new(setup, waking).run(&receiver)),
                Err(error) => tracing::error!("cannot start a runtime to sync with: {error}"),
            }
        })?;
        Ok(Self { family, sender, thread })
    }

    /// Its family.
    pub fn family(&self) -> IpFamily {
        self.family
    }

    /// Goes on with another backend, which takes over what the old one put on the node. Ends if that cannot be made.
    pub fn replace_backend(&self, replacement: Replacement) {
        let _ = self.sender.send(Message::Replace(Box::new(replacement)));
    }

    /// Whether the thread has ended, which it should not by itself.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks for its traffic.
    pub fn traffic(&self) -> TrafficReader {
        TrafficReader(self.sender.clone())
    }

    /// Asks the thread to stop after the sync it may be in.
    pub fn stop(&self) {
        let _ = self.sender.send(Message::Stop);
    }
}

fn waker(sender: &Sender<Message>) -> Waker {
    let sender = sender.clone();
    Waker::new(move || {
        let _ = sender.send(Message::Check);
    })
}

struct Worker {
    setup: Setup,
    sender: Sender<Message>,
    next_check: Instant,
    last_check: Option<Instant>,
    reported: ChangeCounts,
    no_local: NoLocalEndpoints,
    /// Who waits for the traffic to be read.
    traffic_wanted: Vec<oneshot::Sender<()>>,
    start: SystemTime,
    /// Whether a sync has succeeded.
    serves: bool,
}

impl Worker {
    fn new(setup: Setup, sender: Sender<Message>) -> Self {
        Self {
            sender,
            next_check: Instant::now() + setup.check_period,
            last_check: None,
            reported: ChangeCounts::default(),
            no_local: NoLocalEndpoints::default(),
            traffic_wanted: Vec::new(),
            start: SystemTime::now(),
            serves: false,
            setup,
        }
    }

    async fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let due =
                self.setup.proxy.due().map_or(self.next_check, |due| due.min(self.next_check));
            let wait = due.saturating_duration_since(Instant::now());
            let first = match receiver.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Everything that is already here belongs into the same sync.
            for message in first.into_iter().chain(receiver.try_iter()) {
                if !self.take(message) {
                    return;
                }
            }
            self.report_changes();
            if !self.traffic_wanted.is_empty() {
                // Without a reading at the start, what an earlier process let pass would count.
                if self.setup.metrics.traffic().has_begun(self.setup.family) {
                    self.read_traffic().await;
                }
                self.traffic_wanted.clear();
            }
            let now = Instant::now();
            if self.setup.proxy.due().is_some_and(|due| due <= now) {
                self.sync().await;
            }
            if self.next_check <= now {
                self.check().await;
            }
        }
    }

    /// Acts on a message; `false` at the end.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Event(event) => self.apply(event),
            Message::Check => self.check_soon(),
            Message::ReadTraffic(wanted) => self.traffic_wanted.push(wanted),
            Message::Replace(replacement) => return self.replace(*replacement),
            Message::Stop => return false,
        }
        true
    }

    /// Goes on with another backend; `false` if there is none.
    fn replace(&mut self, replacement: Replacement) -> bool {
        let family = self.setup.family;
        match (replacement.create)() {
            Ok(mut backend) => {
                tracing::info!(%family, "the address of this node has changed; writing the rules anew");
                backend.set_waker(waker(&self.sender));
                self.setup.proxy.replace_backend(backend, Instant::now());
                self.setup.node_ports = replacement.node_ports;
                self.report_waiting();
                true
            }
            Err(error) => {
                tracing::error!(%family, "cannot go on after the address of this node has changed: {error}");
                false
            }
        }
    }

    fn apply(&mut self, event: Event) {
        let waiting = self.setup.proxy.waiting_since();
        self.setup.proxy.apply(event, Instant::now());
        if self.setup.proxy.waiting_since() != waiting {
            self.setup.metrics.queued(self.setup.family, since_epoch());
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
        self.setup.metrics.changes(
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
            self.report_waiting();
            return;
        };
        let took = begin.elapsed();
        self.setup.metrics.synced(family, outcome.full, took);
        match &outcome.result {
            Ok(report) => {
                if !self.setup.metrics.traffic().has_begun(family) {
                    // From now on.
                    self.read_traffic().await;
                }
                self.succeeded(&outcome, report);
                log_sync(family, &outcome, report, took);
                self.check_udp_flows();
            }
            Err(error) => {
                self.setup.metrics.failed(self.setup.mode, family, outcome.full);
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
        metrics.succeeded(self.setup.mode, family, report, since_epoch());
        let now = SystemTime::now();
        for changed in &outcome.trigger_times {
            // What happened before this process started says nothing about its speed.
            if *changed >= self.start
                && let Ok(after) = now.duration_since(*changed)
            {
                metrics.programmed(family, after);
            }
        }
        self.no_local.update(&self.setup.proxy, &outcome.changes.services);
        metrics.no_local_endpoints(family, Frontends::Internal, self.no_local.internal.len());
        metrics.no_local_endpoints(family, Frontends::External, self.no_local.external.len());
        self.setup.health_ports.update(self.setup.proxy.snapshot(), &outcome.changes.services);
        if let Some(health) = self.setup.health.family(family) {
            health.set_updated(now);
        }
        if !std::mem::replace(&mut self.serves, true) {
            self.setup.leftovers.clone().start();
        }
    }

    async fn read_traffic(&mut self) {
        let Setup { family, metrics, proxy, .. } = &mut self.setup;
        if !metrics.traffic().is_on() {
            return;
        }
        match proxy.traffic().await {
            Ok(None) => {}
            Ok(Some(read)) => metrics.traffic().update(*family, read),
            Err(error) => tracing::warn!(%family, "cannot read the traffic of services: {error}"),
        }
    }

    /// Deletes the UDP flows that the new rules made wrong. A failure is retried with the next check of the rules.
    fn check_udp_flows(&mut self) {
        let Some(check) = self.setup.proxy.take_udp_check() else { return };
        if self.setup.mode == Mode::Userspace {
            // Flows lead to this process there, which knows best which are right.
            return;
        }
        let family = self.setup.family;
        let begin = Instant::now();
        match udp_flows::delete_stale(family, &check, &self.setup.node_ports) {
            Ok(checked) => {
                self.setup.metrics.flows_checked(family, begin.elapsed(), checked.deleted);
                if checked.deleted > 0 {
                    tracing::info!(%family, deleted = checked.deleted, "deleted stale UDP flows");
                }
                if !checked.complete {
                    self.setup.proxy.return_udp_check(&check);
                }
            }
            Err(error) => {
                tracing::warn!(%family, "cannot delete stale UDP flows, will try again: {error}");
                self.setup.proxy.return_udp_check(&check);
            }
        }
    }

    async fn check(&mut self) {
        let family = self.setup.family;
        match self.setup.proxy.check(Instant::now()).await {
            Ok(true) => self.check_udp_flows(),
            Ok(false) => {
                tracing::warn!(%family, "the rules on this node are not what was written; writing them anew");
                self.report_waiting();
            }
            Err(error) => tracing::warn!(%family, "cannot look at the rules on this node: {error}"),
        }
        let now = Instant::now();
        self.last_check = Some(now);
        self.next_check = now + self.setup.check_period;
    }
}

/// Service ports with a `Local` policy and no local endpoint, kept up to date change by change.
#[derive(Default)]
struct NoLocalEndpoints {
    internal: BTreeSet<ServicePortName>,
    external: BTreeSet<ServicePortName>,
}

impl NoLocalEndpoints {
    fn update(&mut self, proxy: &Proxy, changed: &BTreeSet<ServicePortName>) {
        for name in changed {
            let entry = proxy.snapshot().services.get(name);
            for (set, frontends) in [
                (&mut self.internal, Frontends::Internal),
                (&mut self.external, Frontends::External),
            ] {
                if entry.is_some_and(|entry| frontends.lack_local_endpoints(entry)) {
                    set.insert(name.clone());
                } else {
                    set.remove(name);
                }
            }
        }
    }
}

fn kind(full: bool) -> &'static str {
    if full { "full" } else { "partial" }
}

fn log_sync(family: IpFamily, outcome: &Outcome, report: &SyncReport, took: Duration) {
    let written: Vec<String> = report
        .counts
        .iter()
        .map(|count| format!("{} {} of {}", count.kind, count.written, count.total))
        .collect();
    tracing::info!(
        %family,
        services = outcome.changes.services.len(),
        rules = written.join(", "),
        "{} sync took {took:.1?}",
        kind(outcome.full)
    );
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
