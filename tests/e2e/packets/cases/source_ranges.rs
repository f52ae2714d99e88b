//! VIPs that only some sources may use.

use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;

use super::{BOTH, CLIENT, LOCAL, both, case, local};
use crate::objects::{Svc, vip};
use crate::packets::Expect::{Dropped, Pods};
use crate::packets::Source::{Any, Kept, Masqueraded};
use crate::packets::{Case, Flow, To, client_net};
use crate::world::From::{Node, Outside};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn source_ranges() -> Vec<Case> {
    let flow = Flow::new;
    let ranges = |name, number, ranges: &[String]| {
        Svc::new(name, number)
            .load_balancer()
            .external_ips()
            .with("/spec/loadBalancerSourceRanges", ranges.to_vec())
    };
    let nobody: Vec<String> = ["192.0.2.0/24", "2001:db8:192::/64"].map(str::to_owned).to_vec();
    let client: Vec<String> =
        IpFamily::BOTH.iter().filter_map(|family| client_net(*family).ok()).collect();
    let node = plan::node(0);
    let nodes: Vec<String> =
        IpFamily::BOTH.map(|family| format!("{}/{}", node.get(family), family.bits())).to_vec();
    let pods = plan::cluster_net();
    let pods = vec![pods.v4.to_string(), format!(" {} ", pods.v6)];
    let all = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned(), "192.0.2.0/24".to_owned()];
    vec![
        case(
            "client outside the ranges",
            ranges("nobody", 1, &nobody),
            both,
            vec![
                flow(Outside, To::Vip(1), Dropped),
                flow(CLIENT, To::Vip(1), Dropped),
                flow(Node, To::Vip(1), Dropped),
                flow(Outside, To::NodePort(1), Pods(BOTH, Masqueraded)),
                flow(Outside, To::External(1), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::ClusterIp(1), Pods(BOTH, Kept)),
            ],
        ),
        case(
            "client inside the ranges",
            ranges("client", 2, &client),
            both,
            vec![
                flow(Outside, To::Vip(2), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::Vip(2), Dropped),
            ],
        ),
        case(
            "pods inside the ranges",
            ranges("pods", 3, &pods),
            both,
            vec![
                flow(Outside, To::Vip(3), Dropped),
                flow(CLIENT, To::Vip(3), Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "a range of everybody",
            ranges("all", 4, &all),
            both,
            vec![
                flow(Outside, To::Vip(4), Pods(BOTH, Masqueraded)),
                flow(Node, To::Vip(4), Pods(BOTH, Any)),
            ],
        ),
        case(
            "the node inside the ranges",
            ranges("node", 9, &nodes),
            both,
            vec![flow(Node, To::Vip(9), Pods(BOTH, Any)), flow(Outside, To::Vip(9), Dropped)],
        ),
        case(
            "ranges and Local",
            ranges("local", 5, &client).external_local(),
            both,
            vec![
                flow(Outside, To::Vip(5), Pods(LOCAL, Kept)),
                flow(CLIENT, To::Vip(5), Dropped),
                flow(CLIENT, To::External(5), Pods(BOTH, Kept)),
                flow(Node, To::Vip(5), Dropped),
            ],
        ),
        case(
            "ranges with pods and the node, and Local",
            ranges("near", 10, &[pods, nodes].concat()).external_local(),
            both,
            vec![
                flow(Outside, To::Vip(10), Dropped),
                flow(CLIENT, To::Vip(10), Pods(BOTH, Kept)),
                flow(Node, To::Vip(10), Pods(BOTH, Any)),
            ],
        ),
        case(
            "an external IP that is also a VIP",
            also_external("twice", 6, 6, &nobody),
            both,
            vec![
                flow(Outside, To::Vip(6), Dropped),
                flow(CLIENT, To::Vip(6), Dropped),
                flow(Outside, To::NodePort(6), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::ClusterIp(6), Pods(BOTH, Kept)),
            ],
        ),
        case(
            "an external IP that is also a VIP, client inside the ranges",
            also_external("twice-open", 7, 7, &client),
            both,
            vec![
                flow(Outside, To::Vip(7), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::Vip(7), Dropped),
            ],
        ),
        // First by name, but a VIP goes before an external IP.
        case(
            "an external IP that is another Service's VIP",
            also_external("a-thief", 8, 6, &[]),
            local,
            vec![
                flow(Outside, To::Vip(8), Pods(LOCAL, Masqueraded)),
                flow(Outside, To::Vip(6), Dropped),
            ],
        ),
    ]
}

/// A Service with VIPs and source ranges whose external IPs are the VIPs of a Service with that number.
fn also_external(name: &str, number: u8, of: u8, ranges: &[String]) -> Svc {
    let ips = IpFamily::BOTH.map(|family| vip(of, family).to_string());
    Svc::new(name, number)
        .load_balancer()
        .with("/spec/externalIPs", ips.to_vec())
        .with("/spec/loadBalancerSourceRanges", ranges.to_vec())
}
