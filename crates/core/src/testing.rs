//! Short-hand for the tests of this crate.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use crate::tracker::TrackerOptions;
use crate::{
    Conditions, EndpointSlice, Event, IpFamily, Kind, ObjectName, Port, Protocol, Service,
    ServicePortName, SliceEndpoint, SlicePort, Tracker,
};

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("not zero")
}

pub(crate) fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').expect("namespace/name");
    ObjectName::new(namespace, name)
}

/// `web` of service `ns/name`, TCP.
pub(crate) fn port_name(service: &str, port: &str) -> ServicePortName {
    ServicePortName { service: name(service), port: port.into(), protocol: Protocol::Tcp }
}

/// A Service with one unnamed TCP port 80.
pub(crate) fn service(text: &str, cluster_ip: &str) -> Service {
    let mut service = Service::new(name(text));
    let cluster_ip = ip(cluster_ip);
    *service.cluster_ips.get_mut(IpFamily::of(&cluster_ip)) = Some(cluster_ip);
    service.ports =
        vec![Port { name: "".into(), protocol: Protocol::Tcp, port: port(80), node_port: None }];
    service
}

/// A slice with one unnamed TCP port 8080.
pub(crate) fn slice(text: &str, service: &str, endpoints: Vec<SliceEndpoint>) -> EndpointSlice {
    EndpointSlice {
        name: name(text),
        service: service.into(),
        family: endpoints.first().map_or(IpFamily::V4, |e| IpFamily::of(&e.address)),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: port(8080) }],
        endpoints,
        trigger_time: None,
    }
}

pub(crate) fn ready(address: &str) -> SliceEndpoint {
    SliceEndpoint::ready(ip(address))
}

pub(crate) fn terminating(address: &str) -> SliceEndpoint {
    let conditions = Conditions { ready: false, serving: true, terminating: true };
    SliceEndpoint { conditions, ..ready(address) }
}

pub(crate) fn on_node(node: &str, endpoint: SliceEndpoint) -> SliceEndpoint {
    SliceEndpoint { node: Some(node.into()), ..endpoint }
}

pub(crate) fn options(family: IpFamily) -> TrackerOptions {
    TrackerOptions { family, node_name: "here".into(), node_ip: None, allow_external_ips: true }
}

/// An IPv4 tracker on node `here` whose first lists were empty.
pub(crate) fn tracker() -> Tracker {
    let mut tracker = Tracker::new(options(IpFamily::V4));
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListStarted(kind));
        tracker.apply(Event::ListDone(kind));
    }
    tracker
}

pub(crate) fn applied(service: Service) -> Event {
    Event::ServiceApplied(Arc::new(service))
}
