use std::num::NonZeroU32;

use kube_proxy_core::{IpFamily, LocalTrafficDetector};

use super::*;

#[test]
fn differing_rules_are_counted_and_placed() {
    let config = Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::None,
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: NonZeroU32::new(20),
        count_refused: false,
        fast_path_choice: false,
    };
    let parts = Parts { flowtable: true, ..Parts::default() };
    let wanted = Rules::new(&config, parts).of_static(Fixed::FilterForward);
    let right: Vec<_> = wanted.iter().map(|rule| Some(rule.fingerprint())).collect();
    assert_eq!(differing_rules(&right, &wanted), None);
    let said = |found: &[Option<u64>]| differing_rules(found, &wanted).unwrap();
    assert_eq!(said(&[]), "one without rules");
    assert_eq!(said(&right[1..]), "one with 3 rules instead of 4");
    let mut other = right.clone();
    other[1] = Some(7);
    assert_eq!(said(&other), "one whose rule 2 of 4 is another");
    other[1] = None;
    assert_eq!(said(&other), "one whose rule 2 of 4 is another, 1 by another program");
    other.swap(1, 3);
    assert_eq!(said(&other), "one whose rule 2 of 4 is another, 1 by another program");
}
