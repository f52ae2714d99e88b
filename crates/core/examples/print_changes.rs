//! Embeds the core crate with a backend and a source of its own: the backend prints what changes, the source is a few lines of code.
//!
//! Run it with `cargo run -p kube-proxy-core --example print_changes`.
#![expect(clippy::print_stdout, reason = "an example that shows something")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kube_proxy_core::{
    EndpointSlice, Event, Intervals, IpFamily, Kind, ObjectName, PerFamily, Port, Protocol, Proxy,
    ProxyBackend, Scope, Service, SliceEndpoint, SlicePort, Snapshot, SyncError, SyncReport,
    TrackerOptions,
};

/// A backend that writes to standard output instead of a kernel.
struct Printer;

#[async_trait]
impl ProxyBackend for Printer {
    async fn sync(
        &mut self,
        snapshot: &Snapshot,
        scope: Scope<'_>,
    ) -> Result<SyncReport, SyncError> {
        let names: Vec<_> = match scope {
            Scope::Full | Scope::Repair(_) => snapshot.services.keys().collect(),
            Scope::Partial(changes) => changes.services.iter().collect(),
        };
        for name in names {
            match snapshot.services.get(name) {
                None => println!("{name} is gone"),
                Some(entry) => {
                    let to: Vec<_> = entry.choice.cluster.iter().map(ToString::to_string).collect();
                    let port = &entry.port;
                    println!(
                        "{name}: {}:{} leads to [{}]",
                        port.cluster_ip,
                        port.port,
                        to.join(", ")
                    );
                }
            }
        }
        Ok(SyncReport::default())
    }

    async fn intact(&mut self) -> Result<bool, SyncError> {
        Ok(true)
    }
}

fn service(port: NonZeroU16) -> Service {
    Service {
        cluster_ips: PerFamily { v4: Some(IpAddr::from([10, 96, 0, 80])), v6: None },
        ports: vec![Port { name: "http".into(), protocol: Protocol::Tcp, port, node_port: None }],
        ..Service::new(ObjectName::new("default", "web"))
    }
}

fn slice(port: NonZeroU16, addresses: &[[u8; 4]]) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("default", "web-1"),
        service: "web".into(),
        family: IpFamily::V4,
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port }],
        endpoints: addresses.iter().map(|a| SliceEndpoint::ready(IpAddr::from(*a))).collect(),
        trigger_time: None,
    }
}

fn main() {
    let port = const { NonZeroU16::new(80).expect("80 is not zero") };
    let options = TrackerOptions {
        family: IpFamily::V4,
        node_name: "this-node".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: kube_proxy_core::NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    };
    let intervals = Intervals { min: Duration::ZERO, retry: Duration::from_secs(30), max: None };
    let mut proxy = Proxy::new(options, intervals, Box::new(Printer));

    let history = [
        Event::ListStarted(Kind::Service),
        Event::ListStarted(Kind::EndpointSlice),
        Event::ServiceApplied(Arc::new(service(port))),
        Event::ListDone(Kind::Service),
        Event::ListDone(Kind::EndpointSlice),
        Event::EndpointSliceApplied(slice(port, &[[10, 0, 0, 1], [10, 0, 0, 2]])),
        // The same again: no backend is woken.
        Event::EndpointSliceApplied(slice(port, &[[10, 0, 0, 1], [10, 0, 0, 2]])),
        Event::EndpointSliceApplied(slice(port, &[[10, 0, 0, 2]])),
        Event::ServiceDeleted(ObjectName::new("default", "web")),
    ];
    for event in history {
        proxy.apply(event, Instant::now());
        if proxy.due().is_some_and(|due| due <= Instant::now()) {
            let outcome = futures::executor::block_on(proxy.sync(Instant::now));
            if let Some(Err(error)) = outcome.map(|outcome| outcome.result) {
                println!("the sync failed, the next will be full: {error}");
            }
        }
    }
}
