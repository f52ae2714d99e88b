//! UDP flows: a client that continues sending from one port must not be stuck with a decision of long ago.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::{Patience, eventually};
use kube_proxy_testkit::probe::{DEFAULT_TIMEOUT, Probe, UdpFlow};

use crate::PerMode;
use crate::objects::{Svc, cluster_ip, external_ip, node_port, vip};
use crate::traffic::SILENCE;
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("conntrack/pod-replaced", pod_replaced),
    ("conntrack/scaled-to-zero-and-back", scaled_to_zero),
    ("conntrack/unready-and-ready", unready),
    ("conntrack/service-deleted", service_deleted),
    ("conntrack/frontends-removed", frontends_removed),
    ("conntrack/removed-while-down", removed_while_down),
    ("conntrack/sent-before-the-service", before_service),
    ("conntrack/right-flows-stay", right_flows_stay),
    ("conntrack/same-port-elsewhere-stays", elsewhere),
    ("conntrack/target-port-changed", target_port_changed),
    ("conntrack/terminating-keeps-flows", terminating),
    ("conntrack/many-changes-in-a-row", many_changes),
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

/// The look for flows after the last of many syncs is made too, although no sync and no check of the rules follows.
fn many_changes(mode: Mode) -> anyhow::Result<()> {
    let world = World::with_flags(mode, &["--iptables-sync-period=1h", "--ipvs-sync-period=1h"])?;
    let service = Svc::new("dns", 1).udp().load_balancer().external_ips();
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let mut flows = flows(&world, 1)?;
    are_at(&mut flows, "local-1")?;
    for pod in ["local-2", "local-1", "local-2", "local-1", "local-2"] {
        world.serve(&service, &[pod])?;
    }
    move_to(&mut flows, "local-2");
    Ok(())
}

/// A pod that terminates and still answers keeps its flows; new ones go elsewhere, and the old ones follow when it is gone.
fn terminating(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut kept = flows(&world, 1)?;
    are_at(&mut kept, "local-1")?;
    let pods = [world.endpoint("local-1").terminating(), world.endpoint("local-2")];
    world.apply(service.slices(TARGET, &pods))?;
    world.settle()?;
    are_at(&mut kept, "local-1")?;
    are_at(&mut flows(&world, 1)?, "local-2")?;
    are_at(&mut kept, "local-1")?;
    world.serve(&service, &["local-2"])?;
    world.settle()?;
    move_to(&mut kept, "local-2");
    Ok(())
}

/// Flows to each kind of frontend of a Service, in both families.
pub(crate) fn flows(world: &World, service: u8) -> anyhow::Result<Vec<(String, UdpFlow)>> {
    let mut flows = Vec::new();
    for family in IpFamily::BOTH {
        let (pod, outside) = (world.probe(CLIENT), world.probe(From::Outside));
        let node = world.probe(From::Node);
        flows.push(flow("cluster IP from a pod", pod, cluster_address(service, family))?);
        flows.push(flow("cluster IP from the node", node, cluster_address(service, family))?);
        flows.push(flow("node port", outside, world.node_port(service, family))?);
        flows.push(flow("VIP", outside, SocketAddr::new(vip(service, family), 80))?);
        flows.push(flow(
            "external IP",
            outside,
            SocketAddr::new(external_ip(service, family), 80),
        )?);
    }
    Ok(flows)
}

fn flow(what: &str, probe: Probe<'_>, to: SocketAddr) -> anyhow::Result<(String, UdpFlow)> {
    let flow = probe.udp_flow(to)?;
    Ok((format!("flow to {what} {to}"), flow))
}

/// Checks that each flow is answered by this pod now.
pub(crate) fn are_at(flows: &mut [(String, UdpFlow)], pod: &str) -> anyhow::Result<()> {
    for (what, flow) in flows {
        let answer = flow.ping().answer().with_context(|| what.clone())?;
        ensure!(answer.pod == pod, "{what}: {} answered, not {pod}", answer.pod);
    }
    Ok(())
}

/// Sends on until each flow is answered by this pod.
fn move_to(flows: &mut [(String, UdpFlow)], pod: &str) {
    for (what, flow) in flows {
        let mut patience = Patience::default();
        eventually(GUARD, || {
            flow.set_timeout(patience.grow())?;
            let answer = flow.ping().answer().with_context(|| what.clone())?;
            ensure!(answer.pod == pod, "{what}: {} answered, not {pod}", answer.pod);
            Ok(())
        });
    }
}

/// Sends on until no flow is answered any more, several times in a row.
pub(crate) fn fall_silent(flows: &mut [(String, UdpFlow)]) -> anyhow::Result<()> {
    for (what, flow) in flows {
        flow.set_timeout(SILENCE)?;
        eventually(GUARD, || {
            for _ in 0..3 {
                let outcome = flow.ping();
                ensure!(!outcome.is_answer(), "{what}: {outcome}");
            }
            Ok(())
        });
        flow.set_timeout(DEFAULT_TIMEOUT)?;
    }
    Ok(())
}

fn pod_replaced(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world, 1)?;
    are_at(&mut flows, "local-1")?;
    world.serve(&service, &["remote-1"])?;
    move_to(&mut flows, "remote-1");
    world.serve(&service, &["local-2"])?;
    move_to(&mut flows, "local-2");
    Ok(())
}

fn scaled_to_zero(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world, 1)?;
    are_at(&mut flows, "local-1")?;
    world.serve(&service, &[])?;
    fall_silent(&mut flows)?;
    world.serve(&service, &["local-1"])?;
    move_to(&mut flows, "local-1");
    Ok(())
}

