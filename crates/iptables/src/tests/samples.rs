//! Short ways to say which services there are. Shared with the tests on the kernel.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use kube_proxy_core::endpoint::NodeHint;
use kube_proxy_core::{
    Changes, Conditions, Endpoint, IpFamily, ObjectName, Port, Protocol, Service, ServiceEntry,
    Snapshot, TrafficPolicy, topology,
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
        local,
        node_known: true,
        node_hint: NodeHint::Absent,
        zone_hints: None,
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
        self.endpoints.push(Endpoint { node_known: false, ..endpoint(address, false) });
        self
    }

    pub(crate) fn terminating(mut self) -> Self {
        let last = self.endpoints.last_mut().unwrap();
        last.conditions = Conditions { ready: false, serving: true, terminating: true };
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
        self.with(|s| s.load_balancer_source_ranges.push(net.parse().unwrap()))
    }

    pub(crate) fn internal_local(self) -> Self {
        self.with(|s| s.internal_traffic_policy = TrafficPolicy::Local)
    }

    pub(crate) fn external_local(self) -> Self {
        self.with(|s| s.external_traffic_policy = TrafficPolicy::Local)
    }

    pub(crate) fn affinity(self, seconds: u64) -> Self {
        self.with(|s| s.session_affinity = Some(Duration::from_secs(seconds)))
    }

    pub(crate) fn health_check(self, number: u16) -> Self {
        self.with(|s| s.health_check_node_port = Some(port(number)))
    }
}

/// The snapshot of these services.
pub(crate) fn snapshot(family: IpFamily, samples: &[Sample]) -> Snapshot {
    let mut snapshot = Snapshot::new(family);
    for sample in samples {
        let mut endpoints = sample.endpoints.clone();
        endpoints.sort_by_key(|e| (e.ip, e.port));
        let endpoints: Arc<[Endpoint]> = endpoints.into();
        for (name, port) in sample.service.service_ports(family) {
            let choice = topology::choose(&port, &endpoints, None);
            snapshot.endpoint_count += endpoints.len();
            let entry = ServiceEntry { port, endpoints: endpoints.clone(), choice };
            snapshot.services.insert(name, entry);
        }
    }
    snapshot
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
