//! `nft` lists whatever we write, as text and as JSON.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::{
    Algorithm, IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectName, Port, Protocol,
    TrafficPolicy,
};
use kube_proxy_testkit::cluster::plan;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("listing::every_shape", every_shape),
        trial("listing::can_be_loaded_again", can_be_loaded_again),
        trial("listing::skeleton", skeleton),
    ]
}

/// Services that between them make every kind of chain and element.
pub(crate) fn shapes(world: &mut World) {
    let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local];
    let mut number = 1;
    for internal in policies {
        for external in policies {
            for affinity in [None, Some(std::time::Duration::from_hours(3))] {
                let svc = Svc(number);
                number += 1;
                let mut service = svc.everything();
                service.policy.internal_traffic_policy = internal;
                service.policy.external_traffic_policy = external;
                service.policy.session_affinity = affinity;
                service.policy.load_balancer_source_ranges =
                    ["10.0.0.0/8", "172.18.0.0/30", "fd00::/7"]
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
    // Endpoints by a hash of the client's address, with and without sessions, and by weight.
    for (number, affinity) in [(60, None), (61, Some(std::time::Duration::from_mins(1)))] {
        let mut hashed = Svc(number).everything();
        hashed.policy.algorithm = Some(Algorithm::SourceHash);
        hashed.policy.external_traffic_policy = TrafficPolicy::Local;
        hashed.policy.session_affinity = affinity;
        world.set(hashed);
        world.weighted(Svc(number), &[("a", 2), ("b", 5)]);
    }
    // By a table of client addresses and ports, at both kinds of frontends.
    let mut table = Svc(62).cluster_ip_only();
    table.policy.algorithm = Some(Algorithm::Maglev);
    table.ports[0].node_port = Some(30_062.try_into().expect("not zero"));
    world.set(table);
    world.endpoints(Svc(62), &["a", "b"]);
    // One whose endpoints are elsewhere, one without any, one with a name as long as can be.
    let mut elsewhere = Svc(50).everything();
    elsewhere.policy.external_traffic_policy = TrafficPolicy::Local;
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
            // 10.96.0.2, TCP port 80.
            ensure!(text.contains(" . 174063618 . 600080 timeout 3h expires"), "{text}");
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

/// Hosts that save their rules and restore them: what `nft` prints, `nft` loads, whatever the configuration, and it does the same.
fn can_be_loaded_again() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b")])?;
    shapes(&mut world);
    // With policy Cluster for both, and affinity.
    let sticky = Svc(2);
    let detectors = [
        LocalTrafficDetector::Cidr(plan::pod_net(0).v4),
        LocalTrafficDetector::None,
        LocalTrafficDetector::Bridge("cni0".into()),
        LocalTrafficDetector::InterfacePrefix("veth".into()),
    ];
    for (number, detector) in (100..).step_by(10).zip(&detectors) {
        world.restart_with(|config| {
            config.masquerade_all = *detector == LocalTrafficDetector::None;
            config.local_traffic = match (detector, config.family) {
                (LocalTrafficDetector::Cidr(_), IpFamily::V6) => {
                    LocalTrafficDetector::Cidr(plan::pod_net(0).v6)
                }
                (other, _) => other.clone(),
            };
            let nets = ["0.0.0.0/9", "172.18.0.0/24", "fd00:18::/64", "ff00::/8"];
            let nets = nets.map(|net| net.parse().expect("a network"));
            config.node_ports = NodePortAddresses::from_cidrs(config.family, &nets);
        })?;
        world.sync()?;
        let met = clients(&world, sticky, number, true)?;
        let expected = reload(&world)?;
        let after = world.ruleset()?;
        ensure!(after == expected, "{after}\nnot:\n{expected}");
        ensure!(clients(&world, sticky, number, false)? == met, "sessions continue, {detector:?}");
        for family in IpFamily::BOTH {
            world.cluster.client().probe().tcp(Svc(1).node_port(family)).answer()?;
            let none = world.cluster.client().probe().tcp(Svc(51).node_port(family));
            ensure!(none.is_refused(), "{none}");
            let hashed = world.cluster.client().probe().spread(Svc(60).cluster_ip(family), 5);
            ensure!(hashed.pods.len() == 1 && hashed.failures.is_empty(), "one client: {hashed}");
        }
        // The next full sync makes it ours again, and sessions continue all the same.
        world.full_sync()?;
        ensure!(
            clients(&world, sticky, number, false)? == met,
            "sessions after the sync, {detector:?}"
        );
        ensure_nothing_sent(world.full_sync()?)?;
    }
    Ok(())
}

/// Saves the rules as `nft` lists them, deletes them, and loads them again; returns what should be there now.
fn reload(world: &World) -> anyhow::Result<String> {
    let mut expected = world.ruleset()?;
    let mut text = world.nft("list ruleset")?;
    if !loads_long_data(world)? {
        // Without what refreshes sessions of IPv6, as the program can load no such rule, of any origin.
        let (ip, ip6) = text.split_once("table ip6 ").context("no table of IPv6")?;
        let ip6 = ip6.lines().filter(|line| !line.contains("update @client-affinity"));
        let ip6 = ip6.collect::<Vec<_>>().join("\n");
        text = format!("{ip}table ip6 {ip6}");
        let lost = |line: &&str| !(line.contains("update @") && line.contains("ip6 saddr"));
        expected = expected.lines().filter(lost).collect::<Vec<_>>().join("\n");
    }
    let saved = std::env::temp_dir().join("saved.nft");
    std::fs::write(&saved, text)?;
    world.nft("flush ruleset")?;
    world.nft(&format!("-f {}", saved.display()))?;
    Ok(expected)
}

/// Whether this `nft` can load any rule that puts more than 16 bytes of data into a map: version 1.0.6 aborts.
fn loads_long_data(world: &World) -> anyhow::Result<bool> {
    let text = "table ip6 probe {
        map m { type ipv6_addr : ipv6_addr . inet_service ; size 9 ; flags dynamic,timeout ; }
        chain c { update @m { ip6 saddr timeout 1h : ip6 daddr . th dport } ; }
    }";
    let file = std::env::temp_dir().join("probe.nft");
    std::fs::write(&file, text)?;
    Ok(world.nft(&format!("-c -f {}", file.display())).is_ok())
}

/// Which pods some clients meet; each one the same at two frontends.
fn clients(world: &World, svc: Svc, number: u8, first: bool) -> anyhow::Result<Vec<String>> {
    let mut met = Vec::new();
    for family in IpFamily::BOTH {
        for host in 0..6_u8 {
            let address: IpAddr = match family {
                IpFamily::V4 => [172, 18, 0, number + host].into(),
                IpFamily::V6 => format!("fd00:18::{:x}", number + host).parse()?,
            };
            if first {
                world.cluster.client().add_address(address)?;
            }
            let client = world.cluster.client().probe().source(address);
            let pod = client.tcp(svc.cluster_ip(family)).answer()?.pod;
            let other = client.tcp(svc.node_port(family)).answer()?.pod;
            ensure!(pod == other, "{address} met {pod} and {other}");
            met.push(pod);
        }
    }
    Ok(met)
}

/// The rules that are always there, as an operator sees them.
fn skeleton() -> anyhow::Result<()> {
    let mut world = World::new(&[])?;
    world.sync()?;
    let text = world.nft("--stateless list table ip kube-proxy")?;
    expect_test::expect_file!["skeleton.txt"].assert_eq(&text);
    Ok(())
}
