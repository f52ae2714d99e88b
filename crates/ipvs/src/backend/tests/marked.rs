//! Under the external policy `Local`, clients on this node reach every endpoint by virtual servers of their own.

use kube_proxy_netlink::ipset::Entry;
use kube_proxy_netlink::ipvs::ServerKey;

use super::*;
use crate::fake::Lack;

const SET: &str = "KUBE-IPVS-MARK";
const FIRST: u32 = 0x1001;
const MASQUERADE: u32 = 0x4000;
const BOTH: [(u8, bool); 2] = [(1, true), (2, false)];

fn vip(number: u16) -> IpAddr {
    address(97, number)
}

/// With a VIP and a node port, under the external policy `Local`.
fn local(number: u16, protocol: Protocol) -> Service {
    let mut service = service(number, protocol);
    service.load_balancer_vips = vec![vip(number)];
    service.ports[0].node_port = NonZeroU16::new(30_000 + number);
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    service
}

fn world_of(protocol: Protocol) -> World {
    let mut world = World::new();
    world.service(local(1, protocol));
    world.endpoints(1, protocol, &BOTH);
    world.full();
    world
}

fn by_mark(mark: u32) -> ServerKey {
    ServerKey::Mark { v6: false, mark }
}

fn at_vip(number: u16) -> ServerKey {
    ServerKey::Frontend { protocol: 6, address: SocketAddr::new(vip(number), 80) }
}

/// The last numbers of the destinations of a virtual server, with their weights.
fn destinations(world: &World, key: ServerKey) -> Option<Vec<(u8, u32)>> {
    let held = world.fake.held();
    let (_, destinations) = held.servers.get(&key)?;
    let number = |to: &SocketAddr| match to.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    Some(destinations.iter().map(|(to, (weight, _))| (number(to), *weight)).collect())
}

fn marks(world: &World) -> Vec<u32> {
    let held = world.fake.held();
    held.servers.keys().filter_map(ServerKey::mark).collect()
}

/// What the set of marks says of frontends, without the bits that are replaced.
fn entries(held: &FakeState) -> Vec<(String, u32)> {
    let all = held.sets.get(SET).map(|(.., entries)| entries.clone()).unwrap_or_default();
    let read = all.iter().map(|entry| match entry {
        Entry::IpPortMark { ip, protocol, port, mark, mask } => {
            assert_eq!(*mask, 0x1f7f);
            (Entry::IpPort(*ip, *protocol, *port).to_string(), *mark)
        }
        other => panic!("{other}"),
    });
    read.collect()
}

fn without(world: &World) -> usize {
    world.backend.without_short_circuit().unwrap().len()
}

/// The same with marks by the order of their frontends, whatever they are.
pub(super) fn numbered(mut held: FakeState) -> FakeState {
    let mut order: Vec<u32> = Vec::new();
    for (_, mark) in entries(&held) {
        if !order.contains(&mark) {
            order.push(mark);
        }
    }
    let number = |mark: u32| {
        let at = order.iter().position(|known| *known == mark & !MASQUERADE).unwrap();
        u32::try_from(at).unwrap() | (mark & MASQUERADE)
    };
    let servers = std::mem::take(&mut held.servers).into_iter().map(|(key, server)| match key {
        ServerKey::Mark { v6, mark } => (ServerKey::Mark { v6, mark: number(mark) }, server),
        frontend @ ServerKey::Frontend { .. } => (frontend, server),
    });
    held.servers = servers.collect();
    if let Some((.., entries)) = held.sets.get_mut(SET) {
        let all = std::mem::take(entries).into_iter().map(|entry| match entry {
            Entry::IpPortMark { ip, protocol, port, mark, mask } => {
                Entry::IpPortMark { ip, protocol, port, mark: number(mark), mask }
            }
            other => other,
        });
        *entries = all.collect();
    }
    held
}

