//! Services that are in the fast path by annotation, or out of it. A kernel without flowtables serves them all the same.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::{IpFamily, Protocol, Service};
use kube_proxy_netlink::Family;
use kube_proxy_netlink::conntrack::{Conntrack, Filter, Flow, Status, TcpState};
use kube_proxy_testkit::cluster::plan;
use libtest_mimic::Trial;

use crate::fast_path::{devices, interfaces, is_offloaded, passes_by, supported};
use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    let supported = supported();
    let tests = [
        trial("fast_path::one_service_asks", one_asks),
        trial("fast_path::one_service_declines", one_declines),
        trial("fast_path::comes_and_goes_with_the_annotation", comes_and_goes),
        trial("fast_path::dead_connection_is_reset", dead_connection),
        trial("fast_path::drained_endpoint_keeps_its_connections", drained),
    ];
    let mut trials: Vec<_> =
        tests.into_iter().map(|test| test.with_ignored_flag(!supported)).collect();
    trials.push(trial("fast_path::asked_for_in_vain", in_vain).with_ignored_flag(supported));
    trials
}

const ONE: Svc = Svc(1);
const TWO: Svc = Svc(2);

/// A Service that wants the fast path, or does not.
fn wishing(svc: Svc, wish: &str) -> Service {
    let mut service = svc.everything();
    service.policy.annotations.insert("kube-proxy.io/fast-path".into(), wish.into());
    service
}

fn world(threshold: Option<u32>, one: Service) -> anyhow::Result<World> {
    let mut world = World::with(&[(0, "a"), (1, "b"), (0, "other")], |config| {
        config.offload_after = threshold.and_then(NonZeroU32::new);
    })?;
    world.set(one);
    world.set(TWO.everything());
    world.endpoints(ONE, &["a"]);
    world.endpoints(TWO, &["a"]);
    world.sync()?;
    Ok(world)
}

/// A connection of many packets stays with the rules.
fn ensure_stays(world: &World, to: SocketAddr) -> anyhow::Result<()> {
    let probe = world.cluster.client().probe();
    let (mut tcp, mut udp) = (probe.connect(to)?, probe.udp_flow(to)?);
    for _ in 0..40 {
        ensure!(tcp.ping().is_answer() && udp.ping().is_answer(), "{to}");
    }
    for (protocol, local) in [("tcp", tcp.local_address()), ("udp", udp.local_address())] {
        ensure!(!is_offloaded(world, protocol, local)?, "offloaded: {protocol} to {to}");
    }
    Ok(())
}

/// Nothing is left to do, also for a process that starts again.
fn ensure_settled(world: &mut World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
        let differences = world.compare(family)?;
        ensure!(differences.is_empty(), "{differences:?}");
    }
    ensure_nothing_sent(world.full_sync()?)?;
    world.restart()?;
    ensure_nothing_sent(world.sync()?)
}

fn frontends(svc: Svc, family: IpFamily) -> Vec<SocketAddr> {
    [vec![svc.cluster_ip(family)], svc.external(family).to_vec()].concat()
}

fn one_asks() -> anyhow::Result<()> {
    let mut world = world(None, wishing(ONE, "true"))?;
    for family in IpFamily::BOTH {
        ensure!(devices(&world, family)? == interfaces(&world)?, "{family}");
        for to in frontends(ONE, family) {
            passes_by(&world, "client", world.cluster.client().probe(), to, 30)?;
        }
        passes_by(&world, "pod", world.pod("other").probe(), ONE.cluster_ip(family), 30)?;
        for to in frontends(TWO, family) {
            ensure_stays(&world, to)?;
        }
        // The counters of frontends count connections, offloaded or not.
        let name = |svc: Svc| format!("{}:tcp", svc.name());
        let counted: Vec<_> = world
            .traffic(family)?
            .into_iter()
            .filter(|traffic| traffic.service.to_string() == name(ONE))
            .map(|traffic| traffic.connections)
            .collect();
        ensure!(counted == [10], "{family}: {counted:?}");
    }
    ensure_settled(&mut world)
}

fn one_declines() -> anyhow::Result<()> {
    let mut world = world(Some(8), wishing(ONE, "false"))?;
    for family in IpFamily::BOTH {
        for to in frontends(ONE, family) {
            ensure_stays(&world, to)?;
        }
        for to in frontends(TWO, family) {
            passes_by(&world, "client", world.cluster.client().probe(), to, 20)?;
        }
    }
    ensure_settled(&mut world)
}

