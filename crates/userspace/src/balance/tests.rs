use kube_proxy_core::{Algorithm, TrafficPolicy};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use kube_proxy_core::algorithm::{connection_slot, source_slot};

use super::{Balancer, Endpoints, FEW_SESSIONS};
use crate::traffic::Target;

const SECOND: Duration = Duration::from_secs(1);

fn endpoint(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 244, 0, number], 8080))
}

fn client(number: u32) -> IpAddr {
    IpAddr::from((0x0a01_0000 + number).to_be_bytes())
}

fn peer(number: u32) -> SocketAddr {
    SocketAddr::new(client(number), 40_000)
}

fn list(numbers: &[u8]) -> Vec<SocketAddr> {
    numbers.iter().map(|number| endpoint(*number)).collect()
}

fn endpoints(numbers: &[u8], affinity: Option<Duration>) -> Endpoints {
    Endpoints {
        lists: [list(numbers), Vec::new()],
        serving: list(numbers),
        affinity,
        algorithm: Algorithm::Random,
    }
}

fn balancer(numbers: &[u8], affinity: Option<Duration>, now: Instant) -> Balancer {
    let mut balancer = Balancer::new(7, Duration::ZERO);
    balancer.update(endpoints(numbers, affinity), now);
    balancer
}

fn pick(balancer: &mut Balancer, from: u32, now: Instant) -> Option<SocketAddr> {
    balancer.pick(TrafficPolicy::Cluster, peer(from), None, now).map(|target| target.address)
}

#[test]
fn each_endpoint_has_its_turn() {
    let now = Instant::now();
    let mut balancer = balancer(&[1, 2, 3], None, now);
    let picks: Vec<_> = (0..9).map(|_| pick(&mut balancer, 0, now).unwrap()).collect();
    let mut counts = BTreeMap::new();
    for address in &picks {
        *counts.entry(address).or_insert(0) += 1;
    }
    assert!(counts.len() == 3 && counts.values().all(|count| *count == 3), "{picks:?}");
    assert_eq!(picks[..3], picks[3..6], "always in the same order");
}

#[test]
fn each_endpoint_has_as_many_turns_as_it_stands_there() {
    let now = Instant::now();
    let mut balancer = balancer(&[1, 2, 2, 2], None, now);
    let picks: Vec<_> = (0..40).map(|_| pick(&mut balancer, 0, now).unwrap()).collect();
    assert_eq!(picks.iter().filter(|address| **address == endpoint(2)).count(), 30, "{picks:?}");
    for failed in [1, 2] {
        for _ in 0..8 {
            let other = balancer.pick(TrafficPolicy::Cluster, peer(0), Some(endpoint(failed)), now);
            assert_ne!(other.unwrap().address, endpoint(failed), "another one is tried");
        }
    }
}

/// By algorithm, with endpoint 3 standing there three times.
fn choosing(algorithm: Algorithm, now: Instant) -> Balancer {
    let mut balancer = Balancer::new(7, 10 * SECOND);
    balancer.update(Endpoints { algorithm, ..endpoints(&[1, 2, 3, 3, 3], None) }, now);
    balancer
}

#[test]
fn a_client_gets_the_endpoint_of_its_hash() {
    let now = Instant::now();
    let mut balancer = choosing(Algorithm::SourceHash, now);
    let mut used = BTreeMap::new();
    for number in 0..500 {
        let slot = source_slot(client(number), 5);
        let expected = list(&[1, 2, 3, 3, 3])[slot as usize];
        for _ in 0..2 {
            assert_eq!(pick(&mut balancer, number, now), Some(expected));
        }
        *used.entry(expected).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 3, "{used:?}");
    let first = pick(&mut balancer, 1, now).unwrap();
    let other = balancer.pick(TrafficPolicy::Cluster, peer(1), Some(first), now);
    assert_ne!(other.unwrap().address, first, "it cannot be reached");
    balancer.failed(first, now);
    assert_ne!(pick(&mut balancer, 1, now), Some(first), "it rests");
    assert_eq!(pick(&mut balancer, 1, now + 10 * SECOND), Some(first));
}

/// Slots are those of the list, which is the table, whatever else was chosen.
#[test]
fn a_connection_gets_the_endpoint_of_its_slot() {
    let now = Instant::now();
    let mut balancer = choosing(Algorithm::Maglev, now);
    let connection = |port| SocketAddr::new(client(1), port);
    let mut used = BTreeMap::new();
    for port in 1..500 {
        let slot = connection_slot(connection(port), 5);
        let expected = list(&[1, 2, 3, 3, 3])[slot as usize];
        let pick = |balancer: &mut Balancer| {
            balancer.pick(TrafficPolicy::Cluster, connection(port), None, now).unwrap().address
        };
        assert_eq!((pick(&mut balancer), pick(&mut balancer)), (expected, expected));
        *used.entry(expected).or_insert(0) += 1;
    }
    assert!(used.len() == 3 && used[&endpoint(3)] > 250, "{used:?}");
    let first = balancer.pick(TrafficPolicy::Cluster, connection(1), None, now).unwrap().address;
    let other = balancer.pick(TrafficPolicy::Cluster, connection(1), Some(first), now);
    assert_ne!(other.unwrap().address, first, "another one is tried");
}

