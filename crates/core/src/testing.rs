//! Fixtures for tests: Services, slices and trackers in few words, and a driver for repairs.
//!
//! Other crates get them by the feature `test-support`, in their development dependencies.

#![expect(clippy::missing_panics_doc, reason = "fixtures panic where a test is wrong")]

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::tracker::TrackerOptions;
use crate::{
    Conditions, EndpointSlice, Event, Intervals, IpFamily, Kind, ObjectName, Outcome, Port,
    Protocol, Proxy, ProxyBackend, RepairLevel, Service, ServicePortName, SliceEndpoint, SlicePort,
    Tracker,
};

/// An address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A port.
pub fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("not zero")
}

/// The object `namespace/name`.
pub fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ObjectName::new(namespace, name)
}

/// `web` of service `ns/name`, TCP.
pub fn port_name(service: &str, port: &str) -> ServicePortName {
    ServicePortName { service: name(service), port: port.into(), protocol: Protocol::Tcp }
}

/// A Service with one unnamed TCP port 80.
pub fn service(text: &str, cluster_ip: &str) -> Service {
    let mut service = Service::new(name(text));
    let cluster_ip = ip(cluster_ip);
    *service.cluster_ips.get_mut(IpFamily::of(&cluster_ip)) = Some(cluster_ip);
    service.ports =
        vec![Port { name: "".into(), protocol: Protocol::Tcp, port: port(80), node_port: None }];
    service
}

/// A slice with one unnamed TCP port 8080.
pub fn slice(text: &str, service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        name: name(text),
        service: service.into(),
        family: endpoints.first().map_or(IpFamily::V4, |e| IpFamily::of(&e.address)),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: port(8080) }],
        endpoints,
        trigger_time: None,
    }
}

/// A ready endpoint.
pub fn ready(address: &str) -> SliceEndpoint {
    SliceEndpoint::ready(ip(address))
}

/// An endpoint that serves while it terminates.
pub fn terminating(address: &str) -> SliceEndpoint {
    let conditions = Conditions { ready: false, serving: true, terminating: true };
    SliceEndpoint { conditions, ..ready(address) }
}

/// The endpoint on a node.
pub fn on_node(node: &str, endpoint: SliceEndpoint) -> SliceEndpoint {
    SliceEndpoint { node: Some(node.into()), ..endpoint }
}

/// A tracker on node `here`.
pub fn options(family: IpFamily) -> TrackerOptions {
    TrackerOptions {
        family,
        node_name: "here".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: crate::NoLocalEndpoints::Drop,
        zone_spill: crate::ZoneSpill::default(),
    }
}

/// An IPv4 tracker on node `here` whose first lists were empty.
pub fn tracker() -> Tracker {
    let mut tracker = Tracker::new(options(IpFamily::V4));
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListStarted(kind));
        tracker.apply(Event::ListDone(kind));
    }
    tracker
}

/// The event of a Service.
pub fn applied(service: Service) -> Event {
    Event::ServiceApplied(Arc::new(service))
}

/// The event of a slice.
pub fn applied_slice(slice: EndpointSlice) -> Event {
    Event::EndpointSliceApplied(slice)
}

/// An IPv4 proxy that has synced what `first` announces, with a second between syncs.
pub fn synced(backend: Box<dyn ProxyBackend>, first: Vec<Event>, now: Instant) -> Proxy {
    let second = Duration::from_secs(1);
    let intervals = Intervals { min: second, retry: 30 * second, max: None };
    let mut proxy = Proxy::new(options(IpFamily::V4), intervals, backend);
    let lists = [Kind::Service, Kind::EndpointSlice];
    let begin = lists.map(Event::ListStarted).into_iter();
    let end = lists.map(Event::ListDone);
    begin.chain(first).chain(end).for_each(|event| proxy.apply(event, now));
    sync(&mut proxy, now).result.expect("nothing refuses the first sync");
    proxy
}

/// The next sync, at the time when it is due.
///
/// # Panics
/// When none is due, or the backend waits for anything.
pub fn sync(proxy: &mut Proxy, now: Instant) -> Outcome {
    let now = now.max(proxy.due().expect("a sync is due"));
    let mut context = Context::from_waker(Waker::noop());
    match pin!(proxy.sync(|| now)).poll(&mut context) {
        Poll::Ready(outcome) => outcome.expect("there is something to sync"),
        Poll::Pending => panic!("a backend on a model waits for nothing"),
    }
}

/// Checks how deep each sync goes while a change is refused: none to five times, and then accepted.
///
/// `begin` makes a proxy with a change that is due, and lets what it writes into refuse that many times; `accepted` looks at the result.
pub fn check_repair_levels<M>(
    begin: impl Fn(usize, Instant) -> (Proxy, M),
    accepted: impl Fn(&M, usize),
) {
    let deepest = [RepairLevel::Table; 3].map(Some);
    let mut levels = vec![None, Some(RepairLevel::Full), Some(RepairLevel::Object)];
    levels.extend(deepest);
    for times in 0..levels.len() {
        let now = Instant::now();
        let (mut proxy, model) = begin(times, now);
        let mut seen = Vec::new();
        loop {
            let outcome = sync(&mut proxy, now);
            seen.push(outcome.repair);
            if outcome.result.is_ok() {
                break;
            }
        }
        assert_eq!(seen, levels[..=times], "refused {times} times");
        assert_eq!(proxy.due(), None, "nothing is left to do");
        accepted(&model, times);
    }
}
