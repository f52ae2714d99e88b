use super::{Facts, Forward, decide};
use kube_proxy_config::Mode;

#[test]
fn nftables_where_nothing_speaks_against_it() {
    let fresh = Facts::default();
    for (facts, mode, reason) in [
        (fresh.clone(), Mode::Nftables, "the kernel has what it needs"),
        (
            Facts { lacks: Some("no nf_tables".to_owned()), ..fresh.clone() },
            Mode::Iptables,
            "no nf_tables",
        ),
        (Facts { firewall: Some("policy".to_owned()), ..fresh.clone() }, Mode::Iptables, "policy"),
        (Facts { iptables_rules: true, ..fresh.clone() }, Mode::Iptables, "already"),
        (Facts { nftables_rules: true, ..fresh.clone() }, Mode::Nftables, "already"),
    ] {
        let choice = decide(&facts);
        assert_eq!(choice.mode, mode, "{facts:?}");
        assert!(choice.reason.contains(reason), "{choice:?}");
    }
}

#[test]
fn a_mode_that_has_rules_stays_unless_it_is_impossible() {
    // A firewall that came later, and a change of mode that is under way.
    let served =
        Facts { nftables_rules: true, firewall: Some("policy".to_owned()), ..Facts::default() };
    assert_eq!(decide(&served).mode, Mode::Nftables);
    let both = Facts { iptables_rules: true, ..served.clone() };
    assert_eq!(decide(&both).mode, Mode::Nftables);
    let gone = Facts { lacks: Some("another kernel".to_owned()), ..served };
    assert_eq!(decide(&gone).mode, Mode::Iptables);
}

#[test]
fn a_chain_that_refuses_the_rest_is_recognised() {
    for (lines, drops) in [
        ("", false),
        (":FORWARD ACCEPT [0:0]\n-A FORWARD -j DOCKER-USER", false),
        (":FORWARD DROP [0:0]", true),
        (":INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]", false),
        (":FORWARD ACCEPT [0:0]\n-A FORWARD -s 10.0.0.0/8 -j ACCEPT\n-A FORWARD -j DROP", true),
        (
            "-A FORWARD -j REJECT --reject-with icmp-host-prohibited\n-A FORWARD -m comment --comment x -j KUBE-FORWARD",
            true,
        ),
        ("-A FORWARD -s 10.1.0.0/16 -j DROP", false),
        ("-A FORWARD -j DROP\n-A FORWARD -j LOG", false),
    ] {
        let mut forward = Forward::default();
        lines.lines().for_each(|line| forward.line(line));
        assert_eq!(forward.drops().is_some(), drops, "{lines}");
    }
}
