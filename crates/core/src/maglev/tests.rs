use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::{fill, size, table};
use crate::endpoint::{Conditions, NodeHint, Place};
use crate::testing::port;
use crate::{Endpoint, Steering};

fn weighted(number: u32, weight: u16) -> Endpoint {
    Endpoint {
        ip: (0x0af4_0000 + number).to_be_bytes().into(),
        port: port(8080),
        conditions: Conditions::default(),
        place: Place::Unknown,
        node_hint: NodeHint::Absent,
        steering: (weight != Steering::USUAL_WEIGHT)
            .then(|| Arc::new(Steering { weight, zone_hints: Vec::new(), step: None })),
    }
}

fn endpoints(numbers: impl IntoIterator<Item = u32>) -> Vec<Endpoint> {
    numbers.into_iter().map(|number| weighted(number, Steering::USUAL_WEIGHT)).collect()
}

/// The address in each slot.
fn addresses(endpoints: &[Endpoint]) -> Vec<IpAddr> {
    of_size(endpoints, size(endpoints.len()))
}

fn of_size(endpoints: &[Endpoint], size: u32) -> Vec<IpAddr> {
    fill(endpoints, size).into_iter().map(|place| endpoints[place as usize].ip).collect()
}

fn counts(endpoints: &[Endpoint]) -> Vec<u32> {
    let mut counts = vec![0; endpoints.len()];
    for place in table(endpoints) {
        counts[place as usize] += 1;
    }
    counts
}

#[test]
fn sizes_are_primes() {
    let is_prime = |number: u32| (2..=number.isqrt()).all(|d| !number.is_multiple_of(d));
    assert!(super::SIZES.into_iter().all(is_prime));
    let sizes = [0, 1, 2, 127, 128, 511, 512, 2047, 2048, 50_000].map(size);
    assert_eq!(sizes, [0, 1, 1021, 1021, 4093, 4093, 16_381, 16_381, 65_521, 65_521]);
}

#[test]
fn few_endpoints() {
    assert_eq!(table(&[]), [0; 0]);
    assert_eq!(table(&endpoints([7])), [0]);
    assert_eq!(counts(&endpoints([7, 9])), [511, 510]);
}

/// Nodes of a cluster may run different versions of this program, so the table stays what it is.
#[test]
fn the_table_is_the_same_in_every_version() {
    let first: Vec<u32> = table(&endpoints(0..5)).into_iter().take(24).collect();
    assert_eq!(first, FIRST);
    let six = |number: u16| Endpoint {
        ip: std::net::Ipv6Addr::new(0xfd00, 10, 244, 0, 0, 0, 0, number).into(),
        ..weighted(0, 1)
    };
    let first: Vec<u32> =
        table(&(0..5).map(six).collect::<Vec<_>>()).into_iter().take(24).collect();
    assert_eq!(first, FIRST_OF_IPV6);
}

const FIRST: [u32; 24] = [0, 4, 4, 3, 4, 4, 4, 1, 4, 4, 4, 0, 4, 4, 4, 4, 4, 4, 4, 1, 4, 4, 4, 3];
const FIRST_OF_IPV6: [u32; 24] =
    [4, 4, 3, 2, 2, 0, 3, 0, 1, 3, 4, 4, 4, 1, 2, 0, 3, 3, 1, 3, 4, 4, 4, 1];

#[test]
fn slots_are_by_weight() {
    let of = |weights: &[u16]| {
        let all: Vec<_> = (0..).zip(weights).map(|(number, w)| weighted(number, *w)).collect();
        counts(&all)
    };
    assert_eq!(of(&[1, 3]), [256, 765]);
    assert_eq!(of(&[100, 300]), of(&[1, 3]), "what counts is what weights are to each other");
    assert_eq!(of(&[7, 7, 7]), of(&[1, 1, 1]));
    assert_eq!(of(&[1, 2, 4]), [146, 292, 583]);
    assert_eq!(of(&[1, u16::MAX, 1]), [1, 1019, 1], "nobody is left out");
}

