use super::{NodePortAddresses, Where};
use kube_proxy_core::IpFamily;

#[test]
fn all_addresses_or_those_that_take_node_ports() {
    let local: Vec<_> = ["10.0.0.1", "10.1.0.1", "127.0.0.1", "fd00::1", "fd01::1"]
        .map(|ip| ip.parse().unwrap())
        .to_vec();
    let text = |place: &Where, family| {
        let addresses = place.addresses(family);
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let all = Where { scope: NodePortAddresses::All, local: Vec::new() };
    assert_eq!(text(&all, IpFamily::V4), ["0.0.0.0"]);
    assert_eq!(text(&all, IpFamily::V6), ["::"]);
    let nets = ["10.0.0.0/16", "fd01::/16"].map(|net| net.parse().unwrap());
    let some = Where { scope: NodePortAddresses::Within(nets.to_vec()), local };
    assert_eq!(text(&some, IpFamily::V4), ["10.0.0.1"]);
    assert_eq!(text(&some, IpFamily::V6), ["fd01::1"]);
    let none = Where { scope: NodePortAddresses::Within(Vec::new()), ..some };
    assert!(none.addresses(IpFamily::V4).is_empty(), "an unknown address is no reason for all");
}
