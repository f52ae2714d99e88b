//! `nft` lists whatever we write, as text and as JSON.

use anyhow::ensure;
use kube_proxy_core::{
    IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectName, Port, Protocol, TrafficPolicy,
};
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("listing::every_shape", every_shape), trial("listing::skeleton", skeleton)]
}

/// Services that between them make every kind of chain and element.
fn shapes(world: &mut World) {
    let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
    let mut number = 1;
    for internal in policies {
        for external in policies {
            for affinity in [None, Some(std::time::Duration::from_hours(3))] {
                let svc = Svc(number);
                number += 1;
                let mut service = svc.everything();
                service.internal_traffic_policy = internal;
                service.external_traffic_policy = external;
                service.session_affinity = affinity;
                service.load_balancer_source_ranges = ["10.0.0.0/8", "172.18.0.0/30", "fd00::/7"]
                    .map(|net| net.parse().expect("a network"))
                    .into();
                service.ports.push(Port {
                    name: "sctp".into(),
                    protocol: Protocol::Sctp,
                    port: 80.try_into().expect("not zero"),
                    node_port: None,
                });
                world.set(service);
                world.endpoints(svc, &["a", "b"]);
            }
        }
    }
    // One whose endpoints are elsewhere, one without any, one with a name as long as can be.
    let mut elsewhere = Svc(50).everything();
    elsewhere.external_traffic_policy = TrafficPolicy::Local;
    world.set(elsewhere);
    world.endpoints(Svc(50), &["b"]);
    world.set(Svc(51).everything());
    let mut long = Svc(52).everything();
    long.name = ObjectName::new("n".repeat(63), "s".repeat(63));
    long.ports[0].name = "p".repeat(15).into();
    world.set(long);
}

fn every_shape() -> anyhow::Result<()> {
    let detectors = [
        LocalTrafficDetector::None,
        LocalTrafficDetector::Bridge("cni0".into()),
        LocalTrafficDetector::InterfacePrefix("veth".into()),
    ];
    let mut world = World::new(&[(0, "a"), (1, "b")])?;
    shapes(&mut world);
    for masquerade_all in [false, true] {
        for detector in &detectors {
            world.restart_with(|config| {
                config.masquerade_all = masquerade_all;
                config.local_traffic = detector.clone();
                config.node_ports = if masquerade_all {
                    NodePortAddresses::All
                } else {
                    let nets = ["172.18.0.0/24", "255.255.255.0/24", "fd00:18::/64", "ff00::/8"];
                    NodePortAddresses::from_cidrs(
                        config.family,
                        &nets.map(|net| net.parse().expect("a network")),
                    )
                };
            })?;
            world.sync()?;
            ensure_nothing_sent(world.full_sync()?)?;
            // Sessions are listed too.
            for family in IpFamily::BOTH {
                world.pod("a").probe().tcp(Svc(2).cluster_ip(family)).answer()?;
            }
            let text = world.nft("list ruleset")?;
            ensure!(text.contains("10.96.0.2 . tcp . 80 timeout 3h expires"), "{text}");
            ensure!(text.contains("255.255.255.0/24") != masquerade_all, "{text}");
            for table in ["ip", "ip6"] {
                let text = world.nft(&format!("list table {table} kube-proxy"))?;
                ensure!(text.contains("comment \"test/svc-1:tcp\" : goto "), "{text}");
            }
            let json: serde_json::Value = serde_json::from_str(&world.nft("-j list ruleset")?)?;
            let objects = json["nftables"].as_array().map_or(0, Vec::len);
            ensure!(objects > 200, "{objects} objects");
        }
    }
    Ok(())
}

/// The rules that are always there, as an operator sees them.
fn skeleton() -> anyhow::Result<()> {
    let mut world = World::new(&[])?;
    world.sync()?;
    let text = world.nft("--stateless list table ip kube-proxy")?;
    expect_test::expect_file!["skeleton.txt"].assert_eq(&text);
    Ok(())
}
