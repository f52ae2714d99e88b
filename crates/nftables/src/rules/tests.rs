use expect_test::expect;

use super::*;

/// Kernels without flowtables cannot list it, so it is compared here.
#[test]
fn forwarded_connections_are_offloaded_last() {
    let mut config = Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::None,
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
    };
    let without = Rules::new(&config).of_static(Fixed::FilterForward);
    config.offload_after = NonZeroU32::new(20);
    let rules = Rules::new(&config).of_static(Fixed::FilterForward);
    assert_eq!(rules[..without.len()], without);
    let [rule] = &rules[without.len()..] else { panic!("{rules:?}") };
    let lines: Vec<_> = rule.expressions.iter().map(|one| format!("{one:?}")).collect();
    expect![[r#"
        Ct { key: State, to: Register(8) }
        Bitwise { from: Register(8), to: Register(8), mask: [2, 0, 0, 0], xor: [0, 0, 0, 0] }
        Compare { comparison: NotEqual, register: Register(8), value: [0, 0, 0, 0] }
        Ct { key: Status, to: Register(8) }
        Bitwise { from: Register(8), to: Register(8), mask: [32, 0, 0, 0], xor: [0, 0, 0, 0] }
        Compare { comparison: NotEqual, register: Register(8), value: [0, 0, 0, 0] }
        Ct { key: Packets, to: Register(8) }
        ToNetworkOrder { register: Register(8) }
        Compare { comparison: Greater, register: Register(8), value: [0, 0, 0, 0, 0, 0, 0, 20] }
        Offload { flowtable: "fast-path" }"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(Rules::new(&config).of_static(Fixed::FilterOutput), without);
}
