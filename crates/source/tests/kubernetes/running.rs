//! A source that runs against a server in the process, and a tracker that receives its events.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use fake_apiserver::{ApiServer, Options};
use kube_proxy_core::{Event, IpFamily, Kind, Tracker, TrackerOptions};
use kube_proxy_source::kubernetes::{ApiStatus, Timing};
use kube_proxy_source::{KubernetesOptions, KubernetesSource, Problems};
use serde_json::{Value, json};

/// No test needs so long; it only ends those that would hang.
pub(crate) const HANG: Duration = Duration::from_mins(5);

/// A server on a free port of the loopback interface.
pub(crate) fn server() -> ApiServer {
    server_with(Options::default())
}

pub(crate) fn server_with(options: Options) -> ApiServer {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = std::net::TcpListener::bind(address).unwrap();
    let bound = listener.local_addr().unwrap();
    ApiServer::on_listener(listener, Box::new(move || std::net::TcpListener::bind(bound)), options)
        .unwrap()
}

/// Delays so short that tests are quick, and limits so long that only faults reach them.
pub(crate) fn quick() -> Timing {
    Timing {
        backoff_start: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        start: Duration::ZERO,
        ..Timing::default()
    }
}

/// The parts of the state that tests look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `name=cluster IP` of every Service.
    pub(crate) services: Vec<String>,
    /// `name=addresses` of every Service that has endpoints.
    pub(crate) endpoints: Vec<String>,
}

pub(crate) struct Running {
    events: mpsc::Receiver<Event>,
    tracker: Tracker,
    pub(crate) problems: Problems,
    pub(crate) status: ApiStatus,
    /// How many lists of each kind were completed, and how many were begun.
    pub(crate) lists: BTreeMap<String, (u32, u32)>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(server: &ApiServer) -> Self {
        Self::with(server, quick())
    }

    pub(crate) fn with(server: &ApiServer, timing: Timing) -> Self {
        Self::to(&server.url(), timing)
    }

    pub(crate) fn to(url: &str, timing: Timing) -> Self {
        let master = Some(url.to_owned());
        Self::of(KubernetesOptions { master, timing, ..KubernetesOptions::default() })
    }

    /// With a kubeconfig.
    pub(crate) fn by(kubeconfig: &Path) -> Self {
        Self::by_with(kubeconfig, quick())
    }

    pub(crate) fn by_with(kubeconfig: &Path, timing: Timing) -> Self {
        let kubeconfig = Some(kubeconfig.to_owned());
        Self::of(KubernetesOptions { kubeconfig, timing, ..KubernetesOptions::default() })
    }

    pub(crate) fn of(options: KubernetesOptions) -> Self {
        let problems = Problems::new();
        let content_type = match &*options.content_type {
            "" => crate::CONTENT_TYPE,
            other => other,
        };
        let options = KubernetesOptions {
            qps: -1.0,
            node_name: "n1".to_owned(),
            content_type: content_type.to_owned(),
            ..options
        };
        let (sender, events) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let register = problems.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let source = KubernetesSource::new(options, register).unwrap();
                tell.send(source.status()).unwrap();
                let sink = Arc::new(move |event| drop(sender.send(event)));
                tokio::select! {
                    () = source.run(sink) => {}
                    _ = stopped => {}
                }
            });
        });
        let options = TrackerOptions {
            node_name: "n1".into(),
            ..kube_proxy_core::testing::options(IpFamily::V4)
        };
        Self {
            events,
            tracker: Tracker::new(options),
            problems,
            status: told.recv_timeout(HANG).unwrap(),
            lists: BTreeMap::new(),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Takes in what happened so far and gives back the state.
    pub(crate) fn now(&mut self) -> Seen {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
        self.tracker.fold();
        let entries = &self.tracker.snapshot().services;
        let services = entries
            .iter()
            .map(|(name, entry)| format!("{}={}", name.service.name, entry.port.cluster_ip));
        let endpoints = entries.iter().filter(|(_, entry)| !entry.endpoints.is_empty());
        let endpoints = endpoints.map(|(name, entry)| {
            let all: Vec<_> = entry.endpoints.iter().map(|e| e.ip.to_string()).collect();
            format!("{}={}", name.service.name, all.join(","))
        });
        Seen { services: services.collect(), endpoints: endpoints.collect() }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::ListStarted(kind) => self.lists.entry(kind.to_string()).or_default().1 += 1,
            Event::ListDone(kind) => self.lists.entry(kind.to_string()).or_default().0 += 1,
            _ => {}
        }
        self.tracker.apply(event);
    }

    /// How many lists of a kind were completed.
    pub(crate) fn lists_done(&mut self, kind: Kind) -> u32 {
        self.now();
        self.lists.get(&kind.to_string()).map_or(0, |lists| lists.0)
    }

    pub(crate) fn node_ip(&mut self) -> Option<IpAddr> {
        self.now();
        self.tracker.snapshot().node_ip
    }

    pub(crate) fn service_cidrs(&mut self) -> usize {
        self.now();
        self.tracker.snapshot().service_cidrs.len()
    }

    pub(crate) fn is_synced(&mut self) -> bool {
        self.now();
        self.tracker.is_synced()
    }

    /// Waits until something holds.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + HANG;
        while !holds(self) {
            let now = self.now();
            let known = self.problems.current();
            assert!(Instant::now() < deadline, "{what}: it stays at {now:?}, problems {known:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the Services are these.
    #[track_caller]
    pub(crate) fn expect(&mut self, services: &[&str]) {
        self.until(&format!("{services:?}"), |running| {
            let now = running.now();
            running.tracker.is_synced() && now.services == services
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A kubeconfig in a folder, with fields of its cluster and of its user.
pub(crate) fn kubeconfig(folder: &Path, cluster: &Value, user: &Value) -> PathBuf {
    let path = folder.join("kubeconfig");
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Waits until something holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + HANG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn service(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}
    })
}

pub(crate) fn slice(name: &str, service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(|a| json!({"addresses": [a]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints
    })
}

pub(crate) fn node(name: &str, ip: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]}
    })
}
