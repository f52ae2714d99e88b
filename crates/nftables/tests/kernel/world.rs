//! A cluster of two nodes; the first has the backend under test, one for each family.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::{
    CheckWaker, Conditions, Difference, EndpointSlice, Event, IpFamily, LocalTrafficDetector,
    NodePortAddresses, ObjectName, PerFamily, Port, Protocol, ProxyBackend as _, Refused, Scope,
    Service, SliceEndpoint, SlicePort, SyncReport, Tracker, TrackerOptions, Traffic,
};
use kube_proxy_nftables::{Config, LastSync, NftablesBackend, WatchGroup};
use kube_proxy_testkit::cluster::{Cluster, plan};
use kube_proxy_testkit::pod::Pod;
use kube_proxy_testkit::probe::Probe;

/// Long enough for an answer that comes, short for one that must not.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// The port that pods listen on.
pub(crate) const TARGET: u16 = 8080;

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) pods: Vec<Pod>,
    sides: PerFamily<Option<Side>>,
    group: WatchGroup,
    /// What was applied since the last call.
    events: Vec<Event>,
}

struct Side {
    config: Config,
    tracker: Tracker,
    backend: NftablesBackend,
    synced: bool,
    /// How often the backend asked to be looked at.
    wakes: Arc<AtomicUsize>,
    /// Of the last sync.
    report: SyncReport,
}

/// The usual configuration: pods are known by the cluster's network, node ports are on the node's first address.
pub(crate) fn config(family: IpFamily) -> Config {
    Config {
        family,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Cidr(*plan::pod_net(0).get(family)),
        node_ports: NodePortAddresses::with_primary(family, &[], Some(*plan::node(0).get(family))),
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

/// One Service of the tests; its number gives it addresses of its own.
#[derive(Clone, Copy)]
pub(crate) struct Svc(pub(crate) u8);

impl Svc {
    pub(crate) fn name(self) -> ObjectName {
        ObjectName::new("test", format!("svc-{}", self.0))
    }

    pub(crate) fn cluster_ip(self, family: IpFamily) -> SocketAddr {
        self.of(plan::service_net().get(family).network(), 80)
    }

    pub(crate) fn external_ip(self, family: IpFamily) -> SocketAddr {
        self.of(plan::external_net().get(family).network(), 80)
    }

    pub(crate) fn vip(self, family: IpFamily) -> SocketAddr {
        self.of(plan::load_balancer_net().get(family).network(), 80)
    }

    pub(crate) fn node_port(self, family: IpFamily) -> SocketAddr {
        SocketAddr::new(*plan::node(0).get(family), self.node_port_number())
    }

    pub(crate) fn node_port_number(self) -> u16 {
        30_000 + u16::from(self.0)
    }

    fn of(self, net: IpAddr, port: u16) -> SocketAddr {
        let ip = match net {
            IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) + u32::from(self.0)).into()),
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) + u128::from(self.0)).into()),
        };
        SocketAddr::new(ip, port)
    }

    /// A Service of both families and both protocols, with a cluster IP only.
    pub(crate) fn cluster_ip_only(self) -> Service {
        let mut service = Service::new(self.name());
        for family in IpFamily::BOTH {
            *service.cluster_ips.get_mut(family) = Some(self.cluster_ip(family).ip());
        }
        service.ports = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]
            .map(|(name, protocol)| Port {
                name: name.into(),
                protocol,
                port: number(80),
                node_port: None,
            })
            .into();
        service
    }

    /// The same with every kind of frontend.
    pub(crate) fn everything(self) -> Service {
        let mut service = self.cluster_ip_only();
        service.external_ips = IpFamily::BOTH.map(|f| self.external_ip(f).ip()).into();
        service.load_balancer_vips = IpFamily::BOTH.map(|f| self.vip(f).ip()).into();
        for port in &mut service.ports {
            port.node_port = Some(number(self.node_port_number()));
        }
        service
    }

    /// All frontends that a client outside can reach.
    pub(crate) fn external(self, family: IpFamily) -> [SocketAddr; 3] {
        [self.external_ip(family), self.vip(family), self.node_port(family)]
    }
}

fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).expect("not zero")
}

impl World {
    /// Pods, each by the number of its node and its name, that answer on both protocols; and no Service yet.
    pub(crate) fn new(pods: &[(usize, &str)]) -> anyhow::Result<Self> {
        Self::with(pods, |_| {})
    }

    /// The same with a configuration of its own.
    pub(crate) fn with(
        pods: &[(usize, &str)],
        adjust: impl Fn(&mut Config),
    ) -> anyhow::Result<Self> {
        let cluster = Cluster::builder().nodes(2).build()?;
        let pods = cluster.add_pods(pods)?;
        for pod in &pods {
            pod.serve_tcp(TARGET)?;
            pod.serve_udp(TARGET)?;
        }
        let (sides, group) = (PerFamily::default(), WatchGroup::default());
        let mut world = Self { cluster, pods, sides, group, events: Vec::new() };
        for family in IpFamily::BOTH {
            let mut config = config(family);
            adjust(&mut config);
            let side = world.side(family, config)?;
            *world.sides.get_mut(family) = Some(side);
        }
        let cidrs = vec![plan::service_net().v4, plan::service_net().v6];
        world.apply(&Event::ServiceCidrApplied(ObjectName::new("", "kubernetes"), cidrs));
        Ok(world)
    }

    fn side(&self, family: IpFamily, config: Config) -> anyhow::Result<Side> {
        let mut tracker = Tracker::new(TrackerOptions {
            node_name: "node-0".into(),
            node_ip: Some(*plan::node(0).get(family)),
            ..kube_proxy_core::testing::options(family)
        });
        let backend = self.start_backend(&config)?;
        tracker.offer_algorithms(backend.algorithms());
        tracker.carry_annotations(backend.annotations());
        let (synced, wakes, report) = (false, Arc::default(), SyncReport::default());
        Ok(Side { config, tracker, backend, synced, wakes, report })
    }

    fn start_backend(&self, config: &Config) -> anyhow::Result<NftablesBackend> {
        let config = config.clone();
        let backend = self.cluster.node(0).netns().run(|| NftablesBackend::new(config))?;
        Ok(backend.in_group(&self.group))
    }

    /// Another backend on the first node, configured as the one of the family.
    pub(crate) fn backend(&self, family: IpFamily) -> anyhow::Result<NftablesBackend> {
        let side = self.sides.get(family).as_ref().context("set in new")?;
        self.start_backend(&side.config)
    }

