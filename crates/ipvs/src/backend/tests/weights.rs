//! Endpoints with weights, of which 0 drains.

use kube_proxy_core::Conditions;
use kube_proxy_netlink::ipvs::{HASH_FALLBACK, HASH_PORT, ServerKey};

use super::*;

const ALL: [(u8, bool); 3] = [(1, false), (2, false), (3, false)];

fn key(protocol: Protocol) -> ServerKey {
    let address = SocketAddr::new(address(96, 1), 80);
    ServerKey::Frontend { protocol: protocol.number(), address }
}

/// Service 1 with three endpoints of these weights.
fn world(protocol: Protocol, weights: &[u16]) -> World {
    let mut world = World::new();
    world.service(service(1, protocol));
    world.weighted(1, protocol, &ALL, weights);
    world.full();
    world
}

/// The scheduler and the weights that the model holds.
fn held(world: &World, protocol: Protocol) -> (String, Vec<u32>) {
    let held = world.fake.held();
    let (server, destinations) = &held.servers[&key(protocol)];
    (server.scheduler.clone(), destinations.values().map(|(weight, _)| *weight).collect())
}

#[test]
fn destinations_have_the_weights_of_endpoints() {
    let check = |weights: &[u16], scheduler: &str, expected: [u32; 3]| {
        let found = held(&world(Protocol::Tcp, weights), Protocol::Tcp);
        assert_eq!(found, (scheduler.to_owned(), expected.to_vec()));
    };
    check(&[1], "rr", [1, 1, 1]);
    check(&[9], "rr", [9, 9, 9]);
    check(&[3, 1], "wrr", [3, 1, 3]);
    // What drains is no reason for another scheduler.
    check(&[0, 2, 2], "rr", [0, 2, 2]);
    check(&[0], "rr", [0, 0, 0]);
}

#[test]
fn algorithms_are_schedulers() {
    let check = |algorithm, own: Option<&str>, weights: &[u16], expected: &str| {
        let mut world = World::new();
        let mut asks = service(1, Protocol::Tcp);
        asks.policy.algorithm = Some(algorithm);
        asks.policy.annotations =
            own.map(|own| (SCHEDULER.into(), own.into())).into_iter().collect();
        world.service(asks);
        world.tracker.carry_annotations(world.backend.annotations());
        world.tracker.offer_algorithms(world.backend.algorithms());
        world.weighted(1, Protocol::Tcp, &ALL, weights);
        world.full();
        assert_eq!(held(&world, Protocol::Tcp).0, expected);
    };
    check(Algorithm::Random, None, &[1], "rr");
    check(Algorithm::SourceHash, None, &[1], "sh");
    check(Algorithm::SourceHash, None, &[1, 2], "sh");
    check(Algorithm::SourceHash, Some("mh"), &[1], "mh");
    check(Algorithm::LeastConnections, None, &[1], "lc");
    check(Algorithm::Maglev, None, &[1], "mh");
    check(Algorithm::Maglev, None, &[1, 2], "mh");
}

/// With the one table another client port may get another destination; with both, what drains is passed over.
#[test]
fn hashes_have_their_flags() {
    let flags = |algorithm, own: Option<&str>| {
        let mut world = World::new();
        let mut asks = service(1, Protocol::Tcp);
        asks.policy.algorithm = algorithm;
        asks.policy.annotations =
            own.map(|own| (SCHEDULER.into(), own.into())).into_iter().collect();
        world.service(asks);
        world.tracker.carry_annotations(world.backend.annotations());
        world.tracker.offer_algorithms(world.backend.algorithms());
        world.weighted(1, Protocol::Tcp, &ALL, &[1]);
        world.full();
        world.fake.held().servers[&key(Protocol::Tcp)].0.flags
    };
    assert_eq!(flags(Some(Algorithm::Maglev), None), HASH_PORT | HASH_FALLBACK);
    assert_eq!(flags(None, Some("mh")), HASH_PORT | HASH_FALLBACK);
    assert_eq!(flags(Some(Algorithm::SourceHash), None), HASH_FALLBACK);
    assert_eq!(flags(None, Some("sh")), HASH_FALLBACK);
    assert_eq!(flags(Some(Algorithm::Maglev), Some("rr")), 0);
}

/// It is found out when the first Service asks for it, and then no longer offered.
#[test]
fn an_algorithm_that_the_kernel_lacks_is_not_offered_again() {
    let mut world = World::new();
    world.fake.lock().0.missing_schedulers.insert("mh");
    let offered = world.backend.algorithms();
    assert!(offered.contains(&Algorithm::Maglev), "nobody asked yet: {offered:?}");
    let mut asks = service(1, Protocol::Tcp);
    asks.policy.algorithm = Some(Algorithm::Maglev);
    world.service(asks);
    world.tracker.offer_algorithms(offered);
    world.weighted(1, Protocol::Tcp, &ALL, &[1]);
    world.full();
    assert_eq!(held(&world, Protocol::Tcp).0, "rr");
    assert_eq!(world.backend.algorithms(), [Algorithm::SourceHash, Algorithm::LeastConnections]);
    world.full();
    assert_eq!(world.backend.algorithms(), [Algorithm::SourceHash, Algorithm::LeastConnections]);
}

