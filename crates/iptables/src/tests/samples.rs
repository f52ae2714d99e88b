//! Short ways to say which services there are. Shared with the tests on the kernel.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::{
    Changes, Conditions, Endpoint, EndpointSlice, Event, IpFamily, ObjectName, Port, Protocol,
    Service, SliceEndpoint, SlicePort, Snapshot, Steering, Tracker, TrafficPolicy,
};

/// A Service with one port and its endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) service: Service,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A Service `default/NAME`, port 80 named `http`, at this cluster IP.
pub(crate) fn service(name: &str, cluster_ip: &str) -> Sample {
    let mut service = Service::new(ObjectName::new("default", name));
    let ip = cluster_ip.parse().unwrap();
    *service.cluster_ips.get_mut(IpFamily::of(&ip)) = Some(ip);
    service.ports.push(Port {
        name: Arc::from("http"),
        protocol: Protocol::Tcp,
        port: port(80),
        node_port: None,
    });
    Sample { service, endpoints: Vec::new() }
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn endpoint(address: &str, local: bool) -> Endpoint {
    let address: std::net::SocketAddr = address.parse().unwrap();
    Endpoint {
        ip: address.ip(),
        port: port(address.port()),
        conditions: Conditions::default(),
        place: if local { Place::ThisNode } else { Place::OtherNode },
        node_hint: NodeHint::Absent,
        steering: None,
    }
}

impl Sample {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Service)) -> Self {
        change(&mut self.service);
        self
    }

    pub(crate) fn remote(mut self, address: &str) -> Self {
        self.endpoints.push(endpoint(address, false));
        self
    }

    pub(crate) fn local(mut self, address: &str) -> Self {
        self.endpoints.push(endpoint(address, true));
        self
    }

    /// Of which the slice does not say on which node it is.
    pub(crate) fn somewhere(mut self, address: &str) -> Self {
        self.endpoints.push(Endpoint { place: Place::Unknown, ..endpoint(address, false) });
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        let last = self.endpoints.last_mut().unwrap();
        last.conditions = Conditions { ready: false, serving: true, terminating: true };
        self
    }

    pub(crate) fn weight(mut self, weight: u16) -> Self {
        let last = self.endpoints.last_mut().unwrap();
        last.steering = Some(Arc::new(Steering { weight, zone_hints: Vec::new(), step: None }));
        self
    }

    pub(crate) fn protocol(mut self, protocol: Protocol) -> Self {
        self.service.ports[0].protocol = protocol;
        self
    }

    pub(crate) fn node_port(mut self, number: u16) -> Self {
        self.service.ports[0].node_port = Some(port(number));
        self
    }

    pub(crate) fn external_ip(mut self, ip: &str) -> Self {
        self.service.external_ips.push(ip.parse().unwrap());
        self
    }

    pub(crate) fn vip(mut self, ip: &str) -> Self {
        self.service.load_balancer_vips.push(ip.parse().unwrap());
        self
    }

    pub(crate) fn range(self, net: &str) -> Self {
        self.with(|s| s.policy.load_balancer_source_ranges.push(net.parse().unwrap()))
    }

    pub(crate) fn internal_local(self) -> Self {
        self.with(|s| s.policy.internal_traffic_policy = TrafficPolicy::Local)
    }

    pub(crate) fn external_local(self) -> Self {
        self.with(|s| s.policy.external_traffic_policy = TrafficPolicy::Local)
    }

    pub(crate) fn affinity(self, seconds: u64) -> Self {
        self.with(|s| s.policy.session_affinity = Some(Duration::from_secs(seconds)))
    }

    pub(crate) fn health_check(self, number: u16) -> Self {
        self.with(|s| s.policy.health_check_node_port = Some(port(number)))
    }
}

/// The snapshot of these services, as a tracker makes it: each frontend has one owner. With slow start the last endpoint is new.
pub(crate) fn snapshot(family: IpFamily, samples: &[Sample]) -> Snapshot {
    let mut tracker = Tracker::new(kube_proxy_core::testing::options(family));
    for sample in samples {
        for (number, endpoint) in sample.endpoints.iter().enumerate() {
            if number + 1 == sample.endpoints.len() && sample.service.policy.slow_start.is_some() {
                tracker.apply(Event::ServiceApplied(Arc::new(sample.service.clone())));
                tracker.tell_time(Instant::now());
                tracker.fold();
            }
            tracker.apply(Event::EndpointSliceApplied(slice(&sample.service, number, endpoint)));
        }
        tracker.apply(Event::ServiceApplied(Arc::new(sample.service.clone())));
    }
    tracker.fold();
    tracker.snapshot().clone()
}

/// A slice with this endpoint alone, as each may have a port of its own.
fn slice(service: &Service, number: usize, endpoint: &Endpoint) -> EndpointSlice {
    let port = |served: &Port| SlicePort {
        name: served.name.clone(),
        protocol: served.protocol,
        port: endpoint.port,
    };
    let node = match endpoint.place {
        Place::Unknown => None,
        Place::OtherNode => Some("there".into()),
        Place::ThisNode => Some("here".into()),
    };
    let name = &service.name;
    EndpointSlice {
        name: ObjectName::new(&*name.namespace, format!("{}-{number}", name.name)),
        service: name.name.clone(),
        family: IpFamily::of(&endpoint.ip),
        ports: service.ports.iter().map(port).collect(),
        endpoints: vec![SliceEndpoint {
            conditions: endpoint.conditions,
            node,
            weight: endpoint.weight(),
            ..SliceEndpoint::ready(endpoint.ip)
        }],
        trigger_time: None,
    }
}

/// Which service ports differ.
pub(crate) fn changes(before: &Snapshot, after: &Snapshot) -> Changes {
    let mut changes = Changes::default();
    for name in before.services.keys().chain(after.services.keys()) {
        if before.services.get(name) != after.services.get(name) {
            changes.services.insert(name.clone());
        }
    }
    changes.node_ip = before.node_ip != after.node_ip;
    changes
}
