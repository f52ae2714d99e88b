//! TCP connections that begin before the rules for their destination are there.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::probe::Connection;

use crate::PerMode;
use crate::objects::{Svc, cluster_ip, external_ip, vip};
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("early/connection-before-the-service", before_service),
    ("early/connection-while-no-proxy-runs", while_down),
    ("early/other-connections-stay", others_stay),
];

const CLIENT: From = From::Pod("client");

/// Where clients ask for connections to Service 1.
fn asked() -> Vec<(From, SocketAddr)> {
    let all = IpFamily::BOTH.into_iter().flat_map(|family| {
        [
            (CLIENT, cluster_address(1, family)),
            (From::Node, cluster_address(1, family)),
            (From::Outside, cluster_address(1, family)),
            (From::Outside, SocketAddr::new(vip(1, family), 80)),
            (From::Outside, SocketAddr::new(external_ip(1, family), 80)),
        ]
    });
    all.collect()
}

fn service() -> Svc {
    Svc::new("web", 1).load_balancer().external_ips()
}

/// Begins connections that get no answer, lets `appear` make the Service appear, and checks that each is made by a later SYN.
fn connects_later(
    world: &mut World,
    appear: impl FnOnce(&mut World) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let clients: Vec<_> = asked()
        .into_iter()
        .map(|(from, to)| (from, to, netns(world, from).spawn(move || greeting(to))))
        .collect();
    wait_for_waiting(world, clients.len());
    appear(world)?;
    for (from, to, client) in clients {
        let greeting = client.join().expect("the thread does not panic");
        let greeting = greeting.with_context(|| format!("{from:?} to {to}"))?;
        ensure!(greeting.contains("local-1"), "{greeting}");
    }
    Ok(())
}

fn netns(world: &World, from: From) -> &Netns {
    match from {
        From::Pod(name) => world.pod(name).netns(),
        From::Node => world.cluster.node(0).netns(),
        From::Outside => world.cluster.client().netns(),
    }
}

/// Waits for a connection as long as the kernel tries, and reads who it is to.
fn greeting(to: SocketAddr) -> std::io::Result<String> {
    let mut line = String::new();
    BufReader::new(TcpStream::connect(to)?).read_line(&mut line)?;
    Ok(line)
}

/// Waits until so many connections wait for an answer.
fn wait_for_waiting(world: &World, count: usize) {
    eventually(GUARD, || {
        let waiting = entries(world, &["--state", "SYN_SENT"])?;
        ensure!(waiting.len() == count, "{waiting:#?} wait, not {count}");
        Ok(())
    });
}

/// The tracked TCP connections of the node under test: the addresses and the entry's identity.
fn entries(world: &World, filter: &[&str]) -> anyhow::Result<Vec<String>> {
    let mut entries = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let arguments = [&["-L", "-p", "tcp", "-f", family, "-o", "id"], filter].concat();
        for line in world.on_node("conntrack", &arguments)?.lines() {
            let is_lasting = |word: &&str| word.contains('=') && !word.starts_with("use=");
            let words: Vec<_> = line.split_whitespace().filter(is_lasting).collect();
            entries.push(words.join(" "));
        }
    }
    Ok(entries)
}

fn before_service(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.settle()?;
    connects_later(&mut world, |world| world.serve(&service(), &["local-1"]))?;
    let text = world.proxy().lines().join("\n");
    ensure!(text.contains("TCP connections that began before the rules"), "{text}");
    Ok(())
}

fn while_down(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.settle()?;
    world.stop()?;
    connects_later(&mut world, |world| {
        world.serve(&service(), &["local-1"])?;
        world.start()
    })
}

/// What stands stays, translated or not, and so does a connection to another address that waits.
fn others_stay(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&Svc::new("first", 2).load_balancer(), &["local-1"])?;
    world.settle()?;
    let mut open: Vec<(String, Connection)> = Vec::new();
    for family in IpFamily::BOTH {
        let pod = world.pod("local-2").address(family, TARGET);
        open.push(connection(&world, CLIENT, cluster_address(2, family))?);
        open.push(connection(&world, From::Outside, SocketAddr::new(vip(2, family), 80))?);
        open.push(connection(&world, From::Outside, pod)?);
    }
    // These never get an answer.
    let asking: Vec<_> = IpFamily::BOTH
        .into_iter()
        .map(|family| {
            let to = cluster_address(3, family);
            netns(&world, CLIENT).spawn(move || TcpStream::connect_timeout(&to, GUARD))
        })
        .collect();
    wait_for_waiting(&world, asking.len());
    let before = entries(&world, &[])?;
    world.serve(&service(), &["local-1"])?;
    world.settle()?;
    if mode != Mode::Userspace {
        world.stop()?;
        world.start()?;
    }
    for (what, connection) in &mut open {
        let answer = connection.ping().answer().with_context(|| what.clone())?;
        ensure!(["local-1", "local-2"].contains(&answer.pod.as_str()), "{what}: {}", answer.pod);
    }
    let after = entries(&world, &[])?;
    let gone: Vec<_> = before.iter().filter(|entry| !after.contains(entry)).collect();
    // Those of probes have ended meanwhile.
    let kept = [2, 3].map(|number| IpFamily::BOTH.map(|family| cluster_ip(number, family)));
    let kept = kept.as_flattened().iter().map(|ip| format!("dst={ip} "));
    let kept: Vec<_> = kept.chain([format!("dport={TARGET} ")]).collect();
    let lost: Vec<_> = gone.iter().filter(|entry| kept.iter().any(|k| entry.contains(k))).collect();
    ensure!(lost.is_empty(), "{lost:#?} are gone, and left are {after:#?}");
    ensure!(asking.iter().all(|client| !client.is_finished()), "a connection to nowhere ended");
    Ok(())
}

fn connection(world: &World, from: From, to: SocketAddr) -> anyhow::Result<(String, Connection)> {
    let what = format!("{from:?} to {to}");
    let connection = world.probe(from).connect(to).with_context(|| what.clone())?;
    Ok((what, connection))
}