#[test]
fn the_least_used_endpoint_is_chosen() {
    let now = Instant::now();
    let mut balancer = choosing(Algorithm::LeastConnections, now);
    let mut open: BTreeMap<SocketAddr, Vec<std::sync::Arc<Target>>> = BTreeMap::new();
    for _ in 0..50 {
        let target = balancer.pick(TrafficPolicy::Cluster, peer(1), None, now).unwrap();
        target.counters.opened();
        open.entry(target.address).or_default().push(target);
    }
    let counts: Vec<_> = open.values().map(Vec::len).collect();
    assert_eq!(counts, [10, 10, 30], "by weight");
    open[&endpoint(2)].iter().for_each(|target| target.counters.closed());
    for _ in 0..10 {
        let target = balancer.pick(TrafficPolicy::Cluster, peer(1), None, now).unwrap();
        assert_eq!(target.address, endpoint(2));
        target.counters.opened();
    }
    // Where all are idle, all have their turn.
    let mut idle = choosing(Algorithm::LeastConnections, now);
    let picked: std::collections::BTreeSet<_> =
        (0..9).filter_map(|_| pick(&mut idle, 1, now)).collect();
    assert!(picked.contains(&endpoint(3)), "{picked:?}");
    idle.failed(endpoint(3), now);
    let picked: std::collections::BTreeSet<_> =
        (0..9).filter_map(|_| pick(&mut idle, 1, now)).collect();
    assert_eq!(picked.into_iter().collect::<Vec<_>>(), list(&[1, 2]));
    assert_eq!(
        choosing(Algorithm::LeastConnections, now)
            .pick(TrafficPolicy::Local, peer(1), None, now)
            .map(|t| t.address),
        None
    );
}

#[test]
fn the_order_is_shuffled() {
    let now = Instant::now();
    let numbers: Vec<u8> = (0..50).collect();
    let orders: Vec<Vec<_>> = [1, 2]
        .map(|seed| {
            let mut balancer = Balancer::new(seed * 1_000_003, Duration::ZERO);
            balancer.update(endpoints(&numbers, None), now);
            (0..50).filter_map(|_| pick(&mut balancer, 0, now)).collect()
        })
        .into();
    assert_ne!(orders[0], orders[1]);
    assert_ne!(orders[0], list(&numbers));
}

#[test]
fn no_endpoint_no_choice() {
    let now = Instant::now();
    assert_eq!(pick(&mut balancer(&[], None, now), 0, now), None);
    assert_eq!(pick(&mut balancer(&[], Some(SECOND), now), 0, now), None);
    let mut only_cluster = balancer(&[1], None, now);
    assert!(only_cluster.pick(TrafficPolicy::Local, peer(0), None, now).is_none());
}

#[test]
fn a_client_stays_while_it_comes_back_in_time() {
    let begin = Instant::now();
    let mut balancer = balancer(&[1, 2, 3], Some(10 * SECOND), begin);
    let first = pick(&mut balancer, 1, begin);
    // Each connection starts the time again: in all it is far longer than the timeout.
    for step in 1..=10 {
        let now = begin + step * 9 * SECOND;
        assert_eq!(pick(&mut balancer, 1, now), first, "after {step} times 9 seconds");
        pick(&mut balancer, 1000 + step, now);
    }
}

#[test]
fn a_session_ends_with_its_time() {
    let begin = Instant::now();
    let mut balancer = balancer(&[1, 2], Some(10 * SECOND), begin);
    let first = pick(&mut balancer, 1, begin);
    assert_eq!(pick(&mut balancer, 1, begin + 9 * SECOND), first);
    // The next in turn is the other one.
    assert_ne!(pick(&mut balancer, 1, begin + 19 * SECOND), first);
}

#[test]
fn frontends_share_the_session() {
    let now = Instant::now();
    let mut balancer = Balancer::new(3, Duration::ZERO);
    let lists = [list(&[1, 2, 3, 4]), list(&[2, 3])];
    let serving = list(&[1, 2, 3, 4]);
    let algorithm = Algorithm::Random;
    balancer.update(Endpoints { lists, serving, affinity: Some(SECOND), algorithm }, now);
    for from in 0..20 {
        let local = balancer.pick(TrafficPolicy::Local, peer(from), None, now).unwrap().address;
        assert_eq!(pick(&mut balancer, from, now), Some(local));
    }
    // An endpoint that is not local cannot be kept under the Local policy.
    for from in 100..120 {
        pick(&mut balancer, from, now).unwrap();
        let local = balancer.pick(TrafficPolicy::Local, peer(from), None, now).unwrap().address;
        assert!(list(&[2, 3]).contains(&local));
    }
}

