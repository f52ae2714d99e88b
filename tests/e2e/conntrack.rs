//! UDP flows: a client that goes on sending from one port must not be stuck with a decision of long ago.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::{Probe, UdpFlow};

use crate::PerMode;
use crate::objects::{Svc, external_ip, node_port, vip};
use crate::traffic::SILENCE;
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("conntrack/pod-replaced", pod_replaced),
    ("conntrack/scaled-to-zero-and-back", scaled_to_zero),
    ("conntrack/unready-and-ready", unready),
    ("conntrack/service-deleted", service_deleted),
    ("conntrack/frontends-removed", frontends_removed),
    ("conntrack/sent-before-the-service", before_service),
    ("conntrack/right-flows-stay", right_flows_stay),
    ("conntrack/same-port-elsewhere-stays", elsewhere),
    ("conntrack/target-port-changed", target_port_changed),
];

const CLIENT: From = From::Pod("client");

/// A world with a UDP Service that has frontends of all kinds.
fn begin(mode: Mode, pods: &[&str]) -> anyhow::Result<(World, Svc)> {
    let world = World::new(mode)?;
    let service = Svc::new("dns", 1).udp().load_balancer().external_ips();
    world.serve(&service, pods)?;
    world.settle()?;
    Ok((world, service))
}

/// Flows to each kind of frontend, in both families.
fn flows(world: &World) -> anyhow::Result<Vec<(String, UdpFlow)>> {
    let mut flows = Vec::new();
    for family in IpFamily::BOTH {
        let (pod, outside) = (world.probe(CLIENT), world.probe(From::Outside));
        let node = world.probe(From::Node);
        flows.push(flow("cluster IP from a pod", pod, cluster_address(1, family))?);
        flows.push(flow("cluster IP from the node", node, cluster_address(1, family))?);
        flows.push(flow("node port", outside, world.node_port(1, family))?);
        flows.push(flow("VIP", outside, SocketAddr::new(vip(1, family), 80))?);
        flows.push(flow("external IP", outside, SocketAddr::new(external_ip(1, family), 80))?);
    }
    Ok(flows)
}

fn flow(what: &str, probe: Probe<'_>, to: SocketAddr) -> anyhow::Result<(String, UdpFlow)> {
    let flow = probe.timeout(SILENCE).udp_flow(to)?;
    Ok((format!("flow to {what} {to}"), flow))
}

/// Checks that each flow is answered by this pod now.
fn are_at(flows: &mut [(String, UdpFlow)], pod: &str) -> anyhow::Result<()> {
    for (what, flow) in flows {
        let answer = flow.ping().answer().with_context(|| what.clone())?;
        ensure!(answer.pod == pod, "{what}: {} answered, not {pod}", answer.pod);
    }
    Ok(())
}

/// Sends on until each flow is answered by this pod.
fn move_to(flows: &mut [(String, UdpFlow)], pod: &str) {
    for (what, flow) in flows {
        eventually(GUARD, || {
            let answer = flow.ping().answer().with_context(|| what.clone())?;
            ensure!(answer.pod == pod, "{what}: {} answered, not {pod}", answer.pod);
            Ok(())
        });
    }
}

/// Sends on until no flow is answered any more.
fn fall_silent(flows: &mut [(String, UdpFlow)]) {
    for (what, flow) in flows {
        eventually(GUARD, || {
            let outcome = flow.ping();
            ensure!(!outcome.is_answer(), "{what}: {outcome}");
            Ok(())
        });
    }
}

fn pod_replaced(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    world.serve(&service, &["remote-1"])?;
    move_to(&mut flows, "remote-1");
    world.serve(&service, &["local-2"])?;
    move_to(&mut flows, "local-2");
    Ok(())
}

fn scaled_to_zero(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    world.serve(&service, &[])?;
    fall_silent(&mut flows);
    world.serve(&service, &["local-1"])?;
    move_to(&mut flows, "local-1");
    Ok(())
}

fn unready(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    world.apply(service.slices(TARGET, &[world.endpoint("local-1").unready()]))?;
    fall_silent(&mut flows);
    world.serve(&service, &["local-1"])?;
    move_to(&mut flows, "local-1");
    Ok(())
}

