//! Connections to endpoints that left, of Services that want them ended.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Connection;

use crate::PerMode;
use crate::objects::{Svc, vip};
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("dead/node-lost", node_lost),
    ("dead/last-endpoint-lost", last_endpoint_lost),
    ("dead/terminating-pod-keeps-its-connections", terminating),
    ("dead/rolling-update", rolling_update),
    ("dead/endpoint-stays-in-another-service", stays_in_another),
    ("dead/only-where-it-is-asked-for", only_where_asked),
];

const CLIENT: From = From::Pod("client");

fn asking(name: &str, number: u8) -> Svc {
    let annotations = serde_json::json!({ "kube-proxy.io/reset-dead-connections": "true" });
    Svc::new(name, number).load_balancer().with("/metadata/annotations", annotations)
}

/// Connections to each kind of frontend of a Service, in both families.
fn open(world: &World, number: u8) -> anyhow::Result<Vec<(String, Connection)>> {
    let mut open = Vec::new();
    for family in IpFamily::BOTH {
        let vip = SocketAddr::new(vip(number, family), 80);
        for (from, to) in [
            (CLIENT, cluster_address(number, family)),
            (From::Node, cluster_address(number, family)),
            (From::Outside, world.node_port(number, family)),
            (From::Outside, vip),
        ] {
            let what = format!("{from:?} to {to}");
            let connection = world.probe(from).connect(to).with_context(|| what.clone())?;
            connection.set_timeout(GUARD)?;
            open.push((what, connection));
        }
    }
    Ok(open)
}

/// Waits, without sending anything, until all connections are reset.
fn are_reset(connections: &mut [(String, Connection)]) -> anyhow::Result<()> {
    for (what, connection) in connections {
        let outcome = connection.wait();
        ensure!(outcome.is_reset(), "{what}: {outcome}");
    }
    Ok(())
}

fn live(connections: &mut [(String, Connection)], pod: &str) -> anyhow::Result<()> {
    for (what, connection) in connections {
        let answer = connection.ping().answer().with_context(|| what.clone())?;
        ensure!(answer.pod == pod, "{what}: {}", answer.pod);
    }
    Ok(())
}

/// Waits until everything that was to be ended by now has been: until a connection that has to be after it is.
fn let_time_pass(world: &World, number: u8) -> anyhow::Result<()> {
    let last = asking(&format!("last-{number}"), number);
    world.serve(&last, &["local-2"])?;
    world.settle()?;
    let mut connections = open(world, number)?;
    world.serve(&last, &[])?;
    are_reset(&mut connections)
}

/// From now on nothing comes from a pod, not even a goodbye.
fn cut_off(world: &World, pod: &str) -> anyhow::Result<()> {
    world.pod(pod).netns().ip("link set eth0 down\n")
}

/// Clients that wait learn it, and so do those that send; those of the other endpoint notice nothing.
fn node_lost(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking("web", 1);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let mut staying = open(&world, 1)?;
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    let mut waiting = open(&world, 1)?;
    let mut sending = open(&world, 1)?;
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    live(&mut sending, "remote-1")?;
    // That one comes back before anybody takes notice.
    live(&mut staying, "local-1")?;

    cut_off(&world, "remote-1")?;
    world.serve(&service, &["local-1"])?;
    for (what, connection) in &mut sending {
        let outcome = connection.ping();
        ensure!(outcome.is_reset(), "{what}: {outcome}");
    }
    are_reset(&mut waiting)?;
    live(&mut staying, "local-1")?;
    world.check_pods(CLIENT, cluster_address(1, IpFamily::V4), &["local-1"])
}

fn last_endpoint_lost(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking("web", 1);
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    let mut waiting = open(&world, 1)?;
    cut_off(&world, "remote-1")?;
    world.serve(&service, &[])?;
    are_reset(&mut waiting)
}

fn terminating(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking("web", 1);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let mut connections = open(&world, 1)?;
    let leaving = world.endpoint("local-1").terminating();
    world.apply(service.slices(TARGET, &[leaving, world.endpoint("remote-1")]))?;
    let_time_pass(&world, 8)?;
    live(&mut connections, "local-1")?;
    // It answers no more, but it is there.
    let leaving = world.endpoint("local-1").unready();
    world.apply(service.slices(TARGET, &[leaving, world.endpoint("remote-1")]))?;
    let_time_pass(&world, 9)?;
    live(&mut connections, "local-1")
}

/// One pod after the other is replaced. Each ends its connections before it goes; those of the others live.
fn rolling_update(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking("web", 1);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let mut first = open(&world, 1)?;
    world.serve(&service, &["local-2", "local-1"])?;
    world.apply(
        service
            .slices(TARGET, &[world.endpoint("local-1").terminating(), world.endpoint("local-2")]),
    )?;
    world.settle()?;
    let mut second = open(&world, 1)?;
    live(&mut first, "local-1")?;
    live(&mut second, "local-2")?;
    drop(first);
    world.serve(&service, &["local-2", "remote-1"])?;
    let_time_pass(&world, 8)?;
    live(&mut second, "local-2")
}

fn stays_in_another(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let (first, second) = (asking("first", 1), asking("second", 2));
    world.serve(&first, &["local-1"])?;
    world.serve(&second, &["local-1"])?;
    world.settle()?;
    let mut through_first = open(&world, 1)?;
    let mut others = open(&world, 2)?;
    for family in IpFamily::BOTH {
        let to = world.pod("local-1").address(family, TARGET);
        others.push((format!("to the pod at {to}"), world.probe(From::Outside).connect(to)?));
    }
    world.serve(&first, &["local-2"])?;
    are_reset(&mut through_first)?;
    live(&mut others, "local-1")
}

fn only_where_asked(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).load_balancer();
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let mut connections = open(&world, 1)?;
    world.serve(&service, &["local-2"])?;
    let_time_pass(&world, 8)?;
    live(&mut connections, "local-1")
}
