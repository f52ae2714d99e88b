//! What becomes of packets, by kind of frontend and of client.

use std::time::Duration;

use anyhow::ensure;
use kube_proxy_core::{
    Conditions, IpFamily, LocalTrafficDetector, NodePortAddresses, TrafficPolicy,
};
use kube_proxy_testkit::cluster::plan;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{SILENCE, Svc, TARGET, World, ensure_dropped, ensure_reaches, ensure_refused};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("traffic::cluster_ip", cluster_ip),
        trial("traffic::external_cluster_policy", external_cluster_policy),
        trial("traffic::external_local_policy", external_local_policy),
        trial("traffic::external_local_policy_without_local_endpoints", no_local_endpoints),
        trial("traffic::internal_local_policy", internal_local_policy),
        trial("traffic::hairpin", hairpin),
        trial("traffic::masquerade_all", masquerade_all),
        trial("traffic::interface_detectors", interface_detectors),
        trial("traffic::no_endpoints", no_endpoints),
        trial("traffic::unused_cluster_ips", unused_cluster_ips),
        trial("traffic::source_ranges", source_ranges),
        trial("traffic::node_port_addresses", node_port_addresses),
        trial("traffic::terminating_endpoints", terminating_endpoints),
        trial("traffic::contested_frontend", contested_frontend),
    ]
}

const ONE: Svc = Svc(1);
const TWO: Svc = Svc(2);

fn cluster_ip() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    world.set(ONE.cluster_ip_only());
    world.endpoints(ONE, &["a", "b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        let address = ONE.cluster_ip(family);
        let pods = ["a", "b"];
        // Traffic from pods of the node keeps its source; the rest is masqueraded. The node's own address is no pod's.
        ensure_reaches("pod", world.pod("other").probe(), address, &pods, true)?;
        ensure_reaches("client", world.cluster.client().probe(), address, &pods, false)?;
        world.cluster.node(0).probe().tcp(address).answer()?;
        let spread = world.cluster.client().probe().spread(address, 100);
        spread.check_even(&pods)?;
        world.pod("other").probe().spread_udp(address, 100).check_even(&pods)?;
    }
    Ok(())
}

fn external_cluster_policy() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    world.set(ONE.everything());
    world.endpoints(ONE, &["a", "b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        for address in ONE.external(family) {
            for (who, probe) in world.clients("other") {
                if who != "node" {
                    ensure_reaches(who, probe, address, &["a", "b"], false)?;
                }
                let spread = probe.spread(address, 60);
                spread.check_even(&["a", "b"])?;
            }
        }
    }
    Ok(())
}

fn external_local_policy() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    let mut service = ONE.everything();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(service);
    world.endpoints(ONE, &["a", "b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        for address in ONE.external(family) {
            // From outside: the local endpoint, with the client's address.
            let client = world.cluster.client().probe();
            ensure_reaches("client", client, address, &["a"], true)?;
            client.spread(address, 20).check_even(&["a"])?;
            // From a pod: all endpoints, with the pod's address; from the node: all endpoints.
            let pod = world.pod("other").probe();
            ensure_reaches("pod", pod, address, &["a", "b"], true)?;
            pod.spread(address, 60).check_even(&["a", "b"])?;
            world.cluster.node(0).probe().spread(address, 60).check_even(&["a", "b"])?;
        }
        // Pods of other nodes are outside too.
        let far = world.pod("b").probe();
        ensure_reaches("far pod", far, ONE.node_port(family), &["a"], true)?;
    }
    Ok(())
}

fn no_local_endpoints() -> anyhow::Result<()> {
    let mut world = World::new(&[(1, "b"), (0, "other")])?;
    let mut service = ONE.everything();
    service.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(service);
    world.endpoints(ONE, &["b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        for address in ONE.external(family) {
            ensure_dropped("client", world.cluster.client().probe(), address)?;
            ensure_reaches("pod", world.pod("other").probe(), address, &["b"], true)?;
            world.cluster.node(0).probe().tcp(address).answer()?;
        }
    }
    Ok(())
}

fn internal_local_policy() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (0, "other")])?;
    for (svc, endpoints) in [(ONE, ["a", "b"].as_slice()), (TWO, &["b"])] {
        let mut service = svc.cluster_ip_only();
        service.policy.internal_traffic_policy = TrafficPolicy::Local;
        world.set(service);
        world.endpoints(svc, endpoints);
    }
    world.sync()?;
    for family in IpFamily::BOTH {
        for (who, probe) in world.clients("other") {
            probe.spread(ONE.cluster_ip(family), 20).check_even(&["a"])?;
            ensure_dropped(who, probe, TWO.cluster_ip(family))?;
        }
    }
    Ok(())
}