#[test]
fn a_weight_is_one_change() {
    let mut world = world(Protocol::Tcp, &[1]);
    let mut cost = |weights: &[u16]| {
        world.fake.take_sent();
        world.weighted(1, Protocol::Tcp, &ALL, weights);
        world.partial();
        assert!(block_on(world.backend.intact()).unwrap(), "what is wanted is no damage");
        world.fake.take_sent().changes
    };
    assert_eq!(cost(&[1, 0, 1]), 1);
    assert_eq!(cost(&[1, 1, 1]), 1);
    // And the scheduler that knows weights.
    assert_eq!(cost(&[1, 5, 1]), 2);
    assert_eq!(cost(&[1, 6, 1]), 1);
    assert_eq!(cost(&[1, 6, 1]), 0);
    world.full();
    assert_eq!(world.fake.take_sent().changes, 0);
}

/// In tenths, so that a step is one message, and one that comes as well.
#[test]
fn a_step_of_a_slow_start_is_one_change() {
    let check = |scheduler: Option<&str>, expected: &str, weights: [u32; 3]| {
        let mut world = World::new();
        let mut asks = service(1, Protocol::Tcp);
        asks.policy.slow_start = Some("9s".parse().unwrap());
        asks.policy.annotations =
            scheduler.map(|name| (SCHEDULER.into(), name.into())).into_iter().collect();
        world.service(asks);
        world.tracker.carry_annotations(world.backend.annotations());
        let mut now = Instant::now();
        world.tracker.tell_time(now);
        world.weighted(1, Protocol::Tcp, &ALL[..2], &[1, 2]);
        world.full();
        world.fake.take_sent();
        world.weighted(1, Protocol::Tcp, &ALL, &[1, 2, 3]);
        let mut sent = Vec::new();
        let mut last = Vec::new();
        loop {
            world.partial();
            assert!(block_on(world.backend.intact()).unwrap(), "what is wanted is no damage");
            sent.push(world.fake.take_sent().changes);
            last.push(held(&world, Protocol::Tcp).1[2]);
            let Some(due) = world.tracker.step_due() else { break };
            now = now.max(due);
            world.tracker.tell_time(now);
        }
        let found = held(&world, Protocol::Tcp);
        assert_eq!(found, (expected.to_owned(), weights.to_vec()));
        world.full();
        assert_eq!(world.fake.take_sent().changes, 0);
        (sent, last)
    };
    let (sent, last) = check(None, "wrr", [10, 20, 30]);
    assert_eq!(sent, [1; 10]);
    assert_eq!(last, (1..=10).map(|step| step * 3).collect::<Vec<_>>());
    // Its table is too small.
    let (sent, last) = check(Some("sh"), "sh", [1, 2, 3]);
    assert_eq!(sent, [[1].as_slice(), &[0; 9]].concat());
    assert_eq!(last, [3; 10]);
}

/// UDP too, of which a destination leaves at once where its endpoint goes.
#[test]
fn what_drains_stays_for_as_long_as_its_endpoint_is_there() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let mut world = world(protocol, &[1, 0, 1]);
        assert_eq!(held(&world, protocol).1, [1, 0, 1]);
        world.backend.look_at_drains().unwrap();
        assert_eq!(world.backend.drains.due(), None, "nothing is waited for");
        world.full();
        assert_eq!(held(&world, protocol).1, [1, 0, 1]);
        world.endpoints(1, protocol, &[(1, false), (3, false)]);
        world.partial();
        world.backend.look_at_drains().unwrap();
        assert_eq!(held(&world, protocol).1, [1, 1]);
    }
}

/// Unless nothing else is left: then it takes new ones as well.
#[test]
fn a_udp_endpoint_that_terminates_keeps_what_it_has() {
    let weights = |terminating: usize| {
        let mut world = world(Protocol::Udp, &[1]);
        let mut slice = slice(1, Protocol::Udp, &ALL);
        for endpoint in slice.endpoints.iter_mut().take(terminating) {
            endpoint.conditions = Conditions { ready: false, serving: true, terminating: true };
        }
        world.tracker.apply(Event::EndpointSliceApplied(slice));
        world.partial();
        assert!(block_on(world.backend.intact()).unwrap(), "what is wanted is no damage");
        held(&world, Protocol::Udp).1
    };
    assert_eq!(weights(1), [0, 1, 1]);
    assert_eq!(weights(2), [0, 0, 1]);
    assert_eq!(weights(3), [1, 1, 1]);
}

#[test]
fn other_weights_are_damage() {
    let mut world = world(Protocol::Tcp, &[1, 0, 4]);
    for wrong in [0, 1, 7] {
        for number in [1, 2, 3] {
            let to = SocketAddr::from(([10, 244, 1, number], 8080));
            let right = world.fake.held();
            let mut held = world.fake.lock();
            let (_, destinations) = held.0.servers.get_mut(&key(Protocol::Tcp)).unwrap();
            let before = std::mem::replace(&mut destinations.get_mut(&to).unwrap().0, wrong);
            drop(held);
            assert_eq!(block_on(world.backend.intact()).unwrap(), before == wrong);
            world.full();
            assert_eq!(world.fake.held(), right);
        }
    }
}

#[test]
fn a_kernel_without_the_scheduler_gives_all_the_same() {
    let mut world = World::new();
    let mut least = service(1, Protocol::Tcp);
    least.policy.annotations = [(SCHEDULER.into(), "lc".into())].into();
    world.service(least);
    world.tracker.carry_annotations(world.backend.annotations());
    world.weighted(1, Protocol::Tcp, &ALL, &[3, 1]);
    world.full();
    assert_eq!(held(&world, Protocol::Tcp), ("lc".to_owned(), vec![3, 1, 3]));
    assert_eq!(world.backend.unknown_schedulers, ["wlc"]);
}
