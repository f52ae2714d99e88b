use std::num::NonZeroU32;

use expect_test::expect;

use super::*;

fn config() -> Config {
    Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::None,
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

/// Kernels without flowtables cannot list it, so it is compared here.
#[test]
fn forwarded_connections_are_offloaded_last() {
    let mut config = config();
    let none = Parts::default();
    let without = Rules::new(&config, none).of_static(Fixed::FilterForward);
    config.offload_after = NonZeroU32::new(20);
    let parts = Parts { flowtable: true, ..none };
    let rules = Rules::new(&config, parts).of_static(Fixed::FilterForward);
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
    assert_eq!(Rules::new(&config, parts).of_static(Fixed::FilterOutput), without);
}

/// By what clients sent to: those of the sets, or all others where the node is in the fast path.
#[test]
fn frontends_decide_where_services_choose() {
    let mut config = config();
    let jump = Rules::new(&config, Parts::ALL).of_static(Fixed::FilterForward);
    let last = jump.last().and_then(|rule| rule.expressions.last());
    assert_eq!(last, Some(&Expression::Verdict(Verdict::Jump(FAST_PATH.into()))));
    let ends = |config: &Config| {
        let rules = Rules::new(config, Parts::ALL).of(Chain::FastPath);
        let end = |rule: &Rule| match rule.expressions.as_slice() {
            [.., Expression::Lookup { set, invert: false, .. }, end] => format!("{set}: {end:?}"),
            [end] => format!("{end:?}"),
            other => panic!("{other:?}"),
        };
        rules.iter().map(end).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        fast-path-ips: Offload { flowtable: "fast-path" }
        fast-path-nodeports: Offload { flowtable: "fast-path" }
        fast-path-ips: Offload { flowtable: "fast-path" }
        fast-path-nodeports: Offload { flowtable: "fast-path" }"#]]
    .assert_eq(&ends(&config));
    config.offload_after = NonZeroU32::new(20);
    expect![[r#"
        fast-path-ips: Verdict(Return)
        fast-path-nodeports: Verdict(Return)
        fast-path-ips: Verdict(Return)
        fast-path-nodeports: Verdict(Return)
        Offload { flowtable: "fast-path" }"#]]
    .assert_eq(&ends(&config));
}
