use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use futures::executor::block_on;
use kube_proxy_core::{Protocol, Service};
use kube_proxy_core::{ProxyBackend as _, Scope};
use kube_proxy_netlink::ipvs::ServerKey;

use crate::backend::tests::{World, address, service, slice_at};

const OTHER_NODE: &str = "172.18.0.3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn with_external(number: u16, external: &[&str]) -> Service {
    let mut made = service(number, Protocol::Tcp);
    made.external_ips = external.iter().map(|text| ip(text)).collect();
    made.ports[0].node_port = NonZeroU16::new(30_000 + number);
    made
}

/// Whether the address is on the interface, and whether there is a virtual server for it.
fn holds(world: &World, address: &str) -> (bool, bool) {
    let held = world.fake.held();
    let key = ServerKey::Frontend { protocol: 6, address: SocketAddr::new(ip(address), 80) };
    (held.device.unwrap().contains(&ip(address)), held.servers.contains_key(&key))
}

/// Syncs the changes; how many service ports are refused.
fn sync(world: &mut World) -> usize {
    let changes = world.tracker.fold();
    let scope = Scope::Partial(&changes);
    block_on(world.backend.sync(world.tracker.snapshot(), scope)).unwrap().refused
}

fn begin() -> World {
    let mut world = World::new();
    world.fake.lock().0.next_hops = [ip(OTHER_NODE)].into();
    world.full();
    world
}

#[test]
fn the_next_hop_of_a_route_is_not_taken() {
    let mut world = begin();
    world.service(with_external(1, &[OTHER_NODE, "192.0.2.1"]));
    assert_eq!(sync(&mut world), 1);
    assert_eq!(holds(&world, OTHER_NODE), (false, false));
    assert_eq!(holds(&world, "192.0.2.1"), (true, true), "its other address");
    let held = world.fake.held();
    let here = |key: &ServerKey, port| {
        key.frontend() == Some((6, SocketAddr::new(ip("172.18.0.2"), port)))
    };
    assert!(held.servers.keys().any(|key| here(key, 30_001)), "its node port");
    let entries: Vec<_> = held.sets.values().flat_map(|(.., entries)| entries).collect();
    assert!(!format!("{entries:?}").contains(OTHER_NODE), "{entries:?}");
    assert!(block_on(world.backend.intact()).unwrap());
}

#[test]
fn a_route_that_comes_or_goes_is_noticed_by_the_next_look() {
    let mut world = begin();
    world.service(with_external(1, &[OTHER_NODE, "192.0.2.1"]));
    sync(&mut world);
    world.fake.lock().0.next_hops = [ip("192.0.2.1"), ip("192.0.2.77")].into();
    assert!(!block_on(world.backend.intact()).unwrap());
    world.full();
    assert_eq!(holds(&world, OTHER_NODE), (true, true));
    assert_eq!(holds(&world, "192.0.2.1"), (false, false));
    world.fake.lock().0.next_hops.remove(&ip("192.0.2.77"));
    assert!(block_on(world.backend.intact()).unwrap(), "a route that concerns no Service");
}

#[test]
fn an_endpoint_on_another_machine_is_not_taken() {
    let mut world = begin();
    world.service(with_external(1, &["172.18.0.9"]));
    assert_eq!(sync(&mut world), 0);
    assert_eq!(holds(&world, "172.18.0.9"), (true, true));
    // Such as the API server, an endpoint of default/kubernetes.
    world.service(service(2, Protocol::Tcp));
    world.tracker.apply(slice_at(2, ip("172.18.0.9")));
    assert_eq!(sync(&mut world), 1);
    assert_eq!(holds(&world, "172.18.0.9"), (false, false));
    world.tracker.apply(slice_at(2, ip("10.244.1.1")));
    assert_eq!(sync(&mut world), 0);
    assert_eq!(holds(&world, "172.18.0.9"), (true, true));
}

#[test]
fn what_the_node_has_already_is_served() {
    let mut world = begin();
    world.service(with_external(1, &["172.18.0.2"]));
    world.tracker.apply(slice_at(1, ip("172.18.0.2")));
    assert_eq!(sync(&mut world), 0);
    assert_eq!(holds(&world, "172.18.0.2"), (false, true));
}

#[test]
fn a_cluster_ip_is_never_refused() {
    let mut world = begin();
    world.fake.lock().0.next_hops.insert(address(96, 1));
    world.service(with_external(1, &["10.96.0.1"]));
    assert_eq!(sync(&mut world), 0);
    assert_eq!(holds(&world, "10.96.0.1"), (true, true));
}

#[test]
fn changes_of_services_without_such_addresses_read_no_routes() {
    let mut world = begin();
    world.service(with_external(1, &["192.0.2.1"]));
    world.service(service(2, Protocol::Tcp));
    sync(&mut world);
    world.fake.take_sent();
    for number in [1, 2] {
        world.tracker.apply(slice_at(number, ip("10.244.1.1")));
    }
    sync(&mut world);
    assert_eq!(world.fake.take_sent().lists, 0);
}

/// While something is refused, changes cost no more than otherwise, and find out when it is not any more.
#[test]
fn changes_read_no_routes_while_an_address_is_refused() {
    let mut world = begin();
    world.service(with_external(1, &[OTHER_NODE, "172.18.0.9"]));
    for number in [2, 3, 4] {
        world.service(service(number, Protocol::Tcp));
    }
    world.tracker.apply(slice_at(2, ip("172.18.0.9")));
    assert_eq!(sync(&mut world), 1);
    world.fake.take_sent();
    let lists = |world: &mut World, refused| {
        assert_eq!(sync(world), refused);
        world.fake.take_sent().lists
    };
    // Of others, of the service that is refused, and one that makes it an endpoint once more.
    world.tracker.apply(slice_at(3, ip("10.244.1.1")));
    assert_eq!(lists(&mut world, 1), 0);
    world.tracker.apply(slice_at(1, ip("10.244.1.2")));
    assert_eq!(lists(&mut world, 1), 0);
    world.tracker.apply(slice_at(3, ip("172.18.0.9")));
    assert_eq!(lists(&mut world, 1), 0);
    // The first of two that have it as an endpoint loses it.
    world.tracker.apply(slice_at(2, ip("10.244.1.3")));
    assert_eq!(lists(&mut world, 1), 0);
    assert_eq!(holds(&world, "172.18.0.9"), (false, false));
    // The next hop of a route becomes an endpoint and is one no more: refused all the while.
    for address in [OTHER_NODE, "10.244.1.4"] {
        world.tracker.apply(slice_at(4, ip(address)));
        assert_eq!(lists(&mut world, 1), 0);
    }
    // A new address that is the node's own cannot be refused.
    world.service(with_external(5, &["172.18.0.2"]));
    assert_eq!(lists(&mut world, 1), 0);
    // Any other may be: the routes are listed, and nothing else.
    world.service(with_external(6, &["192.0.2.6"]));
    assert_eq!(lists(&mut world, 1), 1);
    // The second loses it as well: served again.
    world.tracker.apply(slice_at(3, ip("10.244.1.5")));
    assert!(lists(&mut world, 1) > 1, "a full sync");
    assert_eq!(holds(&world, "172.18.0.9"), (true, true));
    assert_eq!(holds(&world, OTHER_NODE), (false, false));
    assert!(block_on(world.backend.intact()).unwrap());
}