/// A service port keeps its mark for as long as it needs one, and no other has the same.
pub(super) fn check_marks(world: &World, before: &mut BTreeMap<ServicePortName, u32>) {
    let names = world.tracker.snapshot().services.keys();
    let marks = &world.backend.marks;
    let now: BTreeMap<_, _> =
        names.filter_map(|name| Some((name.clone(), marks.of(name)?))).collect();
    for (name, mark) in &now {
        assert!(before.get(name).is_none_or(|known| known == mark), "{name} has another mark");
    }
    assert_eq!(now.values().collect::<BTreeSet<_>>().len(), now.len(), "one mark, two services");
    *before = now;
}

#[test]
fn clients_on_this_node_have_virtual_servers_of_their_own() {
    let world = world_of(Protocol::Tcp);
    let both = Some(vec![(1, 1), (2, 1)]);
    assert_eq!(destinations(&world, at_vip(1)), Some(vec![(1, 1)]), "others get local ones");
    assert_eq!(destinations(&world, by_mark(FIRST)), both);
    assert_eq!(destinations(&world, by_mark(FIRST | MASQUERADE)), both);
    assert_eq!(marks(&world), [FIRST, FIRST | MASQUERADE]);
    let held = world.fake.held();
    let places: Vec<_> = entries(&held).into_iter().map(|(place, _)| place).collect();
    assert_eq!(places, ["10.97.0.1,tcp:80", "10.244.0.1,tcp:30001", "172.18.0.2,tcp:30001"]);
    // What an older version removes, and with it the marks of packets.
    let guard = Entry::IpPortIp(vip(1), 6, 80, vip(1));
    assert!(held.sets["KUBE-LOOP-BACK"].2.contains(&guard));
    assert_eq!((held.mark_rules.len(), held.mark_hooks.len(), without(&world)), (3, 3, 0));
}

#[test]
fn a_changed_endpoint_costs_a_message_for_each_virtual_server() {
    let mut world = world_of(Protocol::Tcp);
    world.fake.take_sent();
    world.endpoints(1, Protocol::Tcp, &[BOTH[0], BOTH[1], (3, false)]);
    world.partial();
    // The cluster IP, and the two that go by mark.
    assert_eq!(world.fake.take_sent(), Sent { changes: 3, ..Sent::default() });
}

#[test]
fn rules_and_set_are_there_only_while_they_are_needed() {
    let mut world = World::new();
    world.service(service(2, Protocol::Tcp));
    world.full();
    let bare = world.fake.held();
    assert!(!bare.sets.contains_key(SET) && bare.mark_rules.is_empty());
    world.service(local(1, Protocol::Tcp));
    world.endpoints(1, Protocol::Tcp, &BOTH);
    world.fake.take_sent();
    world.partial();
    assert_eq!(world.fake.take_sent().restores, 1, "the rules of marks alone");
    let partial = world.fake.held();
    world.full();
    assert_eq!(world.fake.held(), partial, "a full sync finds nothing to do");
    assert_eq!(world.fake.take_sent().changes, 0);
    world.service(service(1, Protocol::Tcp));
    world.partial();
    let held = world.fake.held();
    assert!(!held.sets.contains_key(SET) && held.mark_rules.is_empty());
    assert!(held.mark_hooks.is_empty() && marks(&world).is_empty());
    // The same by a full sync.
    world.service(local(1, Protocol::Tcp));
    world.partial();
    world.service(service(1, Protocol::Tcp));
    world.full();
    assert_eq!(world.fake.held(), held);
}

