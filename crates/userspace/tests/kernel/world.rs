//! A namespace with a backend, services and servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::executor::block_on;
use kube_proxy_core::endpoint::NodeHint;
use kube_proxy_core::topology::choose;
use kube_proxy_core::{
    Conditions, Endpoint, IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectName, Port,
    Protocol, ProxyBackend as _, Scope, Service, ServiceEntry, Snapshot, SyncReport,
};
use kube_proxy_iptables::Variant;
use kube_proxy_testkit::netns::Netns;
use kube_proxy_userspace::{Config, Observer, UserspaceBackend};

/// Keeps a test from hanging.
pub(crate) const GUARD: Duration = Duration::from_mins(1);

pub(crate) struct World {
    pub(crate) netns: Netns,
    pub(crate) backend: UserspaceBackend,
    pub(crate) snapshot: Snapshot,
    pub(crate) observer: Observer,
}

/// What differs from test to test.
pub(crate) struct Options {
    pub(crate) range: Option<RangeInclusive<u16>>,
    pub(crate) splice: bool,
    pub(crate) udp_idle: Duration,
    pub(crate) rest: Duration,
    pub(crate) variant: Variant,
}

impl Default for Options {
    fn default() -> Self {
        let udp_idle = Duration::from_millis(200);
        Self { range: None, splice: true, udp_idle, rest: Duration::ZERO, variant: Variant::Nft }
    }
}

impl World {
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("node-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let netns = Netns::create(&name)?;
        // Addresses of services, and one network whose neighbours never answer.
        netns.ip("route add 10.96.0.0/16 dev lo\n\
             link add silent type veth peer name mute\n\
             link set mute up\n\
             link set silent up\n\
             neighbour add 192.0.2.1 lladdr 02:00:00:00:00:01 dev silent\n\
             address add 192.0.2.254/24 dev silent")?;
        let observer = Observer::default();
        let config = Config {
            family: IpFamily::V4,
            variant: options.variant,
            listen: Ipv4Addr::UNSPECIFIED.into(),
            port_range: options.range,
            udp_idle: options.udp_idle,
            local_traffic: LocalTrafficDetector::None,
            node_ports: NodePortAddresses::All,
            localhost_node_ports: true,
            rest: options.rest,
            splice: options.splice,
            observer: observer.clone(),
        };
        let backend = netns.run(|| UserspaceBackend::new(config))?;
        Ok(Self { netns, backend, snapshot: Snapshot::new(IpFamily::V4), observer })
    }

    /// Puts a service with these endpoints into the snapshot.
    pub(crate) fn set(&mut self, service: &Service, endpoints: &[SocketAddr]) {
        let endpoints: Arc<[Endpoint]> = endpoints.iter().map(endpoint).collect();
        for (name, port) in service.service_ports(IpFamily::V4) {
            let choice = choose(&port, &endpoints, None);
            let entry = ServiceEntry { port, endpoints: endpoints.clone(), choice };
            self.snapshot.services.insert(name, entry);
        }
    }

    pub(crate) fn sync(&mut self) -> anyhow::Result<SyncReport> {
        let Self { netns, backend, snapshot, .. } = self;
        Ok(netns.run(|| block_on(backend.sync(snapshot, Scope::Full)))?)
    }

    pub(crate) fn is_intact(&mut self) -> anyhow::Result<bool> {
        let Self { netns, backend, .. } = self;
        Ok(netns.run(|| block_on(backend.intact()))?)
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> anyhow::Result<TcpStream> {
        let stream = self.netns.run(|| TcpStream::connect_timeout(&to, GUARD));
        let stream = stream.with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(GUARD))?;
        stream.set_write_timeout(Some(GUARD))?;
        Ok(stream)
    }

    /// Starts a TCP server at `127.0.1.number:8080` that hands each connection to a thread of its own.
    pub(crate) fn serve(
        &self,
        number: u8,
        handle: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> anyhow::Result<SocketAddr> {
        let address = address(number);
        let listener = self.netns.run(|| TcpListener::bind(address))?;
        let handle = Arc::new(handle);
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let handle = handle.clone();
                std::thread::spawn(move || handle(stream));
            }
        });
        Ok(address)
    }

    /// Connections open at all services together.
    pub(crate) fn open(&self) -> u64 {
        self.observer.activity().iter().map(|activity| activity.open).sum()
    }

    /// Failed attempts to reach endpoints, by the name of the service.
    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        let activity = self.observer.activity().into_iter();
        activity.map(|activity| (activity.service.to_string(), activity.failures)).collect()
    }
}

pub(crate) fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 1, number], 8080))
}

fn endpoint(address: &SocketAddr) -> Endpoint {
    Endpoint {
        ip: address.ip(),
        port: NonZeroU16::new(address.port()).expect("not zero"),
        conditions: Conditions::default(),
        local: true,
        node_known: true,
        node_hint: NodeHint::Absent,
        zone_hints: None,
    }
}

/// A service with port 80, and where it is.
pub(crate) fn service(number: u16, protocol: Protocol) -> (Service, SocketAddr) {
    let [high, low] = number.to_be_bytes();
    let ip = IpAddr::from([10, 96, high, low]);
    let mut service = Service::new(ObjectName::new("test", format!("s-{number}")));
    service.cluster_ips.v4 = Some(ip);
    let port = NonZeroU16::new(80).expect("not zero");
    service.ports = vec![Port { name: "".into(), protocol, port, node_port: None }];
    (service, SocketAddr::new(ip, 80))
}
