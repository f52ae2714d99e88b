//! The cases themselves. Each Service has a number of its own within its group; its addresses follow from it.

mod node_ports;
mod source_ranges;
mod spill;

use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use serde_json::Value;

use super::{Case, Endpoints, Expect, Flow, Group, Source, To, cluster_cidr};
use crate::objects::Svc;
use crate::world::{From, OTHER_TARGET, TARGET, World};

use self::node_ports::{not_on_loopback, on_all_addresses, on_named_addresses, some_node_ports};
use self::source_ranges::source_ranges;
use Expect::{Dropped, Pods, Refused};
use From::{Node, Outside, Pod};
use Source::{Any, Kept, Masqueraded};

const CLIENT: From = Pod("client");
const BOTH: &[&str] = &["local-1", "remote-1"];
const LOCAL: &[&str] = &["local-1"];
const REMOTE: &[&str] = &["remote-1"];

pub(super) fn groups() -> Vec<Group> {
    let local_traffic = |name, flags| Group { name, flags, cases: detected };
    vec![
        Group { name: "basic", flags: || vec![cluster_cidr()], cases: basic },
        Group { name: "policies", flags: || vec![cluster_cidr()], cases: policies },
        Group { name: "choice", flags: || vec![cluster_cidr()], cases: choice },
        Group { name: "zone-spill", flags: spill::flags, cases: spill::cases },
        Group { name: "source-ranges", flags: || vec![cluster_cidr()], cases: source_ranges },
        Group { name: "no-local-endpoints", flags: refuse_elsewhere, cases: no_local_endpoints },
        Group { name: "masquerade-all", flags: masquerade_all, cases: masqueraded },
        local_traffic("detect-bridge", || {
            vec!["--detect-local-mode=BridgeInterface".into(), "--pod-bridge-interface=cni0".into()]
        }),
        local_traffic("detect-prefix", || {
            let prefix = "--pod-interface-name-prefix=cni".into();
            vec!["--detect-local-mode=InterfaceNamePrefix".into(), prefix]
        }),
        local_traffic("detect-node-cidr", || vec!["--detect-local-mode=NodeCIDR".into()]),
        Group { name: "detect-nothing", flags: Vec::new, cases: undetected },
        Group { name: "node-port-networks", flags: node_port_networks, cases: some_node_ports },
        Group { name: "node-port-primary", flags: node_port_primary, cases: some_node_ports },
        Group { name: "node-port-keywords", flags: node_port_keywords, cases: on_named_addresses },
        Group { name: "node-port-all", flags: node_port_all, cases: on_all_addresses },
        Group { name: "no-localhost-node-ports", flags: no_localhost, cases: not_on_loopback },
    ]
}

fn masquerade_all() -> Vec<String> {
    vec![cluster_cidr(), "--masquerade-all".into()]
}

fn refuse_elsewhere() -> Vec<String> {
    vec![cluster_cidr(), "--no-local-endpoints=reject".into()]
}

fn node_port_networks() -> Vec<String> {
    let nets = plan::fabric_net();
    vec![cluster_cidr(), format!("--nodeport-addresses={},{}", nets.v4, nets.v6)]
}

fn node_port_primary() -> Vec<String> {
    vec![cluster_cidr(), "--nodeport-addresses=primary".into()]
}

fn node_port_keywords() -> Vec<String> {
    vec![cluster_cidr(), "--nodeport-addresses=localhost,primary,192.0.2.0/24".into()]
}

fn node_port_all() -> Vec<String> {
    vec![cluster_cidr(), "--nodeport-addresses=192.0.2.0/24,all".into()]
}

fn no_localhost() -> Vec<String> {
    vec![cluster_cidr(), "--iptables-localhost-nodeports=false".into()]
}

fn case(name: &'static str, service: Svc, endpoints: Endpoints, flows: Vec<Flow>) -> Case {
    Case { name, services: vec![(service, endpoints)], flows }
}

fn both(world: &World, service: &Svc) -> Vec<Value> {
    service.slices(TARGET, &world.endpoints(BOTH))
}

fn local(world: &World, service: &Svc) -> Vec<Value> {
    service.slices(TARGET, &world.endpoints(LOCAL))
}

fn remote(world: &World, service: &Svc) -> Vec<Value> {
    service.slices(TARGET, &world.endpoints(REMOTE))
}