#[test]
fn clients_of_a_removed_endpoint_choose_anew_and_others_stay() {
    let now = Instant::now();
    let affinity = Some(10 * SECOND);
    let mut balancer = balancer(&[1, 2, 3], affinity, now);
    let before: Vec<_> = (0..30).map(|from| pick(&mut balancer, from, now).unwrap()).collect();
    balancer.update(endpoints(&[2, 3, 4], affinity), now);
    for (from, before) in (0..).zip(before) {
        let after = pick(&mut balancer, from, now).unwrap();
        if before == endpoint(1) {
            assert_ne!(after, before);
        } else {
            assert_eq!(after, before);
        }
    }
}

#[test]
fn a_failed_dial_ends_the_session() {
    let now = Instant::now();
    let mut balancer = balancer(&[1, 2], Some(10 * SECOND), now);
    let first = pick(&mut balancer, 1, now).unwrap();
    let second = balancer.pick(TrafficPolicy::Cluster, peer(1), Some(first), now).unwrap().address;
    assert_ne!(first, second);
    assert_eq!(pick(&mut balancer, 1, now), Some(second), "the new one is kept");
}

#[test]
fn a_session_can_be_looked_at() {
    let now = Instant::now();
    let mut balancer = balancer(&[1, 2], Some(10 * SECOND), now);
    let first = pick(&mut balancer, 1, now).unwrap();
    let seen = |balancer: &Balancer, from, policy, after| {
        let session = balancer.remembered(policy, client(from), now + after);
        session.map(|session| (session.endpoint, session.remaining))
    };
    let cluster = TrafficPolicy::Cluster;
    for _ in 0..2 {
        // To look is not to come again.
        assert_eq!(seen(&balancer, 1, cluster, 4 * SECOND), Some((first, 6 * SECOND)));
    }
    assert_eq!(seen(&balancer, 1, cluster, 10 * SECOND), None, "it is over");
    assert_eq!(seen(&balancer, 2, cluster, SECOND), None, "another client");
    assert_eq!(seen(&balancer, 1, TrafficPolicy::Local, SECOND), None, "no endpoint of the policy");
}

#[test]
fn switched_off_affinity_forgets() {
    let now = Instant::now();
    let mut balancer = balancer(&[1, 2], Some(10 * SECOND), now);
    pick(&mut balancer, 1, now);
    balancer.update(endpoints(&[1, 2], None), now);
    assert_eq!(balancer.session_count(), 0);
    assert_ne!(pick(&mut balancer, 1, now), pick(&mut balancer, 1, now));
}

#[test]
fn expired_sessions_do_not_pile_up() {
    let begin = Instant::now();
    let mut balancer = balancer(&[1, 2], Some(SECOND), begin);
    for from in 0..100_000 {
        pick(&mut balancer, from, begin + Duration::from_millis(from.into()));
    }
    assert!(balancer.session_count() <= 4 * FEW_SESSIONS, "{}", balancer.session_count());
    balancer.update(endpoints(&[1, 2], Some(SECOND)), begin + 1000 * SECOND);
    assert_eq!(balancer.session_count(), 0, "a sync purges");
}

#[test]
fn endpoints_that_failed_rest_if_that_is_wanted() {
    let now = Instant::now();
    let mut balancer = Balancer::new(7, 10 * SECOND);
    balancer.update(endpoints(&[1, 2, 3], None), now);
    balancer.failed(endpoint(2), now);
    let picked = |balancer: &mut Balancer, now| -> Vec<_> {
        (0..6).filter_map(|_| pick(balancer, 0, now)).collect()
    };
    assert!(!picked(&mut balancer, now + 9 * SECOND).contains(&endpoint(2)));
    assert!(picked(&mut balancer, now + 10 * SECOND).contains(&endpoint(2)));
    for number in [1, 2, 3] {
        balancer.failed(endpoint(number), now);
    }
    assert_eq!(picked(&mut balancer, now).len(), 6, "if all rest, none does");
    let mut never = self::balancer(&[1, 2], None, now);
    never.failed(endpoint(1), now);
    assert!(picked(&mut never, now).contains(&endpoint(1)), "off unless asked for");
}

#[test]
fn counters_outlive_an_update() {
    let now = Instant::now();
    let mut balancer = balancer(&[1], None, now);
    let target = balancer.pick(TrafficPolicy::Cluster, peer(1), None, now).unwrap();
    balancer.update(endpoints(&[1, 2], None), now);
    assert!(balancer.targets().any(|other| std::sync::Arc::ptr_eq(other, &target)));
}