    /// What was applied since the last call, for a caller with a tracker of its own.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        self.events.push(event.clone());
        for family in IpFamily::BOTH {
            self.side_mut(family).tracker.apply(event.clone());
        }
    }

    fn side_mut(&mut self, family: IpFamily) -> &mut Side {
        self.sides.get_mut(family).as_mut().expect("set in new")
    }

    pub(crate) fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.name() == name).expect("a pod of the test")
    }

    pub(crate) fn set(&mut self, service: Service) {
        self.apply(&Event::ServiceApplied(Arc::new(service)));
    }

    /// Gives a Service these ready endpoints and no others.
    pub(crate) fn endpoints(&mut self, svc: Svc, pods: &[&str]) {
        let ready: Vec<_> = pods.iter().map(|pod| (*pod, Conditions::default())).collect();
        self.endpoints_in(svc, &ready);
    }

    /// Gives a Service these endpoints and no others.
    pub(crate) fn endpoints_in(&mut self, svc: Svc, pods: &[(&str, Conditions)]) {
        let all: Vec<_> = pods.iter().map(|(pod, conditions)| (*pod, *conditions, 1)).collect();
        self.slices(svc, &all);
    }

    /// Gives a Service these ready endpoints with weights and no others.
    pub(crate) fn weighted(&mut self, svc: Svc, pods: &[(&str, u16)]) {
        let ready = Conditions::default();
        let all: Vec<_> = pods.iter().map(|(pod, weight)| (*pod, ready, *weight)).collect();
        self.slices(svc, &all);
    }

    fn slices(&mut self, svc: Svc, pods: &[(&str, Conditions, u16)]) {
        for family in IpFamily::BOTH {
            let endpoints = pods.iter().map(|(name, conditions, weight)| {
                let pod = self.pod(name);
                let node = Some(pod.node().name().into());
                let ready = SliceEndpoint::ready(pod.ip(family));
                SliceEndpoint { node, conditions: *conditions, weight: *weight, ..ready }
            });
            let slice = EndpointSlice {
                name: ObjectName::new("test", format!("svc-{}-{family}", svc.0)),
                service: svc.name().name,
                family,
                ports: [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]
                    .map(|(name, protocol)| SlicePort {
                        name: name.into(),
                        protocol,
                        port: number(TARGET),
                    })
                    .into(),
                endpoints: endpoints.collect(),
                trigger_time: None,
            };
            self.apply(&Event::EndpointSliceApplied(slice));
        }
    }

    /// Syncs both families: the first time everything, then what changed.
    pub(crate) fn sync(&mut self) -> anyhow::Result<PerFamily<LastSync>> {
        let mut last = PerFamily::default();
        for family in IpFamily::BOTH {
            let side = self.sides.get_mut(family).as_mut().expect("set in new");
            let changes = side.tracker.fold();
            let scope = if side.synced { Scope::Partial(&changes) } else { Scope::Full };
            // As on a node, where all threads are in its namespace: a sync may open further sockets.
            let synced = self.cluster.node(0).netns().run(|| side.sync(scope));
            *last.get_mut(family) = synced.with_context(|| format!("sync {family}"))?;
        }
        Ok(last)
    }

    /// Syncs everything, whatever was synced before.
    pub(crate) fn full_sync(&mut self) -> anyhow::Result<PerFamily<LastSync>> {
        for family in IpFamily::BOTH {
            self.side_mut(family).synced = false;
        }
        self.sync()
    }

    /// As if the process started again: nothing is known.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            let config = self.side_mut(family).config.clone();
            let backend = self.start_backend(&config)?;
            let side = self.side_mut(family);
            side.backend = backend;
            side.synced = false;
        }
        Ok(())
    }

    /// Restarts with another configuration.
    pub(crate) fn restart_with(&mut self, adjust: impl Fn(&mut Config)) -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            adjust(&mut self.side_mut(family).config);
        }
        self.restart()
    }

    /// From now on the backends listen to what others do.
    pub(crate) fn watch(&mut self) {
        for family in IpFamily::BOTH {
            let side = self.sides.get_mut(family).as_mut().expect("set in new");
            let counter = Arc::clone(&side.wakes);
            let waker = CheckWaker::new(move || {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            self.cluster.node(0).netns().run(|| side.backend.set_waker(waker));
        }
    }

    /// How often the backend of a family asked to be looked at.
    pub(crate) fn wakes(&self, family: IpFamily) -> usize {
        self.sides.get(family).as_ref().map_or(0, |side| side.wakes.load(Ordering::SeqCst))
    }

    /// How often it looked at the table.
    pub(crate) fn looks(&self, family: IpFamily) -> usize {
        self.sides.get(family).as_ref().map_or(0, |side| side.backend.looks())
    }

    /// What the last sync of a family reported.
    pub(crate) fn report(&self, family: IpFamily) -> SyncReport {
        let side = self.sides.get(family).as_ref();
        side.map(|side| side.report.clone()).unwrap_or_default()
    }

    pub(crate) fn intact(&mut self, family: IpFamily) -> anyhow::Result<bool> {
        Ok(futures::executor::block_on(self.side_mut(family).backend.intact())?)
    }

    /// What differs from what the last sync wrote, as lines.
    pub(crate) fn compare(&mut self, family: IpFamily) -> anyhow::Result<Vec<String>> {
        let side = self.side_mut(family);
        let compared = side.backend.compare(side.tracker.snapshot());
        let differences = futures::executor::block_on(compared)?;
        let line = |d: Difference| format!("{:?} {} {}", d.deviation, d.kind, d.name);
        Ok(differences.into_iter().map(line).collect())
    }

    pub(crate) fn traffic(&mut self, family: IpFamily) -> anyhow::Result<Vec<Traffic>> {
        Ok(futures::executor::block_on(self.side_mut(family).backend.traffic())?)
    }

    pub(crate) fn refused(&mut self, family: IpFamily) -> anyhow::Result<Vec<Refused>> {
        Ok(futures::executor::block_on(self.side_mut(family).backend.refused())?)
    }

    /// Removes the mode from the first node.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        self.cluster.node(0).netns().run(|| {
            for family in IpFamily::BOTH {
                kube_proxy_nftables::remove(family)?;
            }
            Ok(())
        })
    }

    /// Runs `nft` on the first node.
    pub(crate) fn nft(&self, arguments: &str) -> anyhow::Result<String> {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        self.cluster.node(0).netns().output("nft", &arguments)
    }

    /// The ruleset as `nft` lists it, without what traffic changes.
    pub(crate) fn ruleset(&self) -> anyhow::Result<String> {
        let text = self.nft("--stateless list ruleset")?;
        // Elements have no order of their own.
        let mut lines: Vec<_> =
            text.lines().map(|line| line.trim_matches([' ', '\t', ','])).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }

    /// Client outside, a pod on the first node, the first node itself.
    pub(crate) fn clients(&self, pod: &str) -> [(&'static str, Probe<'_>); 3] {
        [
            ("client", self.cluster.client().probe()),
            ("pod", self.pod(pod).probe()),
            ("node", self.cluster.node(0).probe()),
        ]
    }
}