#[test]
fn a_restart_finds_the_same_marks() {
    let mut world = World::new();
    for number in 1..=5 {
        world.service(local(number, Protocol::Tcp));
        world.endpoints(number, Protocol::Tcp, &BOTH);
    }
    world.full();
    for number in [1, 3] {
        let name = ObjectName::new("ns", format!("s{number}"));
        world.tracker.apply(Event::ServiceDeleted(name));
    }
    world.partial();
    let before = world.fake.held();
    world.fake.take_sent();
    world.backend = IpvsBackend::with_kernel(config(), Box::new(world.fake.clone()), true);
    world.full();
    assert_eq!(world.fake.held(), before);
    let Sent { changes, entries, addresses, .. } = world.fake.take_sent();
    assert_eq!((changes, entries, addresses), (0, 0, 0));
    // One more gets another than those that are in use.
    world.service(local(6, Protocol::Tcp));
    world.partial();
    assert_eq!(marks(&world).len(), 8);
}

#[test]
fn destinations_drain_by_the_protocol_of_the_service_port() {
    for (protocol, left) in [(Protocol::Tcp, Some(0)), (Protocol::Udp, None)] {
        let mut world = world_of(protocol);
        let gone: SocketAddr = "10.244.1.2:8080".parse().unwrap();
        for mark in [FIRST, FIRST | MASQUERADE] {
            let held = &mut world.fake.lock().0;
            held.servers.get_mut(&by_mark(mark)).unwrap().1.get_mut(&gone).unwrap().1 = 1;
        }
        world.endpoints(1, protocol, &[BOTH[0]]);
        world.partial();
        world.backend.look_at_drains().unwrap();
        let expected = [Some((1, 1)), left.map(|weight| (2, weight))];
        let expected: Vec<_> = expected.into_iter().flatten().collect();
        assert_eq!(destinations(&world, by_mark(FIRST)), Some(expected), "{protocol}");
        world.full();
        assert!(block_on(world.backend.intact()).unwrap());
    }
}

/// The kernel ignores the port of destinations of a persistent server by mark.
#[test]
fn affinity_that_comes_takes_the_mark() {
    let mut world = world_of(Protocol::Tcp);
    assert_eq!((marks(&world).len(), without(&world)), (2, 0));
    let mut sticky = local(1, Protocol::Tcp);
    sticky.policy.session_affinity = Some(Duration::from_mins(1));
    world.service(sticky);
    world.service(local(2, Protocol::Tcp));
    world.endpoints(2, Protocol::Tcp, &BOTH);
    world.partial();
    assert_eq!(destinations(&world, at_vip(1)), Some(vec![(1, 1)]));
    let held = entries(&world.fake.held());
    assert!(held.iter().all(|(name, _)| !name.contains(&vip(1).to_string())), "{held:?}");
    assert_eq!((marks(&world).len(), without(&world)), (2, 1), "those of the other one");
    assert!(block_on(world.backend.intact()).unwrap());
    world.service(local(1, Protocol::Tcp));
    world.partial();
    assert_eq!((marks(&world).len(), without(&world)), (4, 0));
}

#[test]
fn without_marks_it_is_as_before() {
    let is_as_before = |world: &World| {
        assert_eq!((marks(world), without(world)), (Vec::new(), 1));
        assert_eq!(destinations(world, at_vip(1)), Some(vec![(1, 1)]));
        let held = world.fake.held();
        assert!(!held.sets.contains_key(SET) && held.mark_rules.is_empty());
    };
    let mut world = World::new();
    let mut sticky = local(1, Protocol::Tcp);
    sticky.policy.session_affinity = Some(Duration::from_mins(1));
    world.service(sticky);
    world.endpoints(1, Protocol::Tcp, &BOTH);
    world.full();
    is_as_before(&world);
    let mut world = World::new();
    let config = Config { mark_mask: 0, ..config() };
    world.backend = IpvsBackend::with_kernel(config, Box::new(world.fake.clone()), true);
    world.service(local(1, Protocol::Tcp));
    world.endpoints(1, Protocol::Tcp, &BOTH);
    world.full();
    is_as_before(&world);
    for lack in [Lack::Sets, Lack::Rules] {
        let mut world = World::new();
        world.fake.lock().0.lacks = Some(lack);
        world.full();
        world.service(local(1, Protocol::Tcp));
        world.endpoints(1, Protocol::Tcp, &BOTH);
        world.partial();
        is_as_before(&world);
        assert!(block_on(world.backend.intact()).unwrap());
        world.service(local(1, Protocol::Tcp));
        world.endpoints(1, Protocol::Tcp, &[BOTH[0]]);
        world.partial();
        is_as_before(&world);
        world.fake.lock().0.lacks = None;
        world.full();
        assert_eq!((marks(&world).len(), without(&world)), (2, 0), "a full sync tries again");
    }
}

