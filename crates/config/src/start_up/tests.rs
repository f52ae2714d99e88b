use expect_test::{Expect, expect};
use kube_proxy_core::IpFamily;

use super::NodeFacts;
use crate::testing::flags;

fn node(addresses: &str, pod_cidrs: &str, dual_stack: bool) -> NodeFacts {
    let addresses: Vec<_> = addresses.split_whitespace().map(|ip| ip.parse().unwrap()).collect();
    NodeFacts {
        primary: addresses.first().map_or(IpFamily::V4, IpFamily::of),
        dual_stack,
        addresses,
        pod_cidrs: pod_cidrs.split_whitespace().map(|net| net.parse().unwrap()).collect(),
    }
}

fn check(line: &str, node: &NodeFacts, expected: &Expect) {
    let effective = flags(line).effective;
    let mut text = effective.start_up_warnings(node);
    text.extend(effective.check_start_up(node).err().map(|error| format!("error: {error}")));
    expected.assert_eq(&text.join("\n"));
}

#[test]
fn node_port_warnings() {
    let both = node("10.0.0.1 fd00::1", "", true);
    let four = node("10.0.0.1", "", true);
    check(
        "",
        &four,
        &expect![
            "nodePortAddresses is unset: NodePort connections are accepted on all local IPs; consider --nodeport-addresses=primary"
        ],
    );
    for closed in ["primary", "primary,10.0.0.0/8", "localhost", "primary,localhost", "all"] {
        check(&format!("--nodeport-addresses={closed}"), &both, &expect![[""]]);
    }
    check("--nodeport-addresses=10.0.0.0/8", &four, &expect![[""]]);
    check(
        "--nodeport-addresses=10.0.0.0/8",
        &both,
        &expect![
            "nodePortAddresses has IPv4 networks only, but the cluster looks dual-stack: NodePort connections are accepted on all local IPv6 IPs"
        ],
    );
    check(
        "--nodeport-addresses=10.0.0.0/8 --cluster-cidr=10.0.0.0/8,fd00::/8",
        &four,
        &expect![
            "nodePortAddresses has IPv4 networks only, but the cluster looks dual-stack: NodePort connections are accepted on all local IPv6 IPs"
        ],
    );
    check(
        "--nodeport-addresses=fd00::/8",
        &four,
        &expect![
            "nodePortAddresses has IPv6 networks only, but this node is primarily IPv4: NodePort connections are accepted on all local IPv4 IPs"
        ],
    );
}

#[test]
fn wrong_families() {
    let four = node("10.0.0.1", "fd00::/64", false);
    let line = "--nodeport-addresses=primary";
    check(
        &format!(
            "{line} --ipvs-exclude-cidrs=fd00::/8 --healthz-bind-address=:: --metrics-bind-address=::1"
        ),
        &four,
        &expect![[r#"
            ipvs.excludeCIDRs fd00::/8 is not IPv4, the only family of this node
            healthzBindAddress [::]:10256 is not IPv4, the only family of this node
            metricsBindAddress [::1]:10249 is not IPv4, the only family of this node"#]],
    );
    check(
        &format!("{line} --cluster-cidr=fd00::/8"),
        &four,
        &expect![
            "error: KubeProxyConfiguration.clusterCIDR has only networks of the wrong family (fd00::/8): this node uses IPv4 only"
        ],
    );
    check(
        &format!("{line} --detect-local-mode=NodeCIDR"),
        &four,
        &expect![
            "error: Node.spec.podCIDRs has only networks of the wrong family (fd00::/64): this node uses IPv4 only"
        ],
    );
    check(&format!("{line} --cluster-cidr=10.0.0.0/8,fd00::/8"), &four, &expect![[""]]);
    let dual = NodeFacts { dual_stack: true, ..four };
    check(
        &format!("{line} --cluster-cidr=fd00::/8 --healthz-bind-address=::"),
        &dual,
        &expect![[""]],
    );
    check(&format!("{line} --detect-local-mode=NodeCIDR"), &dual, &expect![[""]]);
}

#[test]
fn the_primary_family() {
    let family = |line: &str, addresses: &str| {
        flags(line).effective.primary_family(&node(addresses, "", true).addresses)
    };
    assert_eq!(family("", ""), IpFamily::V4);
    assert_eq!(family("--bind-address=::", ""), IpFamily::V6);
    assert_eq!(family("", "fd00::1 10.0.0.1"), IpFamily::V6);
    assert_eq!(family("--bind-address=10.0.0.1", "fd00::1"), IpFamily::V4);
}