proptest! {
    #[test]
    fn the_order_of_the_list_makes_no_difference(
        (list, shuffled) in prop::collection::btree_map(0..500_u32, 1..5_u16, 2..40)
            .prop_map(|all| all.into_iter().map(|(n, w)| weighted(n, w)).collect::<Vec<_>>())
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
    ) {
        prop_assert_eq!(addresses(&list), addresses(&shuffled));
    }

    /// Each endpoint has one slot at least, and as many as its weight says but for the turns that are not whole.
    #[test]
    fn shares_are_right(weights in prop::collection::vec(1..50_u16, 2..60)) {
        let all: Vec<_> = (0..).zip(&weights).map(|(number, w)| weighted(number, *w)).collect();
        let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let number = u32::try_from(weights.len()).unwrap_or(u32::MAX);
        for (count, weight) in counts(&all).into_iter().zip(&weights) {
            let share = f64::from(*weight) / f64::from(sum);
            let due = 1021.0 * share;
            // At any time each has had up to one turn more than its share, so the table is full by up to so many turns too early.
            let bound = 1.0 + f64::from(number) * share;
            // The turns of everybody begin with the first, so who is due less than one has one too.
            prop_assert!(count >= 1 && (f64::from(count) - due).abs() <= bound, "{count}, {due}");
        }
    }

    /// What goes leaves its slots to the others, and what comes back has them again.
    #[test]
    fn few_slots_change_hands(count in 3..100_u32, gone in any::<prop::sample::Index>()) {
        let all = endpoints(0..count);
        let mut rest = all.clone();
        let gone = rest.remove(gone.index(all.len()));
        let (before, after) = (addresses(&all), addresses(&rest));
        prop_assert!(!after.contains(&gone.ip));
        let stayed = before.iter().zip(&after).filter(|(old, new)| old == new).count();
        let held = before.iter().filter(|ip| **ip == gone.ip).count();
        let others = before.len() - held - stayed;
        // Of a hash by the remainder all but a few would.
        prop_assert!(others * 5 < before.len(), "{others} of {} slots", before.len());
        prop_assert_eq!(addresses(&all), before);
    }
}

/// Removes so many endpoints, spread over the list, others in each round.
fn without(all: &[Endpoint], gone: usize, round: usize) -> Vec<Endpoint> {
    let step = all.len() / gone;
    let goes = |place: usize| place % step == round % step && place / step < gone;
    let rest = all.iter().enumerate().filter(|(place, _)| !goes(*place));
    rest.map(|(_, endpoint)| endpoint.clone()).collect()
}

/// One row: so many endpoints and slots, the greatest and the smallest share in percent of the average, and how many slots change hands in
/// percent of all when so many endpoints go, without those that these endpoints had: the average of ten choices.
fn row(count: u32, slots: u32, gone: usize) -> String {
    const ROUNDS: u32 = 10;
    let all = endpoints(0..count);
    let before = of_size(&all, slots);
    let held = |ip: IpAddr| u32::try_from(before.iter().filter(|other| **other == ip).count());
    let held: Vec<u32> = all.iter().map(|endpoint| held(endpoint.ip).unwrap()).collect();
    let share = |held: Option<&u32>| f64::from(*held.unwrap() * count) * 100.0 / f64::from(slots);
    let mut moved = 0;
    for round in 0..ROUNDS {
        let rest = without(&all, gone, round as usize * 7);
        assert_eq!(rest.len(), all.len() - gone);
        let remains: BTreeSet<IpAddr> = rest.iter().map(|endpoint| endpoint.ip).collect();
        let after = of_size(&rest, slots);
        let pairs = before.iter().zip(&after);
        let others = pairs.filter(|(old, new)| old != new && remains.contains(*old)).count();
        moved += u32::try_from(others).unwrap();
    }
    let moved = f64::from(moved) * 100.0 / f64::from(ROUNDS * slots);
    let (most, least) = (share(held.iter().max()), share(held.iter().min()));
    format!("| {count} | {slots} | {most:.1} % | {least:.1} % | {gone} | {moved:.2} % |")
}

/// What `docs/steering.md` says. The last rows are the set-up of the paper, section 5.3, with the smaller of its tables.
#[test]
fn the_table_in_the_documentation() {
    let document = include_str!("../../../../docs/steering.md");
    let ours =
        [(3, 1), (10, 1), (50, 1), (100, 1), (100, 5), (127, 1), (500, 5), (1000, 1), (1000, 5)];
    let ours = ours.map(|(count, gone)| row(count, size(count as usize), gone));
    let of_paper = [1, 5, 20].map(|gone| row(1000, 65_537, gone));
    let mut missing = String::new();
    for row in ours.iter().chain(&of_paper).filter(|row| !document.lines().any(|l| l == **row)) {
        let _ = writeln!(missing, "{row}");
    }
    assert!(missing.is_empty(), "these rows belong into docs/steering.md:\n{missing}");
}
