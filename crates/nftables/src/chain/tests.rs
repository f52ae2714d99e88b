use expect_test::expect;
use kube_proxy_core::IpFamily;

use super::*;

#[test]
fn names_say_what_chains_do_and_are_read_back() {
    let mut names = Vec::new();
    for family in IpFamily::BOTH {
        for chain in Pick::ALL.into_iter().flat_map(|pick| examples(family, pick)) {
            let name = chain.to_string();
            assert_eq!(Chain::parse(&name), Some(chain), "{name}");
            assert!(name.len() < 128);
            // What nft takes as a name.
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()));
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{name}");
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let some: Vec<_> = names.iter().step_by(5).cloned().collect();
    expect![[r#"
        remember-127.0.0.1-tcp-1-1
        masq-node-cluster-1
        local-1
        masq-local-1-affinity-127.0.0.1-tcp-1
        masq-outside-nodeport-cluster-1
        masq-node-nodeport-cluster-1-affinity-127.0.0.1-tcp-1
        nodeport-local-1-affinity-127.0.0.1-tcp-1
        masq-cluster-1-by-source
        masq-outside-cluster-1-by-source-affinity-127.0.0.1-tcp-1
        masq-node-local-1-by-source
        nodeport-cluster-1-by-source
        masq-nodeport-cluster-1-by-source-affinity-127.0.0.1-tcp-1
        masq-outside-nodeport-local-1-by-source
        masq-node-nodeport-local-1-by-source-affinity-127.0.0.1-tcp-1
        cluster-1-by-source-port-affinity-127.0.0.1-tcp-1
        masq-local-1-by-source-port
        masq-outside-local-1-by-source-port-affinity-127.0.0.1-tcp-1
        masq-node-nodeport-cluster-1-by-source-port
        nodeport-local-1-by-source-port
        masq-nodeport-local-1-by-source-port-affinity-127.0.0.1-tcp-1
        cluster-1-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-local-1-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-outside-nodeport-cluster-1-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-node-nodeport-local-1-affinity-0.0.0.0.0.0.0.1-tcp-1
        local-1-by-source-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-nodeport-cluster-1-by-source-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-outside-nodeport-local-1-by-source-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-node-cluster-1-by-source-port-affinity-0.0.0.0.0.0.0.1-tcp-1
        nodeport-cluster-1-by-source-port-affinity-0.0.0.0.0.0.0.1-tcp-1
        masq-nodeport-local-1-by-source-port-affinity-0.0.0.0.0.0.0.1-tcp-1"#]]
    .assert_eq(&some.join("\n"));
    assert_eq!(Chain::parse(REJECT), Some(Chain::Reject));
}

#[test]
fn other_names_are_not_ours() {
    for name in [
        "",
        "services",
        "cluster",
        "cluster-",
        "cluster-0",
        "cluster-03",
        "cluster-+3",
        "cluster-3-",
        "cluster-3-affinity-",
        "cluster-3-affinity-x",
        "cluster-by-source",
        "cluster-3-by-source-",
        "cluster-3-by-source-by-source",
        "masq-masq-cluster-3",
        "masq-node-",
        "nodeport-3",
        "cluster-3-affinity-10",
        "cluster-3-affinity-10.0.0.1-tcp",
        "cluster-3-affinity-10.0.0.1-icmp-80",
        "remember-",
        "remember-10.0.0.1",
        "remember-10.0.0.1-tcp-80",
        "remember-10.0.0.1-tcp-99999-1",
        "remember-local-local-10.0.0.1-tcp-80-1",
        "remember-1.2.3.4.5.6.7-tcp-80-1",
        "remember-1.2.3.4.5.6.7.8.9-tcp-80-1",
        "remember-01.2.3.4.5.6.7.8-tcp-80-1",
        "service-ABC",
    ] {
        assert_eq!(Chain::parse(name), None, "{name:?}");
    }
}

#[test]
fn addresses_that_look_alike_have_different_names() {
    let name = |ip: &str| {
        let sessions = Sessions { ip: ip.parse().unwrap(), protocol: Protocol::Udp, port: 80 };
        Chain::Remember(Remember { sessions, timeout: 1, local: false }).to_string()
    };
    assert_ne!(name("::ffff:1.2.3.4"), name("::ffff:1:2:3:4"));
    assert_eq!(name("::ffff:1.2.3.4"), "remember-0.0.0.0.0.ffff.102.304-udp-80-1");
}
