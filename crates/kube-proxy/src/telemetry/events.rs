//! Events of `events.k8s.io/v1`: what people see with `kubectl describe`.
//!
//! They are best effort. A caller puts an event into a short queue and continues; when the queue is full or the API server
//! refuses, the event is dropped, for everything worth knowing is in the log too. Events that do not arrive are logged once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kube_proxy_core::{Algorithm, ObjectName};
use kube_proxy_source::kubernetes::Poster;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

/// Events that wait to be sent; further ones are dropped.
const QUEUE: usize = 64;
/// How often one event is sent before it is dropped.
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt; it doubles.
const RETRY: Duration = Duration::from_millis(500);
/// No wait is longer, whatever the server asks for.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// Longest wait for the answer to one event. A server that needs longer is not asked again for it.
const ANSWER: Duration = Duration::from_secs(5);

/// `reportingController`.
const CONTROLLER: &str = "kube-proxy";

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regarding {
    /// This node.
    Node,
    /// A Service.
    Service(ObjectName),
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For information.
    Normal,
    /// Something is wrong.
    Warning,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub regarding: Regarding,
    /// How bad it is.
    pub severity: Severity,
    /// Why, in one word of letters: what machines look at.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
    /// What happened, for people.
    pub note: String,
    /// Every node says the same, so that one event for all of them is enough.
    pub shared: bool,
}

impl Event {
    /// The proxy has started.
    pub fn starting() -> Self {
        Self::of_node(Severity::Normal, "Starting", String::new())
    }

    /// The ipvs mode is chosen, which Kubernetes gives up.
    pub fn deprecation(note: &str) -> Self {
        Self::of_node(Severity::Warning, "IPVSDeprecation", note.to_owned())
    }

    /// No mode is set, and what that means will change.
    pub fn mode_unset(note: &str) -> Self {
        Self::of_node(Severity::Warning, "ProxyModeUnset", note.to_owned())
    }

    /// The health server cannot listen, and the process ends.
    pub fn health_server_failed(error: &str) -> Self {
        Self::of_node(Severity::Warning, "FailedToStartProxierHealthcheck", error.to_owned())
    }

    /// The metrics server cannot listen, and the process ends.
    pub fn metrics_server_failed(error: &str) -> Self {
        Self::of_node(Severity::Warning, "FailedToStartMetricServer", error.to_owned())
    }

    /// The health-check node port of a Service cannot be opened.
    pub fn service_health_failed(service: &ObjectName, note: String) -> Self {
        Self {
            regarding: Regarding::Service(service.clone()),
            severity: Severity::Warning,
            reason: "FailedToStartServiceHealthcheck",
            action: "Listen",
            note,
            shared: false,
        }
    }

    /// A Service asks for an algorithm that the mode does not have, or the kernel.
    pub fn algorithm_lacking(service: &ObjectName, algorithm: Algorithm, mode: &str) -> Self {
        Self {
            regarding: Regarding::Service(service.clone()),
            severity: Severity::Warning,
            reason: "LBAlgorithmNotAvailable",
            action: "ChooseAlgorithm",
            note: format!(
                "kube-proxy in {mode} mode, or the kernel of a node, does not have the algorithm {algorithm} that \
                 kube-proxy.io/lb-algorithm asks for; endpoints are chosen at random"
            ),
            shared: true,
        }
    }

    fn of_node(severity: Severity, reason: &'static str, note: String) -> Self {
        let (regarding, action) = (Regarding::Node, "StartKubeProxy");
        Self { regarding, severity, reason, action, note, shared: false }
    }
}

/// Takes events. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Events(mpsc::Sender<Message>);

#[derive(Debug)]
enum Message {
    Event(Event, SystemTime),
    /// Everything before this was sent or given up.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// The two ends of a queue, for the node of this name. Without a poster events go nowhere.
    pub fn new(node_name: &str, poster: Option<Poster>) -> (Self, Writer) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let node_name = node_name.into();
        (Self(sender), Writer { node_name, poster, receiver, failing: false })
    }

    /// Queues an event; never waits.
    pub fn send(&self, event: Event) {
        let message = Message::Event(event, SystemTime::now());
        if let Err(mpsc::error::TrySendError::Full(Message::Event(event, _))) =
            self.0.try_send(message)
        {
            tracing::debug!("dropped an event, the queue is full: {event:?}");
        }
    }

    /// Waits until what was queued is sent, for so long at most.
    pub async fn flush(&self, limit: Duration) {
        let (done, wait) = oneshot::channel();
        let flushed = async {
            if self.0.send(Message::Flush(done)).await.is_ok() {
                let _ = wait.await;
            }
        };
        let _ = timeout(limit, flushed).await;
    }
}

