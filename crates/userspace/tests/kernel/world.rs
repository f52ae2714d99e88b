//! A namespace with a backend, services and servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::executor::block_on;
use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::topology::choose;
use kube_proxy_core::{
    Changes, Conditions, Difference, Endpoint, FrontendQuery, IpFamily, LocalTrafficDetector,
    NodePortAddresses, ObjectName, Port, Protocol, ProxyBackend as _, Scope, Service, ServiceEntry,
    ServicePortName, Snapshot, SyncReport,
};
use kube_proxy_testkit::netns::Netns;
use kube_proxy_userspace::{Config, Observer, UserspaceBackend};
use kube_proxy_xtables::Variant;

/// Keeps a test from hanging.
pub(crate) const GUARD: Duration = Duration::from_mins(5);

pub(crate) struct World {
    pub(crate) netns: Netns,
    pub(crate) backend: UserspaceBackend,
    pub(crate) snapshot: Snapshot,
    pub(crate) observer: Observer,
}

/// What differs from test to test.
pub(crate) struct Options {
    pub(crate) family: IpFamily,
    pub(crate) range: Option<RangeInclusive<u16>>,
    pub(crate) splice: bool,
    pub(crate) udp_idle: Duration,
    pub(crate) rest: Duration,
    pub(crate) variant: Variant,
}

impl Default for Options {
    fn default() -> Self {
        let udp_idle = Duration::from_millis(200);
        Self {
            family: IpFamily::V4,
            range: None,
            splice: true,
            udp_idle,
            rest: Duration::ZERO,
            variant: Variant::Nft,
        }
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
             address add 192.0.2.254/24 dev silent\n\
             route add fd00:10:96::/112 dev lo\n\
             address add 2001:db8::fe/64 dev silent nodad\n\
             address add fd00:1::1/128 dev lo nodad\n\
             address add fd00:1::2/128 dev lo nodad")?;
        let observer = Observer::default();
        let config = Config {
            family: options.family,
            variant: options.variant,
            listen: match options.family {
                IpFamily::V4 => Ipv4Addr::UNSPECIFIED.into(),
                IpFamily::V6 => Ipv6Addr::UNSPECIFIED.into(),
            },
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
        Ok(Self { netns, backend, snapshot: Snapshot::new(options.family), observer })
    }

    /// Puts a service with these endpoints into the snapshot.
    pub(crate) fn set(&mut self, service: &Service, endpoints: &[SocketAddr]) {
        let endpoints: Arc<[Endpoint]> = endpoints.iter().map(endpoint).collect();
        for (name, port) in service.service_ports(self.snapshot.family) {
            let choice = choose(&port, &endpoints, None);
            let entry = ServiceEntry { port, endpoints: endpoints.clone(), choice };
            self.snapshot.services.insert(name, Arc::new(entry));
        }
    }

    pub(crate) fn sync(&mut self) -> anyhow::Result<SyncReport> {
        let Self { netns, backend, snapshot, .. } = self;
        Ok(netns.run(|| block_on(backend.sync(snapshot, Scope::Full)))?)
    }

    /// Syncs after these services changed.
    pub(crate) fn sync_only(
        &mut self,
        services: BTreeSet<ServicePortName>,
    ) -> anyhow::Result<SyncReport> {
        let Self { netns, backend, snapshot, .. } = self;
        let changes = Changes { services, ..Changes::default() };
        Ok(netns.run(|| block_on(backend.sync(snapshot, Scope::Partial(&changes))))?)
    }

    pub(crate) fn is_intact(&mut self) -> anyhow::Result<bool> {
        let Self { netns, backend, .. } = self;
        Ok(netns.run(|| block_on(backend.intact()))?)
    }

    /// What differs from what the last sync wrote, as lines.
    pub(crate) fn compare(&mut self) -> anyhow::Result<Vec<String>> {
        let Self { netns, backend, snapshot, .. } = self;
        let differences = netns.run(|| block_on(backend.compare(snapshot)))?;
        let line = |d: Difference| format!("{:?} {} {}", d.deviation, d.kind, d.name);
        Ok(differences.into_iter().map(line).collect())
    }

    /// What the node holds for a frontend, as lines.
    pub(crate) fn look_up(&mut self, query: &FrontendQuery) -> anyhow::Result<Vec<String>> {
        let Self { netns, backend, snapshot, .. } = self;
        let objects = netns.run(|| block_on(backend.look_up(snapshot, query)))?;
        Ok(objects.iter().map(ToString::to_string).collect())
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> anyhow::Result<TcpStream> {
        let stream = self.netns.run(|| TcpStream::connect_timeout(&to, GUARD));
        let stream = stream.with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(GUARD))?;
        stream.set_write_timeout(Some(GUARD))?;
        Ok(stream)
    }

    /// Connects where the connection may be reset at once; `None` if it was before this returned.
    pub(crate) fn connect_or_reset(&self, to: SocketAddr) -> anyhow::Result<Option<TcpStream>> {
        match self.connect(to) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.downcast_ref::<std::io::Error>() {
                Some(cause) if cause.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Starts a TCP server at `127.0.1.number:8080` that hands each connection to a thread of its own.
    pub(crate) fn serve(
        &self,
        number: u8,
        handle: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> anyhow::Result<SocketAddr> {
        let address = address_of(number, self.snapshot.family);
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

/// Where a server with this number is.
pub(crate) fn address_of(number: u8, family: IpFamily) -> SocketAddr {
    match family {
        IpFamily::V4 => address(number),
        IpFamily::V6 => SocketAddr::from(([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(number)], 8080)),
    }
}

/// The address of the node that is not loopback.
pub(crate) fn node_ip(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::from([192, 0, 2, 254]),
        IpFamily::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe]),
    }
}

/// Where a [`service`] is in a family.
pub(crate) fn service_address(number: u16, family: IpFamily) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    let ip = match family {
        IpFamily::V4 => IpAddr::from([10, 96, high, low]),
        IpFamily::V6 => IpAddr::from([0xfd00, 0x10, 0x96, 0, 0, 0, 0, number]),
    };
    SocketAddr::new(ip, 80)
}

fn endpoint(address: &SocketAddr) -> Endpoint {
    Endpoint {
        ip: address.ip(),
        port: NonZeroU16::new(address.port()).expect("not zero"),
        conditions: Conditions::default(),
        place: Place::ThisNode,
        node_hint: NodeHint::Absent,
        steering: None,
    }
}

/// A service with port 80, and where it is.
pub(crate) fn service(number: u16, protocol: Protocol) -> (Service, SocketAddr) {
    let to = service_address(number, IpFamily::V4);
    let mut service = Service::new(ObjectName::new("test", format!("s-{number}")));
    service.cluster_ips.v4 = Some(to.ip());
    service.cluster_ips.v6 = Some(service_address(number, IpFamily::V6).ip());
    let port = NonZeroU16::new(80).expect("not zero");
    service.ports = vec![Port { name: "".into(), protocol, port, node_port: None }];
    (service, to)
}