fn none(_: &World, service: &Svc) -> Vec<Value> {
    service.slices(TARGET, &[])
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn basic() -> Vec<Case> {
    let flow = Flow::new;
    vec![
        case(
            "cluster IP",
            Svc::new("plain", 1),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(1), Pods(BOTH, Kept)),
                flow(Node, To::ClusterIp(1), Pods(BOTH, Any)),
                flow(Outside, To::ClusterIp(1), Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "UDP",
            Svc::new("udp", 2).udp().node_port(),
            both,
            vec![
                flow(CLIENT, To::ClusterIpUdp(2), Pods(BOTH, Kept)),
                flow(Outside, To::NodePortUdp(2), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::ClusterIp(2), Dropped).in_nftables(Refused).in_ipvs(Refused),
            ],
        ),
        case(
            "node port",
            Svc::new("node-port", 3).node_port(),
            both,
            vec![
                flow(Outside, To::NodePort(3), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::NodePort(3), Pods(BOTH, Masqueraded)),
                flow(Node, To::NodePort(3), Pods(BOTH, Any)),
                flow(CLIENT, To::NodePortOnBridge(3), Pods(BOTH, Masqueraded)).in_nftables(Refused),
                flow(Node, To::NodePortOnLoopback(3), Pods(BOTH, Masqueraded))
                    .only(IpFamily::V4)
                    .in_nftables(Refused)
                    .in_ipvs(Refused),
                flow(Node, To::NodePortOnLoopback(3), Refused)
                    .only(IpFamily::V6)
                    .in_userspace(Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "external IP",
            Svc::new("external", 4).external_ips(),
            both,
            vec![
                flow(Outside, To::External(4), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::External(4), Pods(BOTH, Masqueraded)),
                flow(Node, To::External(4), Pods(BOTH, Any)),
            ],
        ),
        case(
            "load balancer",
            Svc::new("balanced", 5).load_balancer(),
            both,
            vec![
                flow(Outside, To::Vip(5), Pods(BOTH, Masqueraded)),
                flow(CLIENT, To::Vip(5), Pods(BOTH, Masqueraded)),
                flow(Outside, To::NodePort(5), Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "ipMode Proxy",
            proxied(6),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(6), Pods(BOTH, Kept)),
                flow(Outside, To::Vip(6), Dropped),
            ],
        ),
        case(
            "no endpoints",
            everything("empty", 7),
            none,
            vec![
                flow(CLIENT, To::ClusterIp(7), Refused),
                flow(Node, To::ClusterIp(7), Refused),
                flow(Outside, To::ClusterIp(7), Refused),
                flow(Outside, To::External(7), Refused),
                flow(Outside, To::Vip(7), Refused),
                flow(Outside, To::NodePort(7), Refused),
                flow(CLIENT, To::NodePort(7), Refused),
            ],
        ),
        case(
            "no endpoints, UDP",
            Svc::new("empty-udp", 8).udp(),
            none,
            vec![flow(CLIENT, To::ClusterIpUdp(8), Refused)],
        ),
        case(
            "hairpin",
            Svc::new("hairpin", 9).load_balancer(),
            local,
            vec![
                flow(Pod("local-1"), To::ClusterIp(9), Pods(LOCAL, Masqueraded)),
                flow(Pod("local-1"), To::NodePort(9), Pods(LOCAL, Masqueraded)),
                flow(Pod("local-1"), To::Vip(9), Pods(LOCAL, Masqueraded)),
            ],
        ),
        case(
            "two protocols on one port",
            two_protocols(10),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(10), Pods(BOTH, Kept)),
                flow(CLIENT, To::ClusterIpUdp(10), Refused),
            ],
        ),
        case(
            "service of another proxy",
            foreign(11),
            both,
            vec![flow(CLIENT, To::ClusterIp(11), Dropped)],
        ),
        case(
            "SCTP beside TCP",
            sctp(12),
            both,
            vec![flow(CLIENT, To::ClusterIp(12), Pods(BOTH, Kept))],
        ),
    ]
}

/// All kinds of frontends.
fn everything(name: &str, number: u8) -> Svc {
    Svc::new(name, number).load_balancer().external_ips()
}

fn proxied(number: u8) -> Svc {
    Svc::new("proxied", number)
        .load_balancer()
        .with("/status/loadBalancer/ingress/0/ipMode", "Proxy")
        .with("/status/loadBalancer/ingress/1/ipMode", "Proxy")
}

fn two_protocols(number: u8) -> Svc {
    let ports = serde_json::json!([
        { "name": "p", "protocol": "TCP", "port": 80 },
        { "name": "q", "protocol": "UDP", "port": 80 },
    ]);
    Svc::new("two-protocols", number).with("/spec/ports", ports)
}

fn sctp(number: u8) -> Svc {
    let ports = serde_json::json!([
        { "name": "p", "protocol": "TCP", "port": 80 },
        { "name": "s", "protocol": "SCTP", "port": 80 },
    ]);
    Svc::new("sctp", number).with("/spec/ports", ports)
}

fn foreign(number: u8) -> Svc {
    let labels = serde_json::json!({ "service.kubernetes.io/service-proxy-name": "another" });
    Svc::new("foreign", number).with("/metadata/labels", labels)
}

fn policies() -> Vec<Case> {
    let flow = Flow::new;
    vec![
        case(
            "internal Local",
            Svc::new("internal", 1).internal_local(),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(1), Pods(LOCAL, Kept)),
                flow(Node, To::ClusterIp(1), Pods(LOCAL, Any)),
            ],
        ),
        case(
            "internal Local, none here",
            Svc::new("internal-far", 2).internal_local(),
            remote,
            vec![flow(CLIENT, To::ClusterIp(2), Dropped), flow(Node, To::ClusterIp(2), Dropped)],
        ),
        case(
            "internal Local with a node port",
            internal_local_outside(3),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(3), Pods(LOCAL, Kept)),
                flow(Outside, To::NodePort(3), Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "external Local",
            everything("external", 4).external_local(),
            both,
            vec![
                flow(Outside, To::NodePort(4), Pods(LOCAL, Kept)),
                flow(Outside, To::Vip(4), Pods(LOCAL, Kept)),
                flow(Outside, To::External(4), Pods(LOCAL, Kept)),
                flow(CLIENT, To::ClusterIp(4), Pods(BOTH, Kept)),
                flow(CLIENT, To::Vip(4), Pods(BOTH, Kept)),
                flow(CLIENT, To::External(4), Pods(BOTH, Kept)),
                flow(CLIENT, To::NodePort(4), Pods(BOTH, Kept)),
                flow(Node, To::Vip(4), Pods(BOTH, Any)),
                flow(Node, To::External(4), Pods(BOTH, Any)),
                flow(Node, To::NodePort(4), Pods(BOTH, Any)),
            ],
        ),
        case(
            "external Local, none here",
            everything("far", 5).external_local(),
            remote,
            vec![
                flow(Outside, To::NodePort(5), Dropped),
                flow(Outside, To::Vip(5), Dropped),
                flow(Outside, To::External(5), Dropped),
                flow(CLIENT, To::ClusterIp(5), Pods(REMOTE, Kept)),
                flow(CLIENT, To::Vip(5), Pods(REMOTE, Kept)),
                flow(Node, To::Vip(5), Pods(REMOTE, Any)),
            ],
        ),
        case(
            "external Local, none anywhere",
            everything("none", 6).external_local(),
            none,
            vec![
                flow(Outside, To::NodePort(6), Refused),
                flow(Outside, To::Vip(6), Refused),
                flow(CLIENT, To::ClusterIp(6), Refused),
            ],
        ),
        case(
            "external Local, UDP",
            Svc::new("external-udp", 8).udp().node_port().external_local(),
            both,
            vec![
                flow(Outside, To::NodePortUdp(8), Pods(LOCAL, Kept)),
                flow(CLIENT, To::NodePortUdp(8), Pods(BOTH, Kept)),
                flow(Node, To::NodePortUdp(8), Pods(BOTH, Any)),
            ],
        ),
        case(
            "external Local, hairpin",
            everything("hair", 7).external_local(),
            local,
            vec![flow(Pod("local-1"), To::Vip(7), Pods(LOCAL, Masqueraded))],
        ),
    ]
}

