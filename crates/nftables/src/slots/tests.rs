use std::num::NonZeroU16;

use std::sync::Arc;

use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::{Conditions, Steering};
use proptest::prelude::*;

use super::*;

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        ip: [10, 0, 0, number].into(),
        port: NonZeroU16::new(80).unwrap(),
        conditions: Conditions::default(),
        place: if number.is_multiple_of(2) { Place::ThisNode } else { Place::OtherNode },
        node_hint: NodeHint::Absent,
        steering: None,
    }
}

fn weighing(number: u8, weight: u16) -> Endpoint {
    let steering = Some(Arc::new(Steering { weight, zone_hints: Vec::new(), step: None }));
    Endpoint { steering, ..endpoint(number) }
}

fn assign(before: &[SocketAddr], endpoints: &[Endpoint]) -> Vec<Slot> {
    Slots::assign(before, endpoints).of(endpoints).collect()
}

fn check(before: &[u8], endpoints: &[u8], expected: &[u8]) {
    let before: Vec<_> = before.iter().map(|n| endpoint(*n).socket_address()).collect();
    let endpoints: Vec<_> = endpoints.iter().map(|n| endpoint(*n)).collect();
    let expected: Vec<_> = expected.iter().map(|n| Slot::from(&endpoint(*n))).collect();
    assert_eq!(assign(&before, &endpoints), expected);
}

#[test]
fn endpoints_keep_their_slots() {
    check(&[], &[1, 2, 3], &[1, 2, 3]);
    check(&[3, 1, 2], &[1, 2, 3], &[3, 1, 2]);
    // One comes: at the end. One goes: the last moves into the hole. One for another: in its place.
    check(&[3, 1, 2], &[1, 2, 3, 4], &[3, 1, 2, 4]);
    check(&[3, 1, 2], &[1, 2], &[2, 1]);
    check(&[3, 1, 2], &[1, 3], &[3, 1]);
    check(&[3, 1, 2], &[0, 2, 3], &[3, 0, 2]);
    check(&[3, 1, 2], &[], &[]);
    // What was read back may be nonsense.
    check(&[1, 1, 9], &[1, 2], &[1, 2]);
}

#[test]
fn an_endpoint_has_as_many_slots_as_its_weight() {
    let address = |n: &u8| endpoint(*n).socket_address();
    let check = |before: &[u8], endpoints: &[(u8, u16)], expected: &[u8]| {
        let before: Vec<_> = before.iter().map(address).collect();
        let endpoints: Vec<_> = endpoints.iter().map(|(n, w)| weighing(*n, *w)).collect();
        let slots: Vec<_> = assign(&before, &endpoints).iter().map(Slot::address).collect();
        assert_eq!(slots, expected.iter().map(address).collect::<Vec<_>>());
    };
    check(&[], &[(1, 1), (2, 3)], &[1, 2, 2, 2]);
    // One more slot, and nothing else, then one less of another.
    check(&[2, 1], &[(1, 1), (2, 3)], &[2, 1, 2, 2]);
    check(&[2, 1, 2, 2], &[(1, 2), (2, 3)], &[2, 1, 2, 2, 1]);
    check(&[2, 1, 2, 2, 1], &[(1, 1), (2, 3)], &[2, 1, 2, 2]);
    check(&[2, 1, 2, 2], &[(1, 1), (2, 2)], &[2, 1, 2]);
    check(&[2, 1, 2, 2], &[(1, 7), (2, 7)], &[2, 1]);
    check(&[2, 1, 2, 2], &[(1, 1), (3, 3)], &[3, 1, 3, 3]);
}

proptest! {
    #[test]
    fn weights_change_as_few_slots_as_possible(
        before in prop::collection::vec(0..8_u8, 0..40),
        wanted in prop::collection::btree_map(0..8_u8, 1..6_u16, 0..8),
    ) {
        let before: Vec<_> = before.iter().map(|n| endpoint(*n).socket_address()).collect();
        let endpoints: Vec<_> = wanted.iter().map(|(n, weight)| weighing(*n, *weight)).collect();
        let slots: Vec<_> = assign(&before, &endpoints).iter().map(Slot::address).collect();
        let times = |list: &[SocketAddr], e: &Endpoint| list.iter().filter(|a| **a == e.socket_address()).count();
        let due = weight::slots(&endpoints).unwrap_or_else(|| vec![1; endpoints.len()]);
        let mut could = 0;
        for (endpoint, due) in endpoints.iter().zip(due) {
            prop_assert_eq!(times(&slots, endpoint), due as usize);
            could += times(&before[..before.len().min(slots.len())], endpoint).min(due as usize);
        }
        let kept = slots.iter().zip(&before).filter(|(new, old)| new == old).count();
        prop_assert_eq!(kept, could);
        prop_assert_eq!(assign(&slots, &endpoints).iter().map(Slot::address).collect::<Vec<_>>(), slots);
    }

    #[test]
    fn as_few_slots_change_as_possible(
        before in Just((0..12_u8).collect::<Vec<_>>()).prop_shuffle(),
        length in 0_usize..12,
        wanted in prop::collection::btree_set(0..16_u8, 0..12),
    ) {
        let before: Vec<_> = before[..length].iter().map(|n| endpoint(*n).socket_address()).collect();
        let endpoints: Vec<_> = wanted.iter().map(|n| endpoint(*n)).collect();
        let slots = assign(&before, &endpoints);
        let mut sorted: Vec<_> = slots.iter().map(Slot::address).collect();
        let kept = sorted.iter().zip(&before).filter(|(new, old)| new == old).count();
        sorted.sort_unstable();
        let all: Vec<_> = endpoints.iter().map(Endpoint::socket_address).collect();
        prop_assert_eq!(sorted, all, "each endpoint once");
        let could = before.iter().take(slots.len());
        let could = could.filter(|old| endpoints.iter().any(|e| e.socket_address() == **old)).count();
        prop_assert_eq!(kept, could);
    }
}