fn hairpin() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a")])?;
    let mut local = TWO.everything();
    local.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(ONE.everything());
    world.set(local);
    world.endpoints(ONE, &["a"]);
    world.endpoints(TWO, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        for svc in [ONE, TWO] {
            let own = world.pod("a").probe();
            ensure_reaches("itself", own, svc.cluster_ip(family), &["a"], false)?;
            for address in svc.external(family) {
                ensure_reaches("itself", own, address, &["a"], false)?;
            }
        }
        // Without a service in between nothing is masqueraded.
        let direct = world.pod("a").address(family, TARGET);
        ensure_reaches("itself", world.pod("a").probe(), direct, &["a"], true)?;
    }
    Ok(())
}

fn masquerade_all() -> anyhow::Result<()> {
    let mut world = World::with(&[(0, "a"), (0, "other")], |config| config.masquerade_all = true)?;
    world.set(ONE.cluster_ip_only());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        let address = ONE.cluster_ip(family);
        ensure_reaches("pod", world.pod("other").probe(), address, &["a"], false)?;
        ensure_reaches("client", world.cluster.client().probe(), address, &["a"], false)?;
    }
    Ok(())
}

fn interface_detectors() -> anyhow::Result<()> {
    let detectors = [
        (LocalTrafficDetector::Bridge("cni0".into()), true, false),
        (LocalTrafficDetector::Bridge("cni".into()), false, false),
        (LocalTrafficDetector::InterfacePrefix("cn".into()), true, false),
        (LocalTrafficDetector::InterfacePrefix("eth".into()), false, true),
        (LocalTrafficDetector::None, true, true),
    ];
    let mut world = World::new(&[(0, "a"), (0, "other")])?;
    world.set(ONE.cluster_ip_only());
    world.endpoints(ONE, &["a"]);
    for (detector, pod_kept, client_kept) in detectors {
        world.restart_with(|config| config.local_traffic = detector.clone())?;
        world.sync()?;
        for family in IpFamily::BOTH {
            let address = ONE.cluster_ip(family);
            ensure_reaches("pod", world.pod("other").probe(), address, &["a"], pod_kept)?;
            let client = world.cluster.client().probe();
            ensure_reaches("client", client, address, &["a"], client_kept)?;
        }
    }
    Ok(())
}

fn no_endpoints() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "other")])?;
    world.set(ONE.everything());
    let mut local = TWO.everything();
    local.policy.internal_traffic_policy = TrafficPolicy::Local;
    local.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(local);
    world.sync()?;
    for family in IpFamily::BOTH {
        for svc in [ONE, TWO] {
            for (who, probe) in world.clients("other") {
                ensure_refused(who, probe, svc.cluster_ip(family))?;
                for address in svc.external(family) {
                    ensure_refused(who, probe, address)?;
                }
            }
        }
    }
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        world.cluster.client().probe().tcp(ONE.cluster_ip(family)).answer()?;
        world.cluster.client().probe().udp(ONE.node_port(family)).answer()?;
    }
    Ok(())
}

fn unused_cluster_ips() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "other")])?;
    world.set(ONE.cluster_ip_only());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        for (who, probe) in world.clients("other") {
            let mut other_port = ONE.cluster_ip(family);
            other_port.set_port(81);
            ensure_refused(who, probe, other_port)?;
            ensure_dropped(who, probe, Svc(9).cluster_ip(family))?;
        }
        // Dropped here: nothing of it leaves the node.
        let counted = world.nft(&format!("list set {} kube-proxy service-cidrs", ip(family)))?;
        ensure!(counted.contains("elements"), "{counted}");
    }
    // Another range takes over at once; the old one is routed as any other.
    let cidrs = vec!["10.97.0.0/16".parse()?, "10.98.0.0/15".parse()?, "fd00:10:97::/112".parse()?];
    let name = kube_proxy_core::ObjectName::new("", "kubernetes");
    world.apply(&kube_proxy_core::Event::ServiceCidrApplied(name, cidrs));
    world.sync()?;
    let listed = world.nft("list set ip kube-proxy service-cidrs")?;
    ensure!(listed.contains("10.97.0.0-10.99.255.255"), "{listed}");
    ensure!(!listed.contains("10.96"), "{listed}");
    let node = world.cluster.node(0).probe().timeout(SILENCE);
    // The node is told of what is dropped on its way out, and of nothing else.
    ensure!(node.udp(Svc(9).cluster_ip(IpFamily::V4)).is_timed_out());
    let dropped = node.udp("10.99.1.1:80".parse()?);
    ensure!(!dropped.is_timed_out() && !dropped.is_answer(), "{dropped}");
    Ok(())
}

