//! Endpoints that come and go under traffic.

use anyhow::ensure;
use kube_proxy_core::IpFamily;

use crate::objects::Svc;
use crate::traffic::Traffic;
use crate::world::{From, Mode, World, cluster_address};

const CLIENT: From = From::Pod("client");

/// A Service with these pods, and traffic to it.
fn begin(mode: Mode, pods: &[&str]) -> anyhow::Result<(World, Svc, Traffic)> {
    let world = World::new(mode)?;
    let service = Svc::new("web", 1).node_port();
    world.serve(&service, pods)?;
    world.settle()?;
    let traffic = Traffic::to_service(&world, 1)?;
    Ok((world, service, traffic))
}

fn check(world: &World, pods: &[&str]) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        world.check_pods(CLIENT, cluster_address(1, family), pods)?;
        world.check_pods(From::Outside, world.node_port(1, family), pods)?;
    }
    Ok(())
}

/// A new endpoint gets its share, and no client notices.
pub(super) fn added(mode: Mode) -> anyhow::Result<()> {
    let (world, service, traffic) = begin(mode, &["local-1"])?;
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let spread = world.probe(CLIENT).spread(cluster_address(1, family), 100);
        spread.check_even(&["local-1", "remote-1"])?;
    }
    check(&world, &["local-1", "remote-1"])?;
    traffic.stop()?;
    Ok(())
}

/// An endpoint leaves its slices, and a moment later the pod ends.
pub(super) fn removed(mode: Mode) -> anyhow::Result<()> {
    let (mut world, service, traffic) = begin(mode, &["local-1", "local-2", "remote-1"])?;
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    // Connections that were begun before have ended after these.
    traffic.go_on();
    let before = world.pods.len();
    world.pods.retain(|pod| pod.name() != "local-2");
    ensure!(world.pods.len() == before - 1, "the pod was there");
    traffic.go_on();
    check(&world, &["local-1", "remote-1"])?;
    traffic.stop()?;
    Ok(())
}

/// No endpoint stays, as after a rollout that is seen in one go.
pub(super) fn replaced(mode: Mode) -> anyhow::Result<()> {
    let (world, service, traffic) = begin(mode, &["local-1"])?;
    world.serve(&service, &["local-2", "remote-1"])?;
    world.settle()?;
    check(&world, &["local-2", "remote-1"])?;
    traffic.stop()?;
    Ok(())
}