impl Side {
    fn sync(&mut self, scope: Scope<'_>) -> anyhow::Result<LastSync> {
        let result = futures::executor::block_on(self.backend.sync(self.tracker.snapshot(), scope));
        self.synced = result.is_ok();
        self.report = result?;
        Ok(self.backend.last_sync())
    }
}

/// What a sync without changes sends: nothing.
pub(crate) fn ensure_nothing_sent(last: PerFamily<LastSync>) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let last = *last.get(family);
        ensure!(last == LastSync::default(), "{family}: {last:?}");
    }
    Ok(())
}

/// Both protocols must lead to one of these pods; the source address is the client's own exactly if `kept`.
pub(crate) fn ensure_reaches(
    who: &str,
    probe: Probe<'_>,
    address: SocketAddr,
    pods: &[&str],
    kept: bool,
) -> anyhow::Result<()> {
    for (protocol, outcome) in [("tcp", probe.tcp(address)), ("udp", probe.udp(address))] {
        let what = || format!("{protocol} from {who} to {address}");
        let answer = outcome.answer().with_context(what)?;
        ensure!(pods.contains(&answer.pod.as_str()), "{}: {answer:?}, not of {pods:?}", what());
        ensure!(answer.is_masqueraded() != kept, "{}: {answer:?}, kept {kept}", what());
    }
    Ok(())
}

pub(crate) fn ensure_refused(
    who: &str,
    probe: Probe<'_>,
    address: SocketAddr,
) -> anyhow::Result<()> {
    for (protocol, outcome) in [("tcp", probe.tcp(address)), ("udp", probe.udp(address))] {
        ensure!(outcome.is_refused(), "{protocol} from {who} to {address}: {outcome}");
    }
    Ok(())
}

/// Nothing comes back. The node itself is told so when it sends.
pub(crate) fn ensure_dropped(
    who: &str,
    probe: Probe<'_>,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let probe = probe.timeout(SILENCE);
    for (protocol, outcome) in [("tcp", probe.tcp(address)), ("udp", probe.udp(address))] {
        let lost = !outcome.is_answer() && !outcome.is_refused();
        ensure!(lost, "{protocol} from {who} to {address}: {outcome}");
    }
    Ok(())
}
