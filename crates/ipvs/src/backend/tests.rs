use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use futures::executor::block_on;
use kube_proxy_core::LocalTrafficDetector;
use kube_proxy_core::testing;
use kube_proxy_core::{
    EndpointSlice, Event, IpFamily, NoLocalEndpoints, NodePortAddresses, ObjectName, Protocol,
    Removed, Service, SliceEndpoint, Tracker, TrafficPolicy,
};
use kube_proxy_netlink::ipvs::Server;
use proptest::prelude::*;

use super::*;
use crate::cleanup::Connections;
use crate::connections::Connection;
use crate::fake::{Fake, FakeState, Sent};
use crate::layout::SETS;
use crate::sync::MAX_ENTRIES;

mod compare;
mod levels;
mod look_up;
mod marked;
mod rebuilds;
mod unfit;
mod weights;

fn config() -> Config {
    Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        mark_mask: 0x1f7f,
        local_traffic: LocalTrafficDetector::None,
        node_ports: NodePortAddresses::All,
        scheduler: "rr".to_owned(),
        exclude_cidrs: vec!["10.96.9.0/24".parse().unwrap()],
        strict_arp: false,
        tcp_timeout: None,
        tcp_fin_timeout: None,
        udp_timeout: None,
        local_fallback: false,
        drain_timeout: Duration::from_secs(100),
        variant: Variant::Auto,
    }
}

pub(crate) struct World {
    pub(crate) tracker: Tracker,
    pub(crate) backend: IpvsBackend,
    pub(crate) fake: Fake,
}

impl World {
    pub(crate) fn new() -> Self {
        let tracker = testing::tracker();
        let fake = Fake::default();
        fake.lock().0.node = vec!["172.18.0.2".parse().unwrap(), "10.244.0.1".parse().unwrap()];
        let backend = IpvsBackend::with_kernel(config(), Box::new(fake.clone()), true);
        Self { tracker, backend, fake }
    }

    pub(crate) fn full(&mut self) {
        self.tracker.fold();
        block_on(self.backend.sync(self.tracker.snapshot(), Scope::Full)).unwrap();
    }

    fn partial(&mut self) {
        let changes = self.tracker.fold();
        block_on(self.backend.sync(self.tracker.snapshot(), Scope::Partial(&changes))).unwrap();
    }

    pub(crate) fn service(&mut self, service: Service) {
        self.tracker.apply(Event::ServiceApplied(Arc::new(service)));
    }

    fn endpoints(&mut self, number: u16, protocol: Protocol, endpoints: &[(u8, bool)]) {
        self.weighted(number, protocol, endpoints, &[1]);
    }

    /// Endpoints with these weights in turn.
    fn weighted(&mut self, number: u16, protocol: Protocol, all: &[(u8, bool)], weights: &[u16]) {
        let mut slice = slice(number, protocol, all);
        for (endpoint, weight) in slice.endpoints.iter_mut().zip(weights.iter().cycle()) {
            endpoint.weight = *weight;
        }
        self.tracker.apply(Event::EndpointSliceApplied(slice));
    }
}

pub(crate) fn address(kind: u8, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, kind, high, low])
}

pub(crate) fn service(number: u16, protocol: Protocol) -> Service {
    let ip = address(96, number).to_string();
    let mut service = testing::service(&format!("ns/s{number}"), &ip);
    service.ports[0].protocol = protocol;
    service
}