#[test]
fn more_service_ports_than_marks() {
    let mut world = World::new();
    // One mark, 0x3.
    let config = Config { mark_mask: 0x3, ..config() };
    world.backend = IpvsBackend::with_kernel(config, Box::new(world.fake.clone()), true);
    for number in [1, 2] {
        world.service(local(number, Protocol::Tcp));
        world.endpoints(number, Protocol::Tcp, &BOTH);
    }
    world.full();
    assert_eq!((marks(&world), without(&world)), (vec![0x3, 0x4003], 1));
    world.tracker.apply(Event::ServiceDeleted(ObjectName::new("ns", "s1")));
    world.partial();
    world.full();
    assert_eq!((marks(&world), without(&world)), (vec![0x3, 0x4003], 0));
    assert_eq!(destinations(&world, by_mark(0x3)), Some(vec![(1, 1), (2, 1)]));
}

/// A VIP that goes from one service port to another has another mark, and never none.
#[test]
fn a_frontend_that_changes_hands_changes_its_mark() {
    for full in [false, true] {
        let mut world = World::new();
        for number in [1, 2] {
            let mut service = local(number, Protocol::Tcp);
            service.load_balancer_vips = vec![vip(1)];
            world.service(service);
            world.endpoints(number, Protocol::Tcp, &BOTH);
        }
        world.full();
        let of_vip = |world: &World| {
            let all = entries(&world.fake.held());
            all.into_iter().find(|(place, _)| place.starts_with("10.97.")).map(|(_, mark)| mark)
        };
        assert_eq!(of_vip(&world), Some(FIRST));
        world.tracker.apply(Event::ServiceDeleted(ObjectName::new("ns", "s1")));
        if full {
            world.full();
        } else {
            world.partial();
        }
        assert_eq!(of_vip(&world), Some(FIRST + 1));
        assert!(block_on(world.backend.intact()).unwrap());
    }
}

/// A node port at the very address and port of another Service's external IP: one of them has the virtual server, and its mark.
#[test]
fn a_frontend_has_one_mark() {
    let mut world = World::new();
    let mut first = local(1, Protocol::Tcp);
    first.external_ips = vec!["172.18.0.2".parse().unwrap()];
    first.ports[0].port = NonZeroU16::new(30_002).unwrap();
    world.service(first);
    world.service(local(2, Protocol::Tcp));
    world.full();
    let all = entries(&world.fake.held());
    let marks: Vec<_> = all.iter().filter(|(place, _)| place == "172.18.0.2,tcp:30002").collect();
    assert_eq!(marks, [&("172.18.0.2,tcp:30002".to_owned(), FIRST)]);
    assert!(block_on(world.backend.intact()).unwrap());
    world.fake.take_sent();
    world.full();
    assert_eq!(world.fake.take_sent().entries, 0);
}

