use proptest::prelude::*;

use super::*;
use kube_proxy_xtables::split_words;

fn held(rule: &str) -> ChainRules {
    let mut held = ChainRules::default();
    held.push(rule);
    held
}

#[test]
fn spellings_of_the_same_rule() {
    let same = [
        ("-m comment --comment \"a/b:c\" -j X", "-m comment --comment a/b:c -j X"),
        ("-j MARK --or-mark 0x4000", "-j MARK --set-xmark 0x4000/0x4000"),
        ("-j MARK --xor-mark 0x4000", "-j MARK --set-xmark 0x4000/0x0"),
        ("-j REJECT", "-j REJECT --reject-with icmp-port-unreachable"),
        ("-j REJECT", "-j REJECT --reject-with icmp6-port-unreachable"),
        ("--probability 0.3333333333 -j X", "--probability 0.33333333349 -j X"),
        ("--name X --rsource", "--name X --mask 255.255.255.255 --rsource"),
    ];
    for (ours, printed) in same {
        assert_eq!(held(ours), held(printed), "{ours}");
    }
}

#[test]
fn rules_that_differ() {
    let rules = [
        "-s 10.0.0.1/32 -j X",
        "! -s 10.0.0.1/32 -j X",
        "-s 10.0.0.1/32 -g X",
        "-s 10.0.0.1/32 -j X Y",
        "-s 10.0.0.1/32 -j XY",
        "-j MARK --or-mark 0x4000",
        "-j MARK --xor-mark 0x4000",
        "-j MARK --set-xmark 0x4000",
        "-m statistic --probability 0.3333333333 -j X",
        "-m statistic --probability 0.3333333300 -j X",
        "-m comment --comment \"-j X\"",
        "-m comment --comment -j X",
        "-j REJECT",
        "-j REJECT --reject-with tcp-reset",
        "-j DROP",
        "--mask 255.255.0.0",
        "",
    ];
    for (index, one) in rules.iter().enumerate() {
        for other in &rules[index + 1..] {
            assert_ne!(held(one), held(other), "{one} and {other}");
        }
    }
}

#[test]
fn order_and_number_of_rules_count() {
    let chain = ChainName::fixed("KUBE-A");
    let of = |lines| ChainRules::of(chain, lines);
    assert_eq!(of("-A KUBE-A -j X\n-A KUBE-A -j Y\n"), of("-A KUBE-A -j \"X\"\n-A KUBE-A -j Y\n"));
    assert_ne!(of("-A KUBE-A -j X\n-A KUBE-A -j Y\n"), of("-A KUBE-A -j Y\n-A KUBE-A -j X\n"));
    assert_ne!(of("-A KUBE-A -j X\n"), of("-A KUBE-A -j X\n-A KUBE-A -j X\n"));
    assert_eq!(of(""), ChainRules::default());
}

proptest! {
    #[test]
    fn the_same_words_as_elsewhere(rule in r#"([-a\\" ]|\PC){0,40}"#) {
        let words: Vec<_> = Words(&rule).map(Cow::into_owned).collect();
        prop_assert_eq!(words, split_words(&rule));
    }
}