/// Endpoints by number, and whether each is on this node.
fn slice(number: u16, protocol: Protocol, endpoints: &[(u8, bool)]) -> EndpointSlice {
    let endpoint = |(host, local): &(u8, bool)| SliceEndpoint {
        node: Some(if *local { "here" } else { "there" }.into()),
        ..SliceEndpoint::ready(IpAddr::from([10, 244, u8::from(!local), *host]))
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    let name = format!("s{number}");
    let mut slice = testing::slice(&format!("ns/{name}-x"), &name, endpoints);
    slice.ports[0].protocol = protocol;
    slice
}

/// The slice of a Service with one endpoint, on another node.
pub(crate) fn slice_at(number: u16, ip: IpAddr) -> Event {
    let mut slice = slice(number, Protocol::Tcp, &[]);
    let endpoint = SliceEndpoint { node: Some("there".into()), ..SliceEndpoint::ready(ip) };
    slice.endpoints = [endpoint].into_iter().collect();
    Event::EndpointSliceApplied(slice)
}

/// What the model holds, without destinations that drain.
fn settled(fake: &Fake) -> FakeState {
    let mut held = fake.held();
    for (_, destinations) in held.servers.values_mut() {
        destinations.retain(|_, (weight, _)| *weight > 0);
    }
    held.sets.values_mut().for_each(|(_, max, _)| *max = 0);
    held
}

fn many(count: u16, endpoints: u8) -> World {
    let mut world = World::new();
    for number in 0..count {
        world.service(service(number, Protocol::Tcp));
        let all: Vec<_> = (0..endpoints).map(|host| (host, host == 0)).collect();
        world.endpoints(number, Protocol::Tcp, &all);
    }
    world
}

#[test]
fn the_first_sync_sends_each_object_once_and_the_next_nothing() {
    let mut world = many(10_000, 10);
    world.full();
    let sent = world.fake.take_sent();
    assert_eq!(sent.changes, 10_000 + 100_000, "virtual servers and destinations");
    assert_eq!(sent.addresses, 10_000);
    // The cluster IPs with port, the addresses, and one local endpoint.
    assert_eq!(sent.entries, 10_000 + 10_000 + 1);
    assert_eq!(sent.lists, 3, "nothing is there that has to be listed one by one");
    world.full();
    let Sent { changes, entries, addresses, .. } = world.fake.take_sent();
    assert_eq!((changes, entries, addresses), (0, 0, 0));
}

/// Rules that mark come before what balances, so that nothing is balanced unmarked; but those of the iptables mode, which are in the same
/// chains, are replaced when all is there that takes over.
#[test]
fn rules_come_first_unless_the_iptables_mode_serves() {
    let written = |iptables_mode| {
        let mut world = many(3, 2);
        world.fake.lock().0.iptables_mode = iptables_mode;
        world.full();
        // What is left of that mode another part of the program removes.
        world.fake.lock().0.iptables_mode = false;
        (world.fake.take_sent().servers_before_nat, world.fake.held())
    };
    let (fresh, after_fresh) = written(false);
    let (takeover, after_takeover) = written(true);
    assert_eq!((fresh, takeover), (0, 3));
    assert_eq!(after_takeover, after_fresh, "the same in the end");
}

#[test]
fn one_changed_endpoint_costs_the_same_at_any_size() {
    let cost = |services, endpoints: u8| {
        let mut world = many(services, endpoints);
        world.full();
        world.fake.take_sent();
        let mut all: Vec<_> = (1..endpoints).map(|host| (host, false)).collect();
        all.push((200, false));
        world.endpoints(3, Protocol::Tcp, &all);
        world.partial();
        world.fake.take_sent()
    };
    let small = cost(5, 3);
    // One destination less, which drains, and one more; one hairpin entry stays for the other services.
    assert_eq!(small, Sent { changes: 2, ..Sent::default() });
    assert_eq!(cost(10_000, 10), small);
}

#[test]
fn a_destination_drains_until_its_connections_end() {
    let mut world = many(1, 2);
    world.full();
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(address(96, 0), 80) };
    let gone: SocketAddr = "10.244.1.1:8080".parse().unwrap();
    let weight = |world: &World| world.fake.held().servers[&key].1.get(&gone).map(|d| d.0);
    world.fake.lock().0.servers.get_mut(&key).unwrap().1.get_mut(&gone).unwrap().1 = 1;
    world.endpoints(0, Protocol::Tcp, &[(0, true)]);
    world.partial();
    assert_eq!(weight(&world), Some(0));
    world.backend.look_at_drains().unwrap();
    assert_eq!(weight(&world), Some(0), "it has a connection");
    assert!(block_on(world.backend.intact()).unwrap(), "what drains is no damage");
    world.endpoints(0, Protocol::Tcp, &[(0, true), (1, false)]);
    world.partial();
    assert_eq!(weight(&world), Some(1), "live again");
    world.endpoints(0, Protocol::Tcp, &[(0, true)]);
    world.partial();
    // A full sync continues where it was.
    world.full();
    assert_eq!(weight(&world), Some(0));
    world.fake.lock().0.servers.get_mut(&key).unwrap().1.get_mut(&gone).unwrap().1 = 0;
    world.backend.look_at_drains().unwrap();
    assert_eq!(weight(&world), None);
    assert_eq!(world.backend.drains.due(), None);
}