#[test]
fn virtual_servers_of_others_stay_and_their_marks_are_not_used() {
    let mut world = World::new();
    let rr = Server { scheduler: "rr".to_owned(), flags: 0, timeout: 0 };
    // The last has one bit more than ours will have, but one that marks use.
    let foreign = [FIRST, (FIRST + 1) | MASQUERADE, 7, (FIRST + 2) | 0x100].map(by_mark);
    for key in foreign {
        world.fake.lock().0.servers.insert(key, (rr.clone(), BTreeMap::new()));
    }
    world.service(local(1, Protocol::Tcp));
    world.endpoints(1, Protocol::Tcp, &BOTH);
    world.full();
    let ours = [by_mark(FIRST + 2), by_mark((FIRST + 2) | MASQUERADE)];
    assert!(ours.iter().all(|key| destinations(&world, *key).is_some()), "{:?}", marks(&world));
    // With the bit of an earlier configuration it is ours all the same.
    let stale = by_mark((FIRST + 2) | 0x2_0000);
    world.fake.lock().0.servers.insert(stale, (rr, BTreeMap::new()));
    world.full();
    assert_eq!(destinations(&world, stale), None);
    leave(&mut world, Connections::Cut);
    let mut expected = foreign.to_vec();
    expected.sort_unstable();
    assert_eq!(world.fake.held().servers.keys().copied().collect::<Vec<_>>(), expected);
    assert!(world.fake.held().sets.is_empty());
}

#[test]
fn damage_to_marks_is_noticed() {
    let damages: [fn(&mut FakeState); 6] = [
        |held| drop(held.servers.remove(&by_mark(FIRST))),
        |held| held.servers.get_mut(&by_mark(FIRST | MASQUERADE)).unwrap().1.clear(),
        |held| held.sets.get_mut(SET).unwrap().2.clear(),
        |held| held.mark_rules.clear(),
        |held| held.mark_hooks.clear(),
        |held| {
            held.sets.remove(SET);
            held.mark_rules.clear();
            held.mark_hooks.clear();
        },
    ];
    for damage in damages {
        let mut world = world_of(Protocol::Tcp);
        let whole = settled(&world.fake);
        assert!(block_on(world.backend.intact()).unwrap());
        damage(&mut world.fake.lock().0);
        assert!(!block_on(world.backend.intact()).unwrap());
        let found = block_on(world.backend.compare(world.tracker.snapshot())).unwrap();
        assert!(!found.is_empty(), "what differs is named");
        world.full();
        assert_eq!(settled(&world.fake), whole);
    }
}

#[test]
fn connections_keep_the_virtual_servers_they_came_by() {
    let mut world = world_of(Protocol::Tcp);
    world.service(local(2, Protocol::Tcp));
    world.endpoints(2, Protocol::Tcp, &BOTH);
    world.partial();
    assert_eq!(marks(&world).len(), 4);
    let connection = Connection { server: at_vip(1), ended: false };
    world.fake.lock().0.connections = vec![connection];
    assert_eq!(leave(&mut world, Connections::Keep), Removed::Waiting { connections: 1 });
    assert_eq!(marks(&world), [FIRST, FIRST | MASQUERADE]);
    assert_eq!(destinations(&world, by_mark(FIRST)), Some(vec![(1, 0), (2, 0)]));
    // What records that they are ours.
    assert_eq!(entries(&world.fake.held()), [("10.97.0.1,tcp:80".to_owned(), FIRST)]);
    let held = world.fake.held();
    assert_eq!(leave(&mut world, Connections::Keep), Removed::Waiting { connections: 1 });
    assert_eq!(world.fake.held(), held, "another look changes nothing");
    world.fake.lock().0.connections.clear();
    assert_eq!(leave(&mut world, Connections::Keep), Removed::All);
    assert!(world.fake.held().servers.is_empty() && world.fake.held().sets.is_empty());
}

#[test]
fn traffic_by_mark_is_that_of_the_service_port() {
    let mut world = world_of(Protocol::Tcp);
    let traffic = block_on(world.backend.traffic()).unwrap();
    let total: Vec<_> = traffic.iter().filter(|t| t.endpoint.is_none()).collect();
    // The cluster IP, the VIP, two addresses of the node, and two by mark; three connections each.
    assert_eq!((total.len(), total[0].connections), (1, 18));
}