fn service_deleted(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    world.delete("Service", &service.name)?;
    fall_silent(&mut flows);
    world.serve(&service, &["local-2"])?;
    move_to(&mut flows, "local-2");
    Ok(())
}

/// Node port, VIP and external IP go, the cluster IP stays.
fn frontends_removed(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &["local-1"])?;
    let (mut kept, mut removed): (Vec<_>, Vec<_>) =
        flows(&world)?.into_iter().partition(|(what, _)| what.contains("cluster IP"));
    are_at(&mut kept, "local-1")?;
    are_at(&mut removed, "local-1")?;
    world.apply([Svc::new("dns", 1).udp().object()])?;
    fall_silent(&mut removed);
    are_at(&mut kept, "local-1")
}

/// Datagrams that nobody wanted leave entries behind that lead nowhere.
fn before_service(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    world.settle()?;
    let mut flows = flows(&world)?;
    for (what, flow) in &mut flows {
        let outcome = flow.ping();
        ensure!(!outcome.is_answer(), "{what}: {outcome}");
    }
    let service = Svc::new("dns", 1).udp().load_balancer().external_ips();
    world.serve(&service, &["local-1"])?;
    move_to(&mut flows, "local-1");
    Ok(())
}

/// A restart, another Service or one more endpoint are no reason to delete a flow that is right.
fn right_flows_stay(mode: Mode) -> anyhow::Result<()> {
    let (mut world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    let before = entries(&world)?;
    ensure!(before.len() == flows.len(), "entries: {before:#?}");
    world.serve(&Svc::new("other", 2).udp().node_port(), &["local-2"])?;
    world.serve(&service, &["local-1", "remote-1", "local-2"])?;
    world.settle()?;
    world.stop()?;
    world.start()?;
    world.settle()?;
    are_at(&mut flows, "local-1")?;
    let after = entries(&world)?;
    ensure!(after == before, "{after:#?}\ninstead of {before:#?}");
    Ok(())
}

/// The tracked UDP flows on the node under test: the destination and the entry's identity.
fn entries(world: &World) -> anyhow::Result<Vec<String>> {
    let mut entries = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let text = world.on_node("conntrack", &["-L", "-p", "udp", "-f", family, "-o", "id"])?;
        for line in text.lines() {
            let field = |name: &str| line.split_whitespace().find(|word| word.starts_with(name));
            let (to, id) = (field("dst="), field("id="));
            let to = to.with_context(|| format!("no destination in {line:?}"))?;
            let id = id.with_context(|| format!("no identity in {line:?}"))?;
            entries.push(format!("{to} {id}"));
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

/// The number of a node port at an address that is not the node's is somebody else's business.
fn elsewhere(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    world.pod("local-2").serve_udp(node_port(1))?;
    let mut flows = Vec::new();
    for family in IpFamily::BOTH {
        let to = world.pod("local-2").address(family, node_port(1));
        flows.push(flow("a pod", world.probe(From::Outside), to)?);
    }
    are_at(&mut flows, "local-2")?;
    let before = entries(&world)?;
    ensure!(before.len() == 2, "entries: {before:#?}");
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    world.serve(&service, &[])?;
    world.settle()?;
    world.delete("Service", &service.name)?;
    world.settle()?;
    let after = entries(&world)?;
    ensure!(after == before, "{after:#?}\ninstead of {before:#?}");
    are_at(&mut flows, "local-2")
}

/// The same pod, but it listens elsewhere now.
fn target_port_changed(mode: Mode) -> anyhow::Result<()> {
    const NEW: u16 = 9_090;
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world)?;
    are_at(&mut flows, "local-1")?;
    world.pod("local-1").serve_udp(NEW)?;
    world.apply(service.slices(NEW, &world.endpoints(&["local-1"])))?;
    for (what, flow) in &mut flows {
        eventually(GUARD, || {
            let answer = flow.ping().answer().with_context(|| what.clone())?;
            ensure!(answer.local.port() == NEW, "{what}: received at {}", answer.local);
            Ok(())
        });
    }
    Ok(())
}
