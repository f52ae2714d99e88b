use proptest::prelude::*;

use super::*;

fn check(nets: &[&str], expected: &[&str]) {
    let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
    let ranges: Vec<_> =
        from_nets(&nets).iter().map(|range| format!("{}-{}", range.first, range.last)).collect();
    assert_eq!(ranges, expected);
}

#[test]
fn overlapping_and_touching_ranges_are_joined() {
    check(&[], &[]);
    check(&["10.0.0.0/8", "10.1.0.0/16"], &["10.0.0.0-10.255.255.255"]);
    check(&["10.0.1.0/24", "10.0.0.0/24"], &["10.0.0.0-10.0.1.255"]);
    check(&["10.0.0.0/24", "10.0.2.0/24"], &["10.0.0.0-10.0.0.255", "10.0.2.0-10.0.2.255"]);
    check(&["0.0.0.0/0", "255.255.255.255/32"], &["0.0.0.0-255.255.255.255"]);
    check(&["ffff::/16", "fffe::/16"], &["fffe::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
}

proptest! {
    #[test]
    fn an_address_is_in_the_ranges_iff_it_is_in_a_network(
        nets in prop::collection::vec((0_u32..64, 26_u8..=32), 0..8),
        probe in 0_u32..64,
    ) {
        let base = u32::from(Ipv4Addr::new(255, 255, 255, 192));
        let nets: Vec<IpNet> = nets
            .into_iter()
            .map(|(host, prefix)| IpNet::new(Ipv4Addr::from(base + host).into(), prefix).unwrap())
            .collect();
        let ip = IpAddr::from(Ipv4Addr::from(base + probe));
        let ranges = from_nets(&nets);
        let within = ranges.iter().any(|range| range.first <= ip && ip <= range.last);
        prop_assert_eq!(within, nets.iter().any(|net| net.contains(&ip)));
        for pair in ranges.windows(2) {
            // There is at least one address between two ranges.
            prop_assert!(pair[0].end().unwrap() < pair[1].first);
        }
    }
}
