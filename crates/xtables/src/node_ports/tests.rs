use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_hole_is_cut_out_of_a_network() {
    let loopback = net("127.0.0.0/8");
    assert_eq!(without(net("127.1.0.0/16"), loopback), []);
    assert_eq!(without(net("127.0.0.0/8"), loopback), []);
    assert_eq!(without(net("10.0.0.0/8"), loopback), [net("10.0.0.0/8")]);
    assert_eq!(without(net("126.0.0.0/7"), loopback), [net("126.0.0.0/8")]);
    let everything_else = without(net("0.0.0.0/0"), loopback);
    assert_eq!(everything_else.len(), 8);
    assert!(everything_else.iter().all(|rest| !rest.contains(&loopback)));
}
