use kube_proxy_core::testing;
use kube_proxy_core::{Event, Tracker, TrafficPolicy};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use super::*;

const MASK: u32 = 0x1f7f;
const MASQUERADE: u32 = 0x4000;

/// So many Services under the external policy `Local`, the first under affinity.
fn services(count: u16) -> Tracker {
    let mut tracker = testing::tracker();
    for number in 0..count {
        let [high, low] = number.to_be_bytes();
        let ip = IpAddr::from([10, 96, high, low]).to_string();
        let mut service = testing::service(&format!("ns/s{number:05}"), &ip);
        service.ports[0].node_port = NonZeroU16::new(30_000 + number);
        service.policy.external_traffic_policy = TrafficPolicy::Local;
        service.policy.session_affinity = (number == 0).then_some(Duration::from_mins(1));
        tracker.apply(Event::ServiceApplied(Arc::new(service)));
    }
    tracker.fold();
    tracker
}

fn names(tracker: &Tracker) -> Vec<ServicePortName> {
    let mut names: Vec<_> = tracker.snapshot().services.keys().cloned().collect();
    names.sort_unstable();
    names
}

fn assigned(tracker: &Tracker, mask: u32) -> Marks {
    let mut marks = Marks::new(mask, MASQUERADE);
    marks.assign(tracker.snapshot(), names(tracker).iter());
    marks
}

#[test]
fn bits_of_others_are_left_alone() {
    let bits = Bits::new(MASK, MASQUERADE).unwrap();
    assert_eq!((bits.sign(), bits.mask(), bits.count()), (0x1000, MASK, 2047));
    let marks: FxHashSet<u32> = (1..=bits.count()).map(|number| bits.mark(number)).collect();
    assert_eq!(marks.len(), 2047, "all different");
    assert!(marks.iter().all(|mark| bits.has(*mark)));
    // What asks for masquerading is no part of them, wherever it is.
    let bits = Bits::new(MASK, 0x1000).unwrap();
    assert_eq!((bits.sign(), bits.mask(), bits.count()), (0x800, 0xf7f, 1023));
    for (mask, masquerade) in [(0, 1), (1, 2), (3, 2)] {
        assert_eq!(Bits::new(mask, masquerade), None, "no mark is left");
    }
    let all = Bits::new(u32::MAX, MASQUERADE).unwrap();
    assert!(all.has(all.mark(all.count())));
}

#[test]
fn each_service_port_has_its_own_unless_it_has_affinity() {
    let tracker = services(5);
    let marks = assigned(&tracker, MASK);
    let names = names(&tracker);
    let given: Vec<_> = names.iter().map(|name| marks.of(name)).collect();
    let expected = [None, Some(0x1001), Some(0x1002), Some(0x1003), Some(0x1004)];
    assert_eq!(given, expected);
    assert_eq!(marks.without().iter().collect::<Vec<_>>(), [&names[0]]);
    assert_eq!(marks.of_packets(0x1001), [0x1001, 0x5001]);
    let off = assigned(&tracker, 0);
    assert_eq!((off.of(&names[1]), off.without().len()), (None, 5));
}

#[test]
fn those_that_the_node_has_are_recovered() {
    let tracker = services(4);
    let names = names(&tracker);
    let node: IpAddr = "172.18.0.2".parse().unwrap();
    // The third is in no entry of a frontend, but of something else; the last that of a virtual server of another program.
    let recorded: FxHashMap<Place, u32> = [
        ((node, 6, 30_001), 0x1042),
        ((node, 6, 29_999), 0x1001),
        ((node, 6, 30_002), 0x1042),
        ((node, 6, 30_003), 0x1007),
    ]
    .into_iter()
    .collect();
    let foreign: FxHashSet<u32> = [0x5007, 0x1002].into_iter().collect();
    let mut marks = Marks::new(MASK, MASQUERADE);
    marks.recover(tracker.snapshot(), &recorded, &foreign, &[node]);
    assert!(marks.assign(tracker.snapshot(), names.iter()));
    assert_eq!(marks.of(&names[1]), Some(0x1042));
    // 0x1001 has an entry on the node, and 0x1002 is another program's.
    assert_eq!(marks.of(&names[2]), Some(0x1003));
    assert_eq!(marks.of(&names[3]), Some(0x1004));
    let again = |marks: &mut Marks| {
        marks.recover(tracker.snapshot(), &FxHashMap::default(), &FxHashSet::default(), &[node]);
        marks.assign(tracker.snapshot(), names.iter());
        names.iter().map(|name| marks.of(name)).collect::<Vec<_>>()
    };
    assert_eq!(again(&mut marks), again(&mut marks), "without entries it remembers");
}

#[test]
fn what_is_given_back_comes_last() {
    let mut tracker = services(3);
    let few = names(&tracker);
    // Three marks, two of which are taken.
    let mut marks = assigned(&tracker, 0x1003);
    assert_eq!([1, 2].map(|at| marks.of(&few[at])), [Some(0x1001), Some(0x1002)]);
    tracker.apply(Event::ServiceDeleted(few[1].service.clone()));
    tracker.fold();
    marks.release(tracker.snapshot(), few.iter());
    let more = services(6);
    let all = names(&more);
    let enough = marks.assign(more.snapshot(), all[3..5].iter());
    assert!(enough);
    assert_eq!(marks.of(&all[3]), Some(0x1003));
    assert_eq!(marks.of(&all[4]), Some(0x1001));
    assert!(!marks.assign(more.snapshot(), all[5..].iter()));
    assert_eq!(marks.without().len(), 2, "the one with affinity, and the one too many");
}
