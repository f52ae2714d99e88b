use std::sync::Arc;

use proptest::prelude::*;

use super::{most, slots};
use crate::endpoint::{Conditions, NodeHint, Place};
use crate::testing::{ip, port};
use crate::{Endpoint, Steering};

fn endpoints(weights: &[u16]) -> Vec<Endpoint> {
    let endpoint = |weight: &u16| Endpoint {
        ip: ip("10.0.0.1"),
        port: port(80),
        conditions: Conditions::default(),
        place: Place::Unknown,
        node_hint: NodeHint::Absent,
        steering: (*weight != Steering::USUAL_WEIGHT)
            .then(|| Arc::new(Steering { weight: *weight, zone_hints: Vec::new(), step: None })),
    };
    weights.iter().map(endpoint).collect()
}

fn of(weights: &[u16]) -> Option<Vec<u32>> {
    slots(&endpoints(weights))
}

#[test]
fn what_counts_is_what_weights_are_to_each_other() {
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[1, 1, 1]), None);
    assert_eq!(of(&[7, 7]), None, "all alike");
    assert_eq!(of(&[100, 300]), Some(vec![1, 3]));
    assert_eq!(of(&[1, 99]), Some(vec![1, 99]));
    assert_eq!(of(&[2, 4, 6]), Some(vec![1, 2, 3]));
}

#[test]
fn the_number_of_slots_is_bounded_and_nobody_is_left_out() {
    assert_eq!(of(&[1, u16::MAX]), Some(vec![1, 1023]));
    let many = of(&[vec![1; 1000], vec![u16::MAX]].concat()).unwrap();
    assert_eq!(many.iter().map(|slots| *slots as usize).sum::<usize>(), most(1001));
    assert!(many[..1000].iter().all(|slots| *slots == 1));
}

#[test]
fn zone_hints_alone_make_no_weights() {
    let mut all = endpoints(&[1, 1]);
    let zone_hints = vec!["a".into()];
    all[0].steering =
        Some(Arc::new(Steering { weight: Steering::USUAL_WEIGHT, zone_hints, step: None }));
    assert_eq!(slots(&all), None);
}

proptest! {
    /// Each endpoint has a slot, there are not too many, and where that allows it every share is right to less than one slot.
    #[test]
    fn shares_are_right(weights in prop::collection::vec(prop_oneof![1..=9_u16, 1..=u16::MAX], 1..200)) {
        let Some(slots) = of(&weights) else {
            prop_assert!(weights.iter().all(|weight| *weight == weights[0]));
            return Ok(());
        };
        let total: usize = slots.iter().map(|slots| *slots as usize).sum();
        prop_assert!(total <= most(weights.len()));
        prop_assert!(slots.iter().all(|slots| *slots > 0));
        // Those that are due less than a slot get one, which all others pay for.
        let others = || weights.iter().zip(&slots).filter(|(_, slots)| **slots > 1);
        for ((one, of_one), (other, of_other)) in others().flat_map(|a| others().map(move |b| (a, b))) {
            let (one, other) = (f64::from(*one), f64::from(*other));
            let off = f64::from(*of_one) * other - f64::from(*of_other) * one;
            prop_assert!(off.abs() < one + other, "{one} got {of_one}, {other} got {of_other}");
        }
    }

    /// More weight is never less traffic.
    #[test]
    fn the_order_is_that_of_weights(weights in prop::collection::vec(1..=u16::MAX, 2..50)) {
        let slots = of(&weights).unwrap_or_else(|| vec![1; weights.len()]);
        for (one, of_one) in weights.iter().zip(&slots) {
            for (other, of_other) in weights.iter().zip(&slots) {
                prop_assert!(one >= other || of_one <= of_other, "{one}: {of_one}, {other}: {of_other}");
            }
        }
    }
}