#[test]
fn a_udp_destination_leaves_at_once() {
    let mut world = World::new();
    world.service(service(1, Protocol::Udp));
    world.endpoints(1, Protocol::Udp, &[(1, true), (2, false)]);
    world.full();
    world.endpoints(1, Protocol::Udp, &[(1, true)]);
    world.partial();
    let key = ServerKey::Frontend { protocol: 17, address: SocketAddr::new(address(96, 1), 80) };
    assert_eq!(world.fake.held().servers[&key].1.len(), 1);
}

/// Two ports on one VIP: the address stays while either is served, and entries follow what each Service says.
#[test]
fn frontends_without_local_endpoints() {
    let mut world = World::new();
    let vip: IpAddr = "203.0.113.1".parse().unwrap();
    let service = |number: u16, port: u16, policy, choice| {
        let mut service = service(number, Protocol::Tcp);
        service.policy.external_traffic_policy = policy;
        service.policy.no_local_endpoints = choice;
        service.load_balancer_vips = vec![vip];
        service.ports[0].port = NonZeroU16::new(port).unwrap();
        service.ports[0].node_port = NonZeroU16::new(30_000 + number);
        service
    };
    let key =
        |ip: IpAddr, port| ServerKey::Frontend { protocol: 6, address: SocketAddr::new(ip, port) };
    let node: IpAddr = "172.18.0.2".parse().unwrap();
    world.endpoints(1, Protocol::Tcp, &[(1, false)]);
    world.endpoints(2, Protocol::Tcp, &[(2, false)]);
    let mut check = |choice, other, is_served: bool, has_address: bool, barred: [usize; 2]| {
        world.service(service(1, 80, TrafficPolicy::Local, Some(choice)));
        if other {
            world.service(service(2, 81, TrafficPolicy::Cluster, None));
        } else {
            world.tracker.apply(Event::ServiceDeleted(ObjectName::new("ns", "s2")));
        }
        world.partial();
        let partial = world.fake.held();
        world.full();
        let held = world.fake.held();
        assert_eq!(partial.servers, held.servers, "{choice:?}");
        assert_eq!(partial.device, held.device, "{choice:?}");
        let servers = [key(vip, 80), key(node, 30_001)].map(|key| held.servers.contains_key(&key));
        assert_eq!(servers, [is_served; 2], "{choice:?}");
        assert_eq!(held.device.unwrap().contains(&vip), has_address, "{choice:?}");
        let entries =
            ["KUBE-DROP-OUTSIDE", "KUBE-REJECT-OUTSIDE"].map(|set| held.sets[set].2.len());
        assert_eq!(entries, barred, "{choice:?}");
    };
    // The VIP and the node port on each address of the node.
    check(NoLocalEndpoints::Drop, true, true, true, [3, 0]);
    check(NoLocalEndpoints::Reject, true, true, true, [0, 3]);
    check(NoLocalEndpoints::Passthrough, true, false, true, [0, 0]);
    check(NoLocalEndpoints::Passthrough, false, false, false, [0, 0]);
    check(NoLocalEndpoints::Reject, false, true, true, [0, 3]);
}

#[test]
fn what_others_have_is_left_alone() {
    let mut world = many(2, 1);
    world.full();
    let foreign = |text: &str| ServerKey::Frontend { protocol: 6, address: text.parse().unwrap() };
    let (excluded, elsewhere, stale) =
        (foreign("10.96.9.1:80"), foreign("172.18.0.2:7777"), foreign("10.96.0.1:81"));
    let rr = Server { scheduler: "rr".to_owned(), flags: 0, timeout: 0 };
    {
        let held = &mut world.fake.lock().0;
        held.device.as_mut().unwrap().insert("10.96.9.1".parse().unwrap());
        for key in [excluded, elsewhere, stale] {
            held.servers.insert(key, (rr.clone(), BTreeMap::new()));
        }
    }
    world.full();
    let held = world.fake.held();
    assert!(held.servers.contains_key(&excluded) && held.servers.contains_key(&elsewhere));
    assert!(!held.servers.contains_key(&stale), "its address is on our interface");
    assert!(held.device.unwrap().contains(&"10.96.9.1".parse().unwrap()));
    leave(&mut world, Connections::Cut);
    let held = world.fake.held();
    assert_eq!(held.servers.keys().copied().collect::<Vec<_>>(), [excluded, elsewhere]);
    assert_eq!(held.device.unwrap().len(), 1);
    assert!(held.sets.is_empty());
}

/// Removes all, as another mode does that has begun to serve.
fn leave(world: &mut World, connections: Connections) -> Removed {
    {
        let held = &mut world.fake.lock().0;
        held.rules.clear();
        held.mark_rules.clear();
        held.mark_hooks.clear();
    }
    let exclude = &world.backend.config.exclude_cidrs;
    crate::cleanup::cleanup(IpFamily::V4, exclude, connections, &mut *world.backend.kernel).unwrap()
}