fn unready(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world, 1)?;
    are_at(&mut flows, "local-1")?;
    world.apply(service.slices(TARGET, &[world.endpoint("local-1").unready()]))?;
    fall_silent(&mut flows)?;
    world.serve(&service, &["local-1"])?;
    move_to(&mut flows, "local-1");
    Ok(())
}

fn service_deleted(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["local-1"])?;
    let mut flows = flows(&world, 1)?;
    are_at(&mut flows, "local-1")?;
    world.delete("Service", &service.name)?;
    fall_silent(&mut flows)?;
    world.serve(&service, &["local-2"])?;
    move_to(&mut flows, "local-2");
    Ok(())
}

/// Node port, VIP and external IP go, the cluster IP stays.
fn frontends_removed(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &["local-1"])?;
    let (mut kept, mut removed): (Vec<_>, Vec<_>) =
        flows(&world, 1)?.into_iter().partition(|(what, _)| what.contains("cluster IP"));
    are_at(&mut kept, "local-1")?;
    are_at(&mut removed, "local-1")?;
    world.apply([Svc::new("dns", 1).udp().object()])?;
    fall_silent(&mut removed)?;
    are_at(&mut kept, "local-1")
}

/// What is removed while no proxy runs takes its flows along once one runs again; what is right stays, and so does what is not ours.
fn removed_while_down(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let all = |name, number| Svc::new(name, number).udp().load_balancer().external_ips();
    let (gone, fewer, moved, right) =
        (all("gone", 1), all("fewer", 2), all("moved", 3), all("right", 4));
    for service in [&gone, &fewer, &moved, &right] {
        world.serve(service, &["local-1"])?;
    }
    world.settle()?;
    let mut removed = flows(&world, 1)?;
    let (mut kept, external): (Vec<_>, Vec<_>) =
        flows(&world, 2)?.into_iter().partition(|(what, _)| what.contains("cluster IP"));
    removed.extend(external);
    kept.extend(flows(&world, 4)?);
    let mut moving = flows(&world, 3)?;
    are_at(&mut removed, "local-1")?;
    are_at(&mut kept, "local-1")?;
    are_at(&mut moving, "local-1")?;
    let mut foreign = host_port(&world, mode)?;
    are_at(&mut foreign, "local-2")?;
    let before = entries(&world)?;

    world.stop()?;
    world.delete("Service", &gone.name)?;
    world.apply([Svc::new("fewer", 2).udp().object()])?;
    world.serve(&moved, &["remote-1"])?;
    if mode == Mode::Nftables {
        // In one family what is left is a table of the Go kube-proxy.
        world.on_node("nft", &[&go_table()])?;
    }
    world.start()?;
    fall_silent(&mut removed)?;
    move_to(&mut moving, "remote-1");
    are_at(&mut kept, "local-1")?;
    are_at(&mut foreign, "local-2")?;
    if mode != Mode::Userspace {
        let ids: Vec<_> = kept.iter().chain(&foreign).map(|(what, _)| what.clone()).collect();
        let after = entries(&world)?;
        let stayed = before.iter().filter(|entry| after.contains(entry)).count();
        ensure!(
            stayed >= ids.len(),
            "{stayed} of {before:#?} stayed, not those of {ids:#?}: {after:#?}"
        );
    }
    Ok(())
}

/// The IPv4 table of the Go kube-proxy, in place of ours, as far as it names the frontends of Services 1 and 2.
fn go_table() -> String {
    let family = IpFamily::V4;
    let addresses = [1, 2].iter().flat_map(|number| {
        [cluster_ip(*number, family), external_ip(*number, family), vip(*number, family)]
    });
    let ips: Vec<_> = addresses.map(|ip| format!("{ip} . udp . 80 : drop")).collect();
    let ports: Vec<_> = [1, 2].map(|number| format!("udp . {} : drop", node_port(number))).into();
    format!(
        "delete table ip kube-proxy; table ip kube-proxy {{ \
         map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {} }}; }}; \
         map service-nodeports {{ type inet_proto . inet_service : verdict; elements = {{ {} }}; }}; }}",
        ips.join(", "),
        ports.join(", ")
    )
}

/// A flow through a DNAT rule of another program, at a port of the node.
fn host_port(world: &World, mode: Mode) -> anyhow::Result<Vec<(String, UdpFlow)>> {
    const PORT: u16 = 5_353;
    let node = world.cluster.node(0).ip(IpFamily::V4);
    let to = world.pod("local-2").address(IpFamily::V4, TARGET);
    if mode == Mode::Ipvs {
        // Where it is tested, the kernel has no nf_tables.
        let rule = format!(
            "-t nat -A PREROUTING -p udp -d {node} --dport {PORT} -j DNAT --to-destination {to}"
        );
        let words: Vec<&str> = rule.split(' ').collect();
        world.on_node(&mode.program(IpFamily::V4, ""), &words)?;
    } else {
        let rules = format!(
            "table ip host-port {{ chain prerouting {{ type nat hook prerouting priority dstnat + 10; \
             ip daddr {node} udp dport {PORT} dnat to {to}; }}; }}"
        );
        world.on_node("nft", &[&rules])?;
    }
    let probe = world.probe(From::Outside);
    Ok(vec![flow("a port of the host", probe, SocketAddr::new(node, PORT))?])
}

/// Datagrams that nothing wanted leave entries behind that lead nowhere.
fn before_service(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    world.settle()?;
    let mut flows = flows(&world, 1)?;
    for (what, flow) in &mut flows {
        flow.set_timeout(SILENCE)?;
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
    let mut flows = flows(&world, 1)?;
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

/// The number of a node port at an address that is not the node's is the business of others.
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
    let mut flows = flows(&world, 1)?;
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
