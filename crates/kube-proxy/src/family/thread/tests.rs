use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube_proxy_config::Mode;
use kube_proxy_core::{
    Intervals, Kind, NodePortAddresses, ObjectName, PerFamily, Port, Protocol, Proxy, ProxyBackend,
    Scope, Service, Snapshot, SyncError, SyncReport, TrackerOptions,
};
use tokio::sync::oneshot;

use super::*;
use crate::modes;
use crate::node::node_ports::NodePortScope;
use crate::serve::health::Health;
use crate::serve::service_health::HealthPorts;
use crate::telemetry::advice::Advice;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;

/// A backend whose work is done by a task of its own, as one that writes over a network would have.
struct Remote {
    /// Jobs for the task; each is answered.
    jobs: Option<UnboundedSender<oneshot::Sender<()>>>,
    /// Where the task says what it did.
    done: std::sync::mpsc::Sender<&'static str>,
}

#[async_trait]
impl ProxyBackend for Remote {
    async fn sync(&mut self, _: &Snapshot, _: Scope<'_>) -> Result<SyncReport, SyncError> {
        let done = self.done.clone();
        let jobs = self.jobs.get_or_insert_with(|| {
            let (sender, mut receiver) = unbounded_channel::<oneshot::Sender<()>>();
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        job = receiver.recv() => match job {
                            Some(job) => {
                                let _ = done.send("job");
                                let _ = job.send(());
                            }
                            None => return,
                        },
                        // While nothing asks anything of the backend.
                        () = tokio::time::sleep(Duration::from_millis(1)) => {
                            let _ = done.send("meanwhile");
                        }
                    }
                }
            });
            sender
        });
        let (sender, receiver) = oneshot::channel();
        let _ = jobs.send(sender);
        receiver.await.map_err(|_| SyncError::Busy("the task is gone".to_owned()))?;
        Ok(SyncReport::default())
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        Ok(true)
    }
}

fn setup(backend: Remote) -> Setup {
    let options = TrackerOptions {
        family: IpFamily::V4,
        node_name: "node-a".into(),
        node_ip: None,
        allow_external_ips: false,
        no_local_endpoints: kube_proxy_core::NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    };
    let intervals = Intervals { min: Duration::ZERO, retry: Duration::from_mins(1), max: None };
    Setup {
        family: IpFamily::V4,
        proxy: Proxy::new(options, intervals, Box::new(backend)),
        mode: modes::entry(Mode::Nftables),
        node_ports: NodePortScope { addresses: NodePortAddresses::All, loopback: false },
        check_period: Duration::from_hours(1),
        leftovers: None,
        health: Health::new(&[IpFamily::V4], Duration::from_mins(1), None),
        metrics: Arc::new(Metrics::new()),
        advice: Arc::new(Advice::new(Events::new("node-a", None).0, "nftables")),
        health_ports: HealthPorts::per_family().get(IpFamily::V4).clone(),
    }
}

fn service(name: &str, host: u8) -> Event {
    let port = NonZeroU16::new(80).unwrap();
    Event::ServiceApplied(Arc::new(Service {
        cluster_ips: PerFamily { v4: Some([10, 96, 0, host].into()), v6: None },
        ports: vec![Port { name: "http".into(), protocol: Protocol::Tcp, port, node_port: None }],
        ..Service::new(ObjectName::new("default", name))
    }))
}

/// Tasks of a backend run while it is asked for something, and while the loop waits for events.
#[test]
fn a_backend_that_awaits_makes_progress() {
    let (done, told) = std::sync::mpsc::channel();
    let inbox = Inbox::default();
    let events = inbox.sender();
    let thread = FamilyThread::start(setup(Remote { jobs: None, done }), inbox).unwrap();
    let next = |wanted: &str| {
        let deadline = Instant::now() + Duration::from_mins(1);
        while told.recv_timeout(deadline - Instant::now()).expect("the task goes on") != wanted {}
    };
    for kind in [Kind::Service, Kind::EndpointSlice] {
        events.send(Event::ListDone(kind));
    }
    next("job");
    // Nothing happens, and the task runs all the same.
    next("meanwhile");
    next("meanwhile");
    events.send(service("web", 1));
    next("job");
    next("meanwhile");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let minute = Duration::from_mins(1);
    runtime.block_on(async {
        let ended = thread.ended();
        tokio::pin!(ended);
        let early = tokio::time::timeout(Duration::ZERO, &mut ended).await;
        assert!(early.is_err(), "it runs until it is stopped");
        thread.stop();
        tokio::time::timeout(minute, ended).await.expect("the thread stops");
    });
    let deadline = Instant::now() + minute;
    while !thread.has_ended() {
        assert!(Instant::now() < deadline, "the thread stops");
        std::thread::sleep(Duration::from_millis(1));
    }
}