#[test]
fn what_connections_need_stays_until_they_end() {
    let mut world = many(3, 2);
    world.full();
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(address(96, 1), 80) };
    let weights = |held: &FakeState| -> Vec<u32> {
        held.servers[&key].1.values().map(|(weight, _)| *weight).collect()
    };
    assert_eq!(weights(&world.fake.held()), [1, 1]);
    let connection = Connection { server: key, ended: false };
    world.fake.lock().0.connections = vec![connection; 2];

    assert_eq!(leave(&mut world, Connections::Keep), Removed::Waiting { connections: 2 });
    let held = world.fake.held();
    assert_eq!(held.servers.keys().copied().collect::<Vec<_>>(), [key]);
    assert_eq!(weights(&held), [0, 0]);
    assert_eq!(held.device.clone().unwrap(), [address(96, 1)].into());
    let kept: Vec<_> = held.sets.iter().filter(|(_, (.., entries))| !entries.is_empty()).collect();
    assert_eq!(
        kept.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["KUBE-CLUSTER-IP", "KUBE-IPVS-IPS"]
    );
    assert!(kept.iter().all(|(_, (.., entries))| entries.len() == 1), "{kept:?}");

    world.fake.take_sent();
    assert_eq!(leave(&mut world, Connections::Keep), Removed::Waiting { connections: 2 });
    assert_eq!(world.fake.held(), held, "another look changes nothing");
    assert_eq!(Sent { lists: 0, ..world.fake.take_sent() }, Sent::default());

    world.fake.lock().0.connections = vec![Connection { ended: true, ..connection }];
    assert_eq!(leave(&mut world, Connections::Keep), Removed::All);
    let held = world.fake.held();
    assert!(held.servers.is_empty() && held.sets.is_empty() && held.device.is_none());
    assert_eq!(leave(&mut world, Connections::Keep), Removed::Nothing);
}

#[test]
fn connections_are_cut_when_asked_for() {
    let mut world = many(3, 2);
    world.full();
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(address(96, 1), 80) };
    world.fake.lock().0.connections = vec![Connection { server: key, ended: false }];
    assert!(matches!(leave(&mut world, Connections::Keep), Removed::Waiting { .. }));
    assert_eq!(leave(&mut world, Connections::Cut), Removed::All);
    let held = world.fake.held();
    assert!(held.servers.is_empty() && held.sets.is_empty() && held.device.is_none());
}

#[test]
fn a_start_takes_back_what_connections_had_kept() {
    let mut world = many(3, 2);
    world.full();
    let before = settled(&world.fake);
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(address(96, 1), 80) };
    world.fake.lock().0.connections = vec![Connection { server: key, ended: false }];
    assert_eq!(leave(&mut world, Connections::Keep), Removed::Waiting { connections: 1 });
    world.fake.lock().0.connections.clear();
    world.full();
    assert_eq!(settled(&world.fake), before);
}

#[test]
fn damage_is_noticed() {
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(address(96, 0), 80) };
    let damages: [fn(&mut FakeState, &ServerKey); 6] = [
        |held, key| drop(held.servers.remove(key)),
        |held, key| held.servers.get_mut(key).unwrap().1.clear(),
        |held, _| held.device = None,
        |held, _| held.device.as_mut().unwrap().clear(),
        |held, _| held.sets.get_mut("KUBE-CLUSTER-IP").unwrap().2.clear(),
        |held, _| held.rules.clear(),
    ];
    for damage in damages {
        let mut world = many(3, 2);
        world.full();
        assert!(block_on(world.backend.intact()).unwrap());
        let whole = settled(&world.fake);
        damage(&mut world.fake.lock().0, &key);
        assert!(!block_on(world.backend.intact()).unwrap());
        world.full();
        assert_eq!(settled(&world.fake), whole);
    }
}

#[test]
fn sets_grow_with_what_they_hold() {
    let mut world = many(3, 1);
    world.full();
    world.fake.lock().0.sets.get_mut("KUBE-CLUSTER-IP").unwrap().1 = 3;
    for number in 3..10 {
        world.service(service(number, Protocol::Tcp));
    }
    world.tracker.fold();
    let snapshot = world.tracker.snapshot();
    block_on(world.backend.sync(snapshot, Scope::Full)).unwrap();
    let held = world.fake.held();
    let (_, max, entries) = &held.sets["KUBE-CLUSTER-IP"];
    assert_eq!((*max, entries.len()), (MAX_ENTRIES, 10));
    let fixed = SETS.iter().filter(|(set, ..)| set.is_fixed()).count();
    assert_eq!(held.sets.len(), fixed, "no set is left over");
}