fn source_ranges() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "other")])?;
    let (inside, outside) = (plan::pod_net(0), plan::client());
    let mut service = ONE.everything();
    service.policy.load_balancer_source_ranges = vec![inside.v4, inside.v6];
    world.set(service.clone());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        let client = world.cluster.client().probe();
        ensure_dropped("client", client, ONE.vip(family))?;
        world.pod("other").probe().tcp(ONE.vip(family)).answer()?;
        // Only the load-balancer address is guarded.
        client.tcp(ONE.external_ip(family)).answer()?;
        client.tcp(ONE.node_port(family)).answer()?;
        ensure_dropped("node", world.cluster.node(0).probe(), ONE.vip(family))?;
    }
    // Ranges that overlap and touch.
    for family in IpFamily::BOTH {
        let client = *outside.get(family);
        let host = ipnet::IpNet::from(client);
        let around = ipnet::IpNet::new(client, family.bits() - 2)?;
        service.policy.load_balancer_source_ranges.extend([host, around, plan::pod_net(1).v4]);
    }
    world.set(service.clone());
    world.sync()?;
    for family in IpFamily::BOTH {
        world.cluster.client().probe().tcp(ONE.vip(family)).answer()?;
        world.pod("other").probe().udp(ONE.vip(family)).answer()?;
    }
    service.policy.load_balancer_source_ranges.clear();
    world.set(service);
    world.sync()?;
    for family in IpFamily::BOTH {
        world.cluster.node(0).probe().tcp(ONE.vip(family)).answer()?;
    }
    Ok(())
}

fn node_port_addresses() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "other")])?;
    world.set(ONE.everything());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    let gateways = |world: &World, family| world.cluster.node(0).pod_gateway(family);
    let timeout = Duration::from_millis(300);
    for family in IpFamily::BOTH {
        let pod = world.pod("other").probe().timeout(timeout);
        let gateway = (gateways(&world, family), ONE.node_port_number()).into();
        let far = (*plan::node(1).get(family), ONE.node_port_number()).into();
        pod.tcp(ONE.node_port(family)).answer()?;
        ensure!(!pod.tcp(gateway).is_answer(), "not the primary address");
        ensure!(!pod.tcp(far).is_answer(), "not an address of this node");
    }
    world.restart_with(|config| config.node_ports = NodePortAddresses::All)?;
    world.sync()?;
    for family in IpFamily::BOTH {
        let pod = world.pod("other").probe().timeout(timeout);
        pod.tcp((gateways(&world, family), ONE.node_port_number()).into()).answer()?;
        pod.udp(ONE.node_port(family)).answer()?;
        let loopback = match family {
            IpFamily::V4 => ([127, 0, 0, 1], ONE.node_port_number()).into(),
            IpFamily::V6 => (std::net::Ipv6Addr::LOCALHOST, ONE.node_port_number()).into(),
        };
        ensure!(!world.cluster.node(0).probe().timeout(timeout).tcp(loopback).is_answer());
    }
    world.restart_with(|config| config.node_ports = NodePortAddresses::Within(Vec::new()))?;
    world.sync()?;
    for family in IpFamily::BOTH {
        let pod = world.pod("other").probe().timeout(timeout);
        ensure!(!pod.tcp(ONE.node_port(family)).is_answer(), "no address at all");
    }
    Ok(())
}

fn terminating_endpoints() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "b"), (0, "other")])?;
    let terminating = Conditions { ready: false, serving: true, terminating: true };
    world.set(ONE.cluster_ip_only());
    world.endpoints_in(ONE, &[("a", terminating), ("b", Conditions::default())]);
    world.sync()?;
    for family in IpFamily::BOTH {
        world.pod("other").probe().spread(ONE.cluster_ip(family), 20).check_even(&["b"])?;
    }
    world.endpoints_in(ONE, &[("a", terminating)]);
    world.sync()?;
    for family in IpFamily::BOTH {
        world.pod("other").probe().spread(ONE.cluster_ip(family), 20).check_even(&["a"])?;
    }
    Ok(())
}

fn contested_frontend() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "b")])?;
    let mut second = TWO.everything();
    second.load_balancer_vips = ONE.everything().load_balancer_vips;
    second.ports = ONE.everything().ports;
    world.set(second);
    world.endpoints(TWO, &["b"]);
    world.sync()?;
    let expect = |world: &World, pod: &str| -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            for address in [ONE.vip(family), ONE.node_port(family)] {
                world.cluster.client().probe().spread(address, 10).check_even(&[pod])?;
            }
        }
        Ok(())
    };
    expect(&world, "b")?;
    // The first by name has it, also when it comes later.
    world.set(ONE.everything());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    expect(&world, "a")?;
    world.apply(&kube_proxy_core::Event::ServiceDeleted(ONE.name()));
    world.sync()?;
    expect(&world, "b")
}

fn ip(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "ip",
        IpFamily::V6 => "ip6",
    }
}
