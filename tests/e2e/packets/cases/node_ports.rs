//! Node ports on some of the node's addresses.

use kube_proxy_core::IpFamily;

use super::{BOTH, CLIENT, LOCAL, both, case};
use crate::objects::Svc;
use crate::packets::Expect::{Pods, Refused};
use crate::packets::Source::{Any, Masqueraded};
use crate::packets::{Case, Flow, To};
use crate::world::From::{Node, Outside};

/// Node ports on the node's own address only.
pub(super) fn some_node_ports() -> Vec<Case> {
    let flow = Flow::new;
    vec![case(
        "node port",
        Svc::new("node-port", 1).node_port(),
        both,
        vec![
            flow(Outside, To::NodePort(1), Pods(BOTH, Masqueraded)),
            flow(CLIENT, To::NodePortOnBridge(1), Refused).in_userspace(Refused),
            flow(Node, To::NodePortOnLoopback(1), Refused).in_userspace(Refused),
        ],
    )]
}

pub(super) fn on_named_addresses() -> Vec<Case> {
    let flow = Flow::new;
    let on_loopback = |number, pods| {
        [
            flow(Node, To::NodePortOnLoopback(number), Pods(pods, Masqueraded))
                .only(IpFamily::V4)
                .in_nftables(Pods(pods, Any))
                .in_ipvs(Refused),
            flow(Node, To::NodePortOnLoopback(number), Refused)
                .only(IpFamily::V6)
                .in_nftables(Pods(pods, Any))
                .in_userspace(Pods(pods, Masqueraded)),
        ]
    };
    let mut plain = vec![
        flow(Outside, To::NodePort(1), Pods(BOTH, Masqueraded)),
        flow(CLIENT, To::NodePort(1), Pods(BOTH, Masqueraded)),
        flow(CLIENT, To::NodePortOnBridge(1), Refused).in_userspace(Refused),
    ];
    plain.extend(on_loopback(1, BOTH));
    let local_only = flow(Node, To::NodePortOnLoopback(2), Pods(BOTH, Any))
        .only(IpFamily::V4)
        .in_nftables(Pods(LOCAL, Any))
        .in_ipvs(Refused);
    vec![
        case("node port", Svc::new("node-port", 1).node_port(), both, plain),
        case("Local", Svc::new("local", 2).node_port().external_local(), both, vec![local_only]),
    ]
}

pub(super) fn on_all_addresses() -> Vec<Case> {
    let flow = Flow::new;
    vec![case(
        "node port",
        Svc::new("node-port", 1).node_port(),
        both,
        vec![
            flow(Outside, To::NodePort(1), Pods(BOTH, Masqueraded)),
            flow(CLIENT, To::NodePortOnBridge(1), Pods(BOTH, Masqueraded)),
            flow(Node, To::NodePortOnLoopback(1), Pods(BOTH, Masqueraded))
                .only(IpFamily::V4)
                .in_nftables(Refused)
                .in_ipvs(Refused),
        ],
    )]
}

pub(super) fn not_on_loopback() -> Vec<Case> {
    let flow = Flow::new;
    vec![case(
        "node port",
        Svc::new("node-port", 1).node_port(),
        both,
        vec![
            flow(Outside, To::NodePort(1), Pods(BOTH, Masqueraded)),
            flow(Node, To::NodePortOnLoopback(1), Refused).in_userspace(Refused),
        ],
    )]
}