/// Under the external `Local` policy without endpoints here. What no rule looks after is refused by the node itself at its own address,
/// and is led nowhere by the routes of this cluster at others.
fn no_local_endpoints() -> Vec<Case> {
    let flow = Flow::new;
    let refused = |to| flow(Outside, to, Refused);
    let annotated = |name, number, value: &str| {
        let annotations = serde_json::json!({ "kube-proxy.io/no-local-endpoints": value });
        everything(name, number).external_local().with("/metadata/annotations", annotations)
    };
    let nets = serde_json::json!(["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]);
    // The second has no endpoints.
    let two_ports = serde_json::json!([
        { "name": "p", "protocol": "TCP", "port": 80 },
        { "name": "q", "protocol": "TCP", "port": 81 },
    ]);
    vec![
        case(
            "as the flag says: refused",
            everything("by-flag", 1).external_local(),
            remote,
            vec![
                refused(To::NodePort(1)),
                refused(To::Vip(1)),
                refused(To::External(1)),
                flow(CLIENT, To::Vip(1), Pods(REMOTE, Kept)),
                flow(Node, To::Vip(1), Pods(REMOTE, Any)),
            ],
        ),
        case(
            "dropped by annotation",
            annotated("dropped", 2, "drop"),
            remote,
            vec![
                flow(Outside, To::NodePort(2), Dropped),
                flow(Outside, To::Vip(2), Dropped),
                flow(Outside, To::External(2), Dropped),
            ],
        ),
        case(
            "passed through by annotation",
            annotated("passed", 3, "passthrough"),
            remote,
            vec![
                refused(To::NodePort(3)),
                flow(Outside, To::Vip(3), Dropped),
                flow(Outside, To::External(3), Dropped),
                // The ipvs mode passes everybody through.
                flow(CLIENT, To::Vip(3), Pods(REMOTE, Kept)).in_ipvs(Dropped),
                flow(CLIENT, To::NodePort(3), Pods(REMOTE, Any)).in_ipvs(Refused),
                flow(Node, To::External(3), Pods(REMOTE, Any)).in_ipvs(Dropped),
            ],
        ),
        case(
            "nothing passes where another port needs the address",
            annotated("passed-beside", 9, "passthrough").with("/spec/ports", two_ports),
            remote,
            vec![flow(Outside, To::Vip(9), Dropped).in_ipvs(Refused)],
        ),
        case(
            "a bad annotation does not count",
            annotated("bad", 4, "Reject"),
            remote,
            vec![refused(To::NodePort(4)), refused(To::Vip(4))],
        ),
        case(
            "a VIP behind source ranges stays closed",
            everything("ranges", 5).external_local().with("/spec/loadBalancerSourceRanges", nets),
            remote,
            vec![flow(Outside, To::Vip(5), Dropped), refused(To::External(5))],
        ),
        case(
            "local endpoints serve as ever",
            annotated("here", 6, "passthrough"),
            both,
            vec![
                flow(Outside, To::NodePort(6), Pods(LOCAL, Kept)),
                flow(Outside, To::Vip(6), Pods(LOCAL, Kept)),
            ],
        ),
        case(
            "the cluster IP is not meant",
            annotated("inside", 7, "reject").internal_local(),
            remote,
            vec![flow(CLIENT, To::ClusterIp(7), Dropped)],
        ),
        case(
            "none anywhere is refused",
            annotated("nowhere", 8, "passthrough"),
            none,
            vec![flow(Outside, To::Vip(8), Refused), flow(Outside, To::NodePort(8), Refused)],
        ),
    ]
}

fn internal_local_outside(number: u8) -> Svc {
    Svc::new("internal-outside", number).internal_local().node_port()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn choice() -> Vec<Case> {
    let flow = Flow::new;
    vec![
        case(
            "unready is not used",
            Svc::new("unready", 1),
            |world, service| {
                let endpoints = [world.endpoint("local-1").unready(), world.endpoint("remote-1")];
                service.slices(TARGET, &endpoints)
            },
            vec![flow(CLIENT, To::ClusterIp(1), Pods(REMOTE, Kept))],
        ),
        case(
            "nothing ready",
            Svc::new("nothing-ready", 2),
            |world, service| service.slices(TARGET, &[world.endpoint("local-1").unready()]),
            vec![flow(CLIENT, To::ClusterIp(2), Refused)],
        ),
        case(
            "terminating beside ready",
            Svc::new("leaving", 3),
            |world, service| {
                let endpoints =
                    [world.endpoint("local-1").terminating(), world.endpoint("remote-1")];
                service.slices(TARGET, &endpoints)
            },
            vec![flow(CLIENT, To::ClusterIp(3), Pods(REMOTE, Kept))],
        ),
        case(
            "only terminating",
            Svc::new("last", 4),
            |world, service| {
                let endpoints =
                    [world.endpoint("local-1").unready(), world.endpoint("remote-1").terminating()];
                service.slices(TARGET, &endpoints)
            },
            vec![flow(CLIENT, To::ClusterIp(4), Pods(REMOTE, Kept))],
        ),
        case(
            "only terminating here",
            everything("last-here", 5).external_local(),
            |world, service| {
                let endpoints =
                    [world.endpoint("local-1").terminating(), world.endpoint("remote-1")];
                service.slices(TARGET, &endpoints)
            },
            vec![
                flow(Outside, To::NodePort(5), Pods(LOCAL, Kept)),
                flow(CLIENT, To::ClusterIp(5), Pods(REMOTE, Kept)),
            ],
        ),
        case(
            "zone hints",
            Svc::new("zoned", 6),
            |world, service| {
                let endpoints = [
                    world.endpoint("local-1").zone("zone-a"),
                    world.endpoint("remote-1").zone("zone-b"),
                ];
                service.slices(TARGET, &endpoints)
            },
            vec![flow(CLIENT, To::ClusterIp(6), Pods(LOCAL, Kept))],
        ),
        case(
            "half of the zone hints",
            Svc::new("half-zoned", 7),
            |world, service| {
                let endpoints =
                    [world.endpoint("local-1").zone("zone-a"), world.endpoint("remote-1")];
                service.slices(TARGET, &endpoints)
            },
            vec![flow(CLIENT, To::ClusterIp(7), Pods(BOTH, Kept))],
        ),
        case(
            "several slices, different ports",
            Svc::new("slices", 8),
            |world, service| {
                let mut slices = Vec::new();
                for family in IpFamily::BOTH {
                    let (here, there) = (world.endpoints(LOCAL), world.endpoints(REMOTE));
                    slices.push(service.slice(family, "-a", TARGET, &here));
                    slices.push(service.slice(family, "-b", OTHER_TARGET, &there));
                }
                slices
            },
            vec![flow(CLIENT, To::ClusterIp(8), Pods(BOTH, Kept))],
        ),
        case(
            "headless slices do not count",
            Svc::new("headless", 9),
            |world, service| {
                let mut slices = service.slices(TARGET, &world.endpoints(BOTH));
                for slice in &mut slices {
                    slice["metadata"]["labels"]["service.kubernetes.io/headless"] = "".into();
                }
                slices
            },
            vec![flow(CLIENT, To::ClusterIp(9), Refused)],
        ),
        case(
            "three endpoints",
            Svc::new("three", 10),
            |world, service| {
                service.slices(TARGET, &world.endpoints(&["local-1", "local-2", "remote-1"]))
            },
            vec![flow(CLIENT, To::ClusterIp(10), Pods(&["local-1", "local-2", "remote-1"], Kept))],
        ),
    ]
}

fn masqueraded() -> Vec<Case> {
    let flow = Flow::new;
    vec![case(
        "masquerade all",
        Svc::new("all", 1).node_port(),
        both,
        vec![
            flow(CLIENT, To::ClusterIp(1), Pods(BOTH, Masqueraded)),
            flow(Outside, To::ClusterIp(1), Pods(BOTH, Masqueraded)),
        ],
    )]
}

/// Local pods keep their address, everybody else is masqueraded; local pods are short-circuited.
fn detected() -> Vec<Case> {
    let flow = Flow::new;
    vec![
        case(
            "cluster IP",
            Svc::new("plain", 1),
            both,
            vec![
                flow(CLIENT, To::ClusterIp(1), Pods(BOTH, Kept)),
                flow(Outside, To::ClusterIp(1), Pods(BOTH, Masqueraded)),
            ],
        ),
        case(
            "external Local",
            everything("far", 2).external_local(),
            remote,
            vec![flow(Outside, To::Vip(2), Dropped), flow(CLIENT, To::Vip(2), Pods(REMOTE, Kept))],
        ),
    ]
}

/// Without a detector no client is masqueraded on the way to a cluster IP, and pods are not short-circuited.
fn undetected() -> Vec<Case> {
    let flow = Flow::new;
    vec![
        case(
            "cluster IP",
            Svc::new("plain", 1),
            local,
            vec![
                flow(CLIENT, To::ClusterIp(1), Pods(LOCAL, Kept)),
                flow(Outside, To::ClusterIp(1), Pods(LOCAL, Kept)),
            ],
        ),
        case(
            "external Local",
            everything("far", 2).external_local(),
            remote,
            vec![flow(CLIENT, To::Vip(2), Dropped), flow(Node, To::Vip(2), Pods(REMOTE, Any))],
        ),
    ]
}