/// The flowtable, its sets and rules are there as long as a Service asks; each step is a small change.
fn comes_and_goes() -> anyhow::Result<()> {
    let mut world = world(None, ONE.everything())?;
    let without = world.ruleset()?;
    ensure!(!without.contains("fast"), "{without}");
    world.watch();
    for round in 0..2 {
        world.set(wishing(ONE, "true"));
        let last = world.sync()?;
        for family in IpFamily::BOTH {
            ensure!(last.get(family).elements == 8, "{round}: {last:?}");
            ensure!(devices(&world, family)? == interfaces(&world)?, "{round}: {family}");
            ensure!(world.intact(family)?);
        }
        let mut open = Vec::new();
        for family in IpFamily::BOTH {
            let mut connection = world.cluster.client().probe().connect(ONE.node_port(family))?;
            for _ in 0..30 {
                ensure!(connection.ping().is_answer());
            }
            ensure!(is_offloaded(&world, "tcp", connection.local_address())?);
            open.push(connection);
        }
        world.set(ONE.everything());
        world.sync()?;
        // A chain that the kernel still held on to goes with the next sync.
        world.full_sync()?;
        ensure!(world.ruleset()? == without, "{}", world.ruleset()?);
        for connection in &mut open {
            ensure!(connection.ping().is_answer(), "{round}: an open connection continues");
        }
    }
    ensure_settled(&mut world)?;
    // A flag for the node and the wishes of Services, one after another.
    for (threshold, wish) in
        [(Some(4), "true"), (Some(4), "false"), (None, "true"), (None, "false")]
    {
        world.set(wishing(ONE, wish));
        world.restart_with(|config| config.offload_after = threshold.and_then(NonZeroU32::new))?;
        world.sync()?;
        let offloads = wish == "true";
        let to = ONE.cluster_ip(IpFamily::V6);
        if offloads {
            passes_by(&world, "client", world.cluster.client().probe(), to, 30)?;
        } else {
            ensure_stays(&world, to)?;
        }
        ensure_settled(&mut world)?;
    }
    ensure!(world.ruleset()? == without);
    Ok(())
}

fn flow_of(conntrack: &mut Conntrack, local: SocketAddr) -> anyhow::Result<Flow> {
    let family = if local.is_ipv4() { Family::V4 } else { Family::V6 };
    let filter = Filter::protocol(family, Protocol::Tcp.number());
    let mut found = None;
    let _ = conntrack.dump(&filter, |flow| {
        if flow.original.source_socket() == Some(local) {
            found = Some(*flow);
        }
    })?;
    found.with_context(|| format!("no entry of {local}"))
}

/// As kube-proxy ends connections to endpoints that left: the entry is replaced by one to a closed port of the node.
fn dead_connection() -> anyhow::Result<()> {
    let world = world(None, wishing(ONE, "true"))?;
    for family in IpFamily::BOTH {
        let mut connection = world.cluster.client().probe().connect(ONE.cluster_ip(family))?;
        for _ in 0..30 {
            ensure!(connection.ping().is_answer());
        }
        let local = connection.local_address();
        let closed = SocketAddr::new(*plan::node(0).get(family), 1);
        world.cluster.node(0).netns().run(|| -> anyhow::Result<()> {
            let mut conntrack = Conntrack::open()?;
            let flow = flow_of(&mut conntrack, local)?;
            ensure!(flow.status.contains(Status::OFFLOADED), "{flow:?}");
            ensure!(flow.tcp_state.is_none(), "the kernel reports a state: {flow:?}");
            let deleted = conntrack.delete_all(&[flow])?;
            ensure!(deleted.deleted == 1, "{deleted:?}");
            let replacement = Flow {
                id: None,
                status: Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED,
                tcp_state: Some(TcpState::ESTABLISHED),
                timeout: Some(Duration::from_mins(5)),
                ..flow
            };
            let inserted = conntrack.insert_redirected(&[replacement], closed)?;
            ensure!(inserted.inserted == 1, "{inserted:?}");
            Ok(())
        })?;
        let outcome = connection.ping();
        ensure!(outcome.is_reset(), "{family}: {outcome}");
        ensure!(world.cluster.client().probe().tcp(ONE.cluster_ip(family)).is_answer());
    }
    Ok(())
}

fn drained() -> anyhow::Result<()> {
    let mut world = world(None, wishing(ONE, "true"))?;
    let mut open = Vec::new();
    for family in IpFamily::BOTH {
        let mut connection = world.cluster.client().probe().connect(ONE.cluster_ip(family))?;
        for _ in 0..30 {
            ensure!(connection.ping().is_answer());
        }
        open.push(connection);
    }
    world.weighted(ONE, &[("a", 0), ("b", 1)]);
    world.sync()?;
    for (family, connection) in IpFamily::BOTH.into_iter().zip(&mut open) {
        for _ in 0..10 {
            ensure!(connection.ping().answer()?.pod == "a", "{family}");
        }
        ensure!(is_offloaded(&world, "tcp", connection.local_address())?);
        let new = world.cluster.client().probe().tcp(ONE.cluster_ip(family)).answer()?;
        ensure!(new.pod == "b", "{new:?}");
    }
    Ok(())
}

/// The Service works, nothing is written for its wish, and it is counted.
fn in_vain() -> anyhow::Result<()> {
    let mut world = world(None, ONE.everything())?;
    let before = world.ruleset()?;
    for family in IpFamily::BOTH {
        ensure!(world.report(family).without_fast_path == 0);
    }
    world.set(wishing(ONE, "true"));
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.report(family).without_fast_path == 1);
        ensure!(world.intact(family)?);
        world.cluster.client().probe().tcp(ONE.cluster_ip(family)).answer()?;
    }
    ensure!(world.ruleset()? == before);
    world.restart()?;
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.report(family).without_fast_path == 1);
    }
    world.set(wishing(ONE, "false"));
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.report(family).without_fast_path == 0);
    }
    Ok(())
}
