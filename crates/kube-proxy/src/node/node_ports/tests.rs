use std::net::IpAddr;

use kube_proxy_core::{IpFamily, NodePortAddresses};

use super::NodePortScope;

fn takes(scope: &NodePortScope, address: &str) -> bool {
    scope.contains(&address.parse::<IpAddr>().unwrap())
}

#[test]
fn a_port_on_an_address_that_takes_no_node_ports_is_somebody_elses() {
    let within = ["10.0.0.0/8".parse().unwrap()];
    let addresses = NodePortAddresses::from_cidrs(IpFamily::V4, &within);
    let scope = NodePortScope { addresses, loopback: false };
    assert!(takes(&scope, "10.1.2.3"));
    assert!(!takes(&scope, "192.168.7.1"));
}

#[test]
fn loopback_counts_only_where_node_ports_work_there() {
    let scope = |loopback| NodePortScope { addresses: NodePortAddresses::All, loopback };
    assert!(takes(&scope(true), "127.0.0.1"));
    assert!(!takes(&scope(false), "127.0.0.1"));
    assert!(!takes(&scope(false), "::1"));
    assert!(takes(&scope(false), "192.0.2.1"));
}
