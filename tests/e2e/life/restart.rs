//! A proxy that ends and comes back.

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::probe::Connection;

use crate::objects::Svc;
use crate::traffic::{Traffic, becomes};
use crate::world::{From, Mode, World, cluster_address};

const CLIENT: From = From::Pod("client");

pub(super) fn after_sigterm(mode: Mode) -> anyhow::Result<()> {
    unnoticed(mode, World::stop)
}

pub(super) fn after_sigkill(mode: Mode) -> anyhow::Result<()> {
    unnoticed(mode, |world| world.proxy_mut().kill())
}

/// Neither the end nor the next start fails a connection, new or established.
fn unnoticed(mode: Mode, end: fn(&mut World) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1", "remote-1"])?;
    world.settle()?;
    let mut established = connections(&world)?;
    let traffic = Traffic::to_service(&world, 1)?;
    end(&mut world)?;
    traffic.go_on();
    ping(&mut established)?;
    world.start()?;
    traffic.go_on();
    world.settle()?;
    traffic.stop()?;
    ping(&mut established)
}

fn connections(world: &World) -> anyhow::Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for family in IpFamily::BOTH {
        connections.push(world.probe(CLIENT).connect(cluster_address(1, family))?);
        connections.push(world.probe(From::Outside).connect(world.node_port(1, family))?);
    }
    Ok(connections)
}

fn ping(connections: &mut [Connection]) -> anyhow::Result<()> {
    for connection in connections {
        let pod = connection.greeting().pod.clone();
        let answer = connection.ping().answer()?;
        ensure!(answer.pod == pod, "{} answers on a connection to {pod}", answer.pod);
    }
    Ok(())
}

pub(super) fn leaves_rules(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&Svc::new("web", 1).load_balancer(), &["local-1", "remote-1"])?;
    world.settle()?;
    let before = rules(&world, mode)?;
    world.stop()?;
    ensure!(rules(&world, mode)? == before, "stopping changed the rules");
    world.start()?;
    world.stop()?;
    ensure!(rules(&world, mode)? == before, "a restart without a change changed the rules");
    Ok(())
}

fn rules(world: &World, mode: Mode) -> anyhow::Result<[Vec<String>; 2]> {
    Ok([world.rules(mode, IpFamily::V4)?, world.rules(mode, IpFamily::V6)?])
}

/// Killed while many changes come in, a new process ends up with what a fresh one would have.
pub(super) fn in_the_middle(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let services: Vec<Svc> =
        (1..=60).map(|number| Svc::new(&format!("s-{number}"), number).node_port()).collect();
    for (index, service) in services.iter().enumerate() {
        world.serve(service, &["local-1", "remote-1"])?;
        if index == 30 {
            world.proxy_mut().kill()?;
        }
    }
    for service in services.iter().step_by(3) {
        world.delete("Service", &service.name)?;
    }
    for service in services.iter().skip(1).step_by(3) {
        world.serve(service, &["local-2"])?;
    }
    world.start()?;
    world.settle()?;
    for family in IpFamily::BOTH {
        for (index, service) in services.iter().enumerate() {
            let to = cluster_address(service.number, family);
            match index % 3 {
                0 => {
                    let outcome =
                        world.cluster.client().probe().tcp(world.node_port(service.number, family));
                    ensure!(outcome.is_refused(), "{}, deleted: {outcome}", service.name);
                }
                1 => becomes(world.probe(CLIENT), to, "local-2"),
                _ => world.check_pods(CLIENT, to, &["local-1", "remote-1"])?,
            }
        }
    }
    let after_kill = rules(&world, mode)?;
    world.stop()?;
    super::cleanup::run(&world)?;
    world.start()?;
    let fresh = rules(&world, mode)?;
    for (left, right) in after_kill.iter().zip(&fresh) {
        let differ: Vec<_> = left
            .iter()
            .filter(|rule| !right.contains(rule))
            .chain(right.iter().filter(|rule| !left.contains(rule)))
            .collect();
        ensure!(differ.is_empty(), "differs from what a fresh process writes: {differ:#?}");
    }
    Ok(())
}