/// Sends the queued events.
#[derive(Debug)]
pub struct Writer {
    node_name: Arc<str>,
    poster: Option<Poster>,
    receiver: mpsc::Receiver<Message>,
    /// The last event did not arrive, and the log says so.
    failing: bool,
}

impl Writer {
    /// The next event of the queue, if there is one.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Option<Event> {
        match self.receiver.try_recv() {
            Ok(Message::Event(event, _)) => Some(event),
            _ => None,
        }
    }

    /// Runs as long as there is a sender.
    pub async fn run(mut self) {
        while let Some(message) = self.receiver.recv().await {
            match message {
                Message::Event(event, at) => self.write(&event, at).await,
                Message::Flush(done) => {
                    // The caller may have stopped waiting.
                    let _ = done.send(());
                }
            }
        }
    }

    async fn write(&mut self, event: &Event, at: SystemTime) {
        let Some(poster) = &self.poster else { return };
        match post(poster, &object(event, &self.node_name, at)).await {
            Ok(()) => self.failing = false,
            Err(reason) if self.failing => {
                tracing::debug!("dropped an event, {reason}: {event:?}");
            }
            Err(reason) => {
                self.failing = true;
                tracing::warn!(
                    "events do not reach the API server, which has no effect on services; \
                     this is not said again until one arrives: {reason}"
                );
                tracing::debug!("dropped an event: {event:?}");
            }
        }
    }
}

/// Sends an object, a few times if that may help; or reports why it was not taken.
async fn post(poster: &Poster, object: &Value) -> Result<(), String> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let body = object.to_string().into_bytes();
    let mut wait = RETRY;
    let mut attempt = 1;
    loop {
        let Ok(answer) = timeout(ANSWER, poster.create(&path, body.clone())).await else {
            return Err(format!("no answer within {} s", ANSWER.as_secs()));
        };
        // Another node was first.
        let Some(error) = answer.err().filter(|error| !error.exists) else { return Ok(()) };
        if !error.temporary || attempt == ATTEMPTS {
            return Err(error.to_string());
        }
        sleep(error.retry_after.unwrap_or(wait).min(MAX_RETRY)).await;
        wait *= 2;
        attempt += 1;
    }
}

/// The object as the API server takes it.
fn object(event: &Event, node_name: &str, at: SystemTime) -> Value {
    let (namespace, regarding) = match &event.regarding {
        // The uid of the Node is not known here, and another text in its place would match nothing.
        Regarding::Node => {
            ("default", json!({ "apiVersion": "v1", "kind": "Node", "name": node_name }))
        }
        Regarding::Service(name) => (
            &*name.namespace,
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": &*name.namespace,
                "name": &*name.name,
                "uid": name.to_string(),
            }),
        ),
    };
    let subject = regarding["name"].as_str().unwrap_or_default();
    let nanoseconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = if event.shared { digest(event) } else { nanoseconds };
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": format!("{subject}.{number:x}"), "namespace": namespace },
        "eventTime": micro_time(at),
        "reportingController": CONTROLLER,
        "reportingInstance": format!("{CONTROLLER}-{node_name}"),
        "type": match event.severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        },
        "reason": event.reason,
        "action": event.action,
        "note": shorten(&event.note),
        "regarding": regarding,
    })
}

/// A number for what an event says, the same on every node (FNV-1a).
fn digest(event: &Event) -> u128 {
    let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    event.reason.bytes().chain(event.note.bytes()).fold(0xcbf2_9ce4_8422_2325, add).into()
}

/// RFC 3339 with exactly six digits below the second: `MicroTime` of the API.
fn micro_time(at: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.6}")
}

/// A note has at most a kilobyte.
fn shorten(note: &str) -> &str {
    let mut end = note.len().min(1024);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests;