#[test]
fn traffic_is_told_by_service_port_and_endpoint() {
    let mut world = many(1, 2);
    world.full();
    let traffic = block_on(world.backend.traffic()).unwrap();
    let total: Vec<_> = traffic.iter().filter(|t| t.endpoint.is_none()).collect();
    assert_eq!(total.len(), 1);
    assert_eq!(total[0].connections, 3);
    assert_eq!(total[0].bytes, Some(TrafficBytes { sent: 10, received: 20 }));
    assert_eq!(traffic.len(), 3);
}

#[derive(Clone, Debug)]
enum Step {
    Service {
        number: u16,
        cluster_ip: u16,
        external: Option<u16>,
        node_port: Option<u16>,
        local: bool,
        udp: bool,
    },
    Delete(u16),
    Endpoints {
        number: u16,
        udp: bool,
        endpoints: BTreeSet<(u8, bool)>,
        /// Of the endpoints in turn.
        weights: [u16; 2],
    },
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0_u16..5;
    let service = (
        number.clone(),
        0_u16..6,
        proptest::option::of(0_u16..6),
        proptest::option::of(0_u16..3),
        any::<(bool, bool)>(),
    );
    prop_oneof![
        service.prop_map(|(number, cluster_ip, external, node_port, (local, udp))| Step::Service {
            number,
            cluster_ip,
            external,
            node_port,
            local,
            udp,
        }),
        number.clone().prop_map(Step::Delete),
        (
            number,
            any::<bool>(),
            proptest::collection::btree_set((0_u8..4, any::<bool>()), 0..4),
            prop::sample::select(vec![[1, 1], [1, 3], [0, 1], [0, 0], [2, 2]]),
        )
            .prop_map(|(number, udp, endpoints, weights)| Step::Endpoints {
                number,
                udp,
                endpoints,
                weights,
            }),
        Just(Step::Sync),
    ]
}

fn protocol(udp: bool) -> Protocol {
    if udp { Protocol::Udp } else { Protocol::Tcp }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// However changes come, the node ends up as if all had been there from the start.
    #[test]
    fn a_stream_of_changes_equals_a_rebuild(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        world.full();
        let mut marks = BTreeMap::new();
        for step in steps.into_iter().chain([Step::Sync]) {
            match step {
                Step::Service { number, cluster_ip, external, node_port, local, udp } => {
                    let mut made = service(number, protocol(udp));
                    made.cluster_ips.v4 = Some(address(96, cluster_ip));
                    made.external_ips = external.map(|n| address(96, n)).into_iter().collect();
                    made.ports[0].node_port = node_port.and_then(|n| NonZeroU16::new(30_000 + n));
                    if local {
                        made.policy.external_traffic_policy = TrafficPolicy::Local;
                        made.policy.internal_traffic_policy = TrafficPolicy::Local;
                    }
                    world.service(made);
                }
                Step::Delete(number) => {
                    let name = ObjectName::new("ns", format!("s{number}"));
                    world.tracker.apply(Event::ServiceDeleted(name));
                }
                Step::Endpoints { number, udp, endpoints, weights } => {
                    let all: Vec<_> = endpoints.into_iter().collect();
                    world.weighted(number, protocol(udp), &all, &weights);
                }
                Step::Sync => {
                    world.partial();
                    prop_assert!(block_on(world.backend.intact()).unwrap());
                    marked::check_marks(&world, &mut marks);
                }
            }
        }
        let fresh = Fake::default();
        fresh.lock().0.node = world.fake.held().node;
        let mut rebuilt = IpvsBackend::with_kernel(config(), Box::new(fresh.clone()), true);
        block_on(rebuilt.sync(world.tracker.snapshot(), Scope::Full)).unwrap();
        // A new backend may give other marks.
        let numbered = |fake: &Fake| marked::numbered(settled(fake));
        prop_assert_eq!(numbered(&world.fake), numbered(&fresh));
        world.fake.take_sent();
        world.full();
        let Sent { changes, entries, addresses, .. } = world.fake.take_sent();
        prop_assert_eq!((changes, entries, addresses), (0, 0, 0), "a full sync finds nothing to do");
    }
}
