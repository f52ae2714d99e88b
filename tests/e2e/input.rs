//! Bad objects among good ones: the good ones work, each bad one is named once and counted.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Outcome;
use serde_json::{Value, json};
use std::net::SocketAddr;

use crate::Once;
use crate::objects::{Ep, NAMESPACE, Svc, external_ip};
use crate::traffic::{Traffic, ends, works};
use crate::world::{From, Mode, TARGET, World, cluster_address};

mod cases;

pub(crate) const TESTS: &[Once] = &[
    ("input/bad-objects", bad_objects),
    ("input/rest-of-the-object-counts", rest_counts),
    ("input/every-type", every_type),
    ("input/five-thousand-endpoints", five_thousand_endpoints),
    ("input/same-frontend-twice", same_frontend),
];

const MODE: Mode = Mode::IptablesNft;
const CLIENT: From = From::Pod("client");

/// One bad object.
struct Case {
    object: Value,
    /// What its one log line names; empty for an object that is no problem.
    named: &'static [&'static str],
}

fn good(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        world.check_pods(CLIENT, cluster_address(1, family), &["local-1", "remote-1"])?;
        world.check_pods(From::Outside, world.node_port(1, family), &["local-1", "remote-1"])?;
    }
    Ok(())
}

/// Each problem is logged once, however often the object is seen again.
fn bad_objects() -> anyhow::Result<()> {
    let mut world = World::new(MODE)?;
    world.serve(&Svc::new("good", 1).node_port(), &["local-1", "remote-1"])?;
    world.settle()?;
    let traffic = Traffic::to_service(&world, 1)?;
    let cases = cases::all();
    for case in &cases {
        world.apply([case.object.clone()])?;
    }
    world.settle()?;
    good(&world)?;
    // Everything is seen again, and synced again.
    world.api.faults().compact_history();
    world.api.stop();
    world.apply([Svc::new("nudge", 9).object()])?;
    world.api.faults().compact_history();
    world.cluster.node(0).netns().run(|| world.api.resume())?;
    world.settle()?;
    good(&world)?;
    traffic.stop()?;
    ensure!(world.proxy_mut().is_running(), "the proxy ended");
    let lines = world.proxy().lines();
    let mut wrong = Vec::new();
    for case in cases.iter().filter(|case| !case.named.is_empty()) {
        let name = case.object["metadata"]["name"].as_str().unwrap_or_default();
        let fits = |line: &&String| {
            line.contains(name) && case.named.iter().all(|part| line.contains(part))
        };
        let said = lines.iter().filter(fits).count();
        if said != 1 {
            wrong.push(format!("{said} lines for {name:.60} with {:?}", case.named));
        }
    }
    let silent = cases.iter().filter(|case| case.named.is_empty());
    for case in silent {
        let name = case.object["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(line) =
            lines.iter().find(|l| l.contains(" WARN ") && l.contains(&format!("/{name}:")))
        {
            wrong.push(format!("said of {name}: {line}"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}\n{}", lines.join("\n"));
    counted(&world, &cases)
}

/// The metric has this many objects of each kind.
fn counted(world: &World, cases: &[Case]) -> anyhow::Result<()> {
    let text =
        world.cluster.node(0).probe().http_get(([127, 0, 0, 1], 10_249).into(), "/metrics")?.body;
    for kind in ["Service", "EndpointSlice"] {
        let bad = cases.iter().filter(|case| case.object["kind"] == kind && !case.named.is_empty());
        let line = format!("kubeproxy_invalid_objects{{kind=\"{kind}\"}} {}", bad.count());
        ensure!(text.lines().any(|have| have == line), "no {line:?} in:\n{text}");
    }
    Ok(())
}

/// A bad field costs no more than itself.
fn rest_counts() -> anyhow::Result<()> {
    let world = World::new(MODE)?;
    let service = Svc::new("half", 1)
        .node_port()
        .with("/spec/externalIPs", json!(["not-an-ip", external_ip(1, IpFamily::V4).to_string()]));
    let mut object = service.object();
    let bad = [
        json!({ "name": "zero", "port": 0 }),
        json!({ "name": "odd", "port": 82, "protocol": "QUIC" }),
    ];
    object["spec"]["ports"].as_array_mut().context("ports")?.extend(bad);
    let mut slices = service.slices(TARGET, &world.endpoints(&["local-1"]));
    for slice in &mut slices {
        let bad = json!({ "addresses": ["nonsense"], "conditions": { "ready": true } });
        slice["endpoints"].as_array_mut().context("endpoints")?.insert(0, bad);
    }
    world.apply([object])?;
    world.apply(slices)?;
    for family in IpFamily::BOTH {
        works(world.probe(CLIENT), cluster_address(1, family));
        works(world.probe(From::Outside), world.node_port(1, family));
    }
    works(world.probe(From::Outside), SocketAddr::new(external_ip(1, IpFamily::V4), 80));
    Ok(())
}

/// Services of every type, with and without what belongs to it, side by side.
fn every_type() -> anyhow::Result<()> {
    let mut world = World::new(MODE)?;
    world.serve(&Svc::new("good", 1).node_port(), &["local-1", "remote-1"])?;
    for (index, kind) in
        ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "Unheard"].iter().enumerate()
    {
        let number = u8::try_from(10 + index)?;
        let service = Svc::new(&format!("type-{}", kind.to_lowercase()), number)
            .with("/spec/type", *kind)
            .with("/spec/externalName", "somewhere.example");
        world.serve(&service, &["local-1"])?;
    }
    let headless = Svc::new("headless", 20)
        .with("/spec/clusterIP", "None")
        .with("/spec/clusterIPs", json!(["None"]));
    world.serve(&headless, &["local-1"])?;
    world.settle()?;
    good(&world)?;
    for family in IpFamily::BOTH {
        for number in 10..=12 {
            works(world.probe(CLIENT), cluster_address(number, family));
        }
        ends(world.probe(CLIENT), cluster_address(13, family), Outcome::is_timed_out);
    }
    ensure!(world.proxy_mut().is_running(), "the proxy ended");
    Ok(())
}

/// A Service with 5,000 endpoints in 50 slices, none of which exists.
///
/// With legacy: without full privileges the kernel takes no transaction of that size from the nft programs.
fn five_thousand_endpoints() -> anyhow::Result<()> {
    let mut world = World::new(Mode::IptablesLegacy)?;
    world.serve(&Svc::new("good", 1).node_port(), &["local-1", "remote-1"])?;
    let large = Svc::new("large", 2);
    world.apply([large.object()])?;
    for slice in 0..50_u16 {
        let endpoints: Vec<Ep> = (0..100_u16)
            .map(|endpoint| {
                let number = slice * 100 + endpoint;
                let [high, low] = number.to_be_bytes();
                let v4 = [172, 30, high, low].into();
                Ep::new([v4, [0xfd30, 0, 0, 0, 0, 0, 0, number].into()], "elsewhere")
            })
            .collect();
        for family in IpFamily::BOTH {
            world.apply([large.slice(family, &format!("-{slice}"), TARGET, &endpoints)])?;
        }
    }
    world.settle()?;
    good(&world)?;
    for slice in 0..50_u16 {
        for family in ["ipv4", "ipv6"] {
            world
                .api
                .delete("EndpointSlice", NAMESPACE, &format!("large-{family}-{slice}"))
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
    }
    world.serve(&large, &["local-2"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        world.check_pods(CLIENT, cluster_address(2, family), &["local-2"])?;
    }
    ensure!(world.proxy_mut().is_running(), "the proxy ended");
    Ok(())
}

/// Two Services want one external IP and one node port: one gets them, the other keeps all else, and the log names both.
fn same_frontend() -> anyhow::Result<()> {
    let world = World::new(MODE)?;
    let first = Svc::new("first", 1).node_port().external_ips();
    let port = first.object()["spec"]["ports"][0]["nodePort"].clone();
    let ips = first.object()["spec"]["externalIPs"].clone();
    let second = Svc::new("second", 2)
        .with("/spec/type", "NodePort")
        .with("/spec/ports/0/nodePort", port)
        .with("/spec/externalIPs", ips);
    world.serve(&first, &["local-1"])?;
    world.serve(&second, &["local-2"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let contested = [SocketAddr::new(external_ip(1, family), 80), world.node_port(1, family)];
        world.check_pods(CLIENT, cluster_address(1, family), &["local-1"])?;
        world.check_pods(CLIENT, cluster_address(2, family), &["local-2"])?;
        for to in contested {
            let owner = world.probe(From::Outside).tcp(to).answer()?.pod;
            world.check_pods(From::Outside, to, &[&owner])?;
        }
    }
    let lines = world.proxy().lines();
    let said = lines.iter().filter(|l| {
        l.contains(" WARN ") && l.contains("default/first") && l.contains("default/second")
    });
    // Two frontends in two families; the node port has no address that distinguishes the families.
    let said = said.count();
    ensure!((2..=4).contains(&said), "{said} lines:\n{}", lines.join("\n"));
    // The owner goes: the other one takes over.
    world.delete("Service", "first")?;
    world.settle()?;
    for family in IpFamily::BOTH {
        for to in [SocketAddr::new(external_ip(1, family), 80), world.node_port(1, family)] {
            world.check_pods(From::Outside, to, &["local-2"])?;
        }
    }
    Ok(())
}
