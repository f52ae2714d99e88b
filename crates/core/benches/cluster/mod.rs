//! A cluster of N Services with E endpoints each, as events.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use kube_proxy_core::{
    EndpointSlice, Event, IpFamily, Kind, ObjectName, PerFamily, Port, Protocol, Service,
    SliceEndpoint, SlicePort, Tracker, TrackerOptions,
};

const PORT: NonZeroU16 = NonZeroU16::new(80).expect("80 is not zero");

/// A tracker that has seen nothing.
pub(crate) fn tracker() -> Tracker {
    Tracker::new(TrackerOptions {
        family: IpFamily::V4,
        node_name: "node-0".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: kube_proxy_core::NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    })
}

/// A tracker that has everything, not yet folded.
pub(crate) fn filled(services: u32, endpoints: u32) -> Tracker {
    let mut tracker = tracker();
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListStarted(kind));
    }
    for number in 0..services {
        tracker.apply(service(number));
        tracker.apply(slice(number, endpoints, 0));
    }
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListDone(kind));
    }
    tracker
}

fn service(number: u32) -> Event {
    let cluster_ip = IpAddr::from(Ipv4Addr::from(0x0a60_0000 + number));
    Event::ServiceApplied(Arc::new(Service {
        cluster_ips: PerFamily { v4: Some(cluster_ip), v6: None },
        ports: vec![Port {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: PORT,
            node_port: None,
        }],
        ..Service::new(ObjectName::new("default", format!("service-{number}")))
    }))
}

/// The one slice of a Service; `moved` shifts its addresses.
pub(crate) fn slice(number: u32, endpoints: u32, moved: u32) -> Event {
    let endpoint = |n: u32| {
        let ip = Ipv4Addr::from(0x0a80_0000 + number * endpoints + n + moved);
        let node = Some(format!("node-{}", n % 50).into());
        SliceEndpoint { node, ..SliceEndpoint::ready(IpAddr::from(ip)) }
    };
    Event::EndpointSliceApplied(EndpointSlice {
        name: ObjectName::new("default", format!("service-{number}-abcde")),
        service: format!("service-{number}").into(),
        family: IpFamily::V4,
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: PORT }],
        endpoints: (0..endpoints).map(endpoint).collect(),
        trigger_time: None,
    })
}
