use expect_test::expect;
use kube_proxy_core::IpFamily;

use super::*;

#[test]
fn names_say_what_chains_do_and_are_read_back() {
    let mut names = Vec::new();
    for family in IpFamily::BOTH {
        for chain in examples(family) {
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
    expect![[r"
        endpoint-127.0.0.1-1-1
        cluster-1-affinity-1
        masq-local-1
        masq-outside-local-1-affinity-1
        masq-node-nodeport-cluster-1
        nodeport-local-1
        masq-nodeport-local-1-affinity-1"]]
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
        "masq-masq-cluster-3",
        "masq-node-",
        "nodeport-3",
        "endpoint-",
        "endpoint-10.0.0.1",
        "endpoint-10.0.0.1-80",
        "endpoint-10.0.0.1-99999-1",
        "endpoint-1.2.3.4.5.6.7-80-1",
        "endpoint-1.2.3.4.5.6.7.8.9-80-1",
        "endpoint-01.2.3.4.5.6.7.8-80-1",
        "service-ABC",
    ] {
        assert_eq!(Chain::parse(name), None, "{name:?}");
    }
}

#[test]
fn addresses_that_look_alike_have_different_names() {
    let name = |ip: &str| {
        let ip = ip.parse().unwrap();
        Chain::Endpoint(AffinityEndpoint { ip, port: 80, timeout: 1 }).to_string()
    };
    assert_ne!(name("::ffff:1.2.3.4"), name("::ffff:1:2:3:4"));
    assert_eq!(name("::ffff:1.2.3.4"), "endpoint-0.0.0.0.0.ffff.102.304-80-1");
}
