//! The flowtable. A kernel without it runs the test that it is refused, and ignores the others by name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::{IpFamily, SyncError};
use kube_proxy_nftables::{LastSync, NftablesBackend};
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::probe::Probe;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, TARGET, World, config, ensure_nothing_sent, ensure_reaches};

pub(crate) fn trials() -> Vec<Trial> {
    let supported = supported();
    let tests = [
        trial("fast_path::connections_are_offloaded", connections_are_offloaded),
        trial("fast_path::devices_follow_the_interfaces", devices_follow),
        trial("fast_path::switched_off_and_changed", switched_off_and_changed),
        trial("fast_path::endpoint_that_reaches_itself", hairpin),
        trial("fast_path::udp_flow_of_an_endpoint_that_went", udp_flow_moves),
        trial("fast_path::deleted_flowtable_is_repaired", repaired),
    ];
    let mut trials: Vec<_> =
        tests.into_iter().map(|test| test.with_ignored_flag(!supported)).collect();
    trials.push(trial("fast_path::refused_in_one_sentence", refused).with_ignored_flag(supported));
    trials
}

const ONE: Svc = Svc(1);
const GUARD: Duration = Duration::from_mins(5);

fn backend(netns: &Netns) -> Result<NftablesBackend, SyncError> {
    let mut config = config(IpFamily::V4);
    config.offload_after = NonZeroU32::new(4);
    netns.run(|| NftablesBackend::new(config))
}

pub(crate) fn supported() -> bool {
    Netns::create("flowtable").is_ok_and(|netns| backend(&netns).is_ok())
}

fn refused() -> anyhow::Result<()> {
    let netns = Netns::create("flowtable")?;
    let error = backend(&netns).map(|_| ()).expect_err("there is no flowtable");
    let text = error.to_string();
    ensure!(
        text.contains("fast path was asked for and needs the kernel modules nf_flow_table"),
        "{text}"
    );
    Ok(())
}

fn world(after: u32) -> anyhow::Result<World> {
    let mut world = World::with(&[(0, "a"), (1, "b"), (0, "other")], |config| {
        config.offload_after = NonZeroU32::new(after);
    })?;
    world.set(ONE.everything());
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    Ok(world)
}

/// The connections that the node has, as `conntrack` lists them.
fn listed(world: &World, family: IpFamily, protocol: &str) -> anyhow::Result<Vec<String>> {
    let family = if family == IpFamily::V4 { "ipv4" } else { "ipv6" };
    let arguments = ["-L", "-f", family, "-p", protocol];
    let text = world.cluster.node(0).netns().output("conntrack", &arguments)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Of the connections from this local port, whether one is offloaded.
pub(crate) fn is_offloaded(
    world: &World,
    protocol: &str,
    local: SocketAddr,
) -> anyhow::Result<bool> {
    let family = if local.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 };
    let port = format!("sport={} ", local.port());
    let lines = listed(world, family, protocol)?;
    let line = lines.iter().find(|line| line.contains(&port));
    Ok(line
        .with_context(|| format!("no connection with {port}: {lines:#?}"))?
        .contains("[OFFLOAD]"))
}

/// Both protocols: in the fast path after some rounds of packets, not before, and answers keep coming.
pub(crate) fn passes_by(
    world: &World,
    who: &str,
    probe: Probe<'_>,
    to: SocketAddr,
    rounds: usize,
) -> anyhow::Result<()> {
    let probe = probe.timeout(Duration::from_secs(5));
    let mut tcp = probe.connect(to).with_context(|| format!("{who} to {to}"))?;
    let pod = tcp.greeting().pod.clone();
    let mut udp = probe.udp_flow(to)?;
    ensure!(udp.ping().answer()?.pod == pod);
    ensure!(!is_offloaded(world, "udp", udp.local_address())?, "at once: {who} to {to}");
    for round in 0..rounds {
        ensure!(tcp.ping().is_answer(), "{who} to {to}, tcp, {round}");
        ensure!(udp.ping().answer()?.pod == pod, "{who} to {to}, udp, {round}");
    }
    for (protocol, local) in [("tcp", tcp.local_address()), ("udp", udp.local_address())] {
        ensure!(is_offloaded(world, protocol, local)?, "not offloaded: {protocol}, {who} to {to}");
    }
    // An end is told to both sides, and the next connection works.
    drop(tcp);
    ensure!(probe.tcp(to).is_answer(), "after it: {who} to {to}");
    Ok(())
}

fn connections_are_offloaded() -> anyhow::Result<()> {
    let mut world = world(8)?;
    for family in IpFamily::BOTH {
        let all = [vec![ONE.cluster_ip(family)], ONE.external(family).to_vec()].concat();
        for to in all {
            passes_by(&world, "client", world.cluster.client().probe(), to, 20)?;
        }
        passes_by(&world, "pod", world.pod("other").probe(), ONE.cluster_ip(family), 20)?;
        // What does not go to a service is none of our business.
        let mut direct =
            world.cluster.client().probe().connect(world.pod("a").address(family, TARGET))?;
        for _ in 0..20 {
            ensure!(direct.ping().is_answer());
        }
        ensure!(!is_offloaded(&world, "tcp", direct.local_address())?);
    }
    // To an endpoint on another node, with masquerading.
    world.endpoints(ONE, &["b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        passes_by(&world, "client", world.cluster.client().probe(), ONE.node_port(family), 20)?;
        passes_by(&world, "pod", world.pod("a").probe(), ONE.cluster_ip(family), 20)?;
    }
    let text = world.nft("list table ip kube-proxy")?;
    let rule = "ct state established ct status dnat ct packets > 8 flow add @fast-path";
    ensure!(text.contains(rule), "{text}");
    world.nft("-j list ruleset")?;
    world.restart()?;
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
    }
    Ok(())
}

/// The interfaces of the first node that are up, but for loopback.
pub(crate) fn interfaces(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let text = world.cluster.node(0).netns().output("ip", &["-br", "link", "show", "up"])?;
    let names = text.lines().filter_map(|line| line.split([' ', '@']).next());
    Ok(names.filter(|name| *name != "lo").map(str::to_owned).collect())
}

pub(crate) fn devices(world: &World, family: IpFamily) -> anyhow::Result<BTreeSet<String>> {
    let family = if family == IpFamily::V4 { "ip" } else { "ip6" };
    let text = world.nft(&format!("list flowtable {family} kube-proxy fast-path"))?;
    let list = text.lines().find_map(|line| line.trim().strip_prefix("devices = { "));
    let list = list.and_then(|list| list.strip_suffix(" }")).unwrap_or_default();
    Ok(list.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn devices_follow() -> anyhow::Result<()> {
    let mut world = world(4)?;
    world.watch();
    let follows = |world: &mut World| {
        for family in IpFamily::BOTH {
            ensure!(world.intact(family)?);
            let (devices, interfaces) = (devices(world, family)?, interfaces(world)?);
            ensure!(devices == interfaces, "{family}: {devices:?}, not {interfaces:?}");
        }
        Ok(())
    };
    follows(&mut world)?;
    let before = [world.wakes(IpFamily::V4), world.wakes(IpFamily::V6)];
    let late = world.cluster.add_pod(0, "late")?;
    for (family, before) in IpFamily::BOTH.into_iter().zip(before) {
        eventually(GUARD, || {
            ensure!(world.wakes(family) > before, "{family}: a new interface is not noticed");
            Ok(())
        });
    }
    follows(&mut world)?;
    ensure!(interfaces(&world)?.contains(late.node_interface()));
    for family in IpFamily::BOTH {
        passes_by(&world, "late pod", late.probe(), ONE.cluster_ip(family), 20)?;
    }
    let name = late.node_interface().to_owned();
    for change in [&["set", &name, "down"][..], &["set", &name, "up"], &["del", &name]] {
        world.cluster.node(0).netns().output("ip", &[&["link"], change].concat())?;
        follows(&mut world)?;
    }
    // Without a watch, each check looks, and so does each full sync.
    world.restart()?;
    ensure_nothing_sent(world.sync()?)
}

fn switched_off_and_changed() -> anyhow::Result<()> {
    let mut world = world(4)?;
    let mut open = Vec::new();
    for family in IpFamily::BOTH {
        let mut connection = world.cluster.client().probe().connect(ONE.node_port(family))?;
        for _ in 0..10 {
            ensure!(connection.ping().is_answer());
        }
        ensure!(is_offloaded(&world, "tcp", connection.local_address())?);
        open.push(connection);
    }
    world.restart_with(|config| config.offload_after = NonZeroU32::new(30))?;
    let last = world.sync()?;
    for family in IpFamily::BOTH {
        let LastSync { transactions, chains, elements, .. } = *last.get(family);
        ensure!((transactions, chains, elements) == (1, 1, 0), "{last:?}");
    }
    ensure!(world.nft("list table ip6 kube-proxy")?.contains("ct packets > 30 flow add"));
    world.restart_with(|config| config.offload_after = None)?;
    world.sync()?;
    for family in ["ip", "ip6"] {
        let text = world.nft(&format!("list table {family} kube-proxy"))?;
        ensure!(!text.contains("flow"), "{text}");
    }
    for connection in &mut open {
        ensure!(connection.ping().is_answer(), "an open connection goes on without the flowtable");
    }
    ensure_nothing_sent(world.full_sync()?)?;
    // And on again.
    world.restart_with(|config| config.offload_after = NonZeroU32::new(4))?;
    world.sync()?;
    passes_by(&world, "client", world.cluster.client().probe(), ONE.node_port(IpFamily::V4), 20)?;
    world.remove()?;
    ensure!(world.ruleset()?.is_empty());
    Ok(())
}

fn hairpin() -> anyhow::Result<()> {
    let world = world(4)?;
    for family in IpFamily::BOTH {
        let probe = world.pod("a").probe();
        ensure_reaches("itself", probe, ONE.cluster_ip(family), &["a"], false)?;
        let mut tcp = probe.connect(ONE.cluster_ip(family))?;
        let mut udp = probe.udp_flow(ONE.cluster_ip(family))?;
        for _ in 0..30 {
            let answer = tcp.ping().answer()?;
            ensure!(answer.is_masqueraded(), "{answer:?}");
            ensure!(udp.ping().answer()?.is_masqueraded());
        }
    }
    Ok(())
}

/// Deleting a flow from connection tracking, as kube-proxy does when its endpoint goes, ends the fast path too.
fn udp_flow_moves() -> anyhow::Result<()> {
    let mut world = world(4)?;
    for family in IpFamily::BOTH {
        let probe = world.cluster.client().probe().timeout(Duration::from_millis(300));
        let mut flow = probe.udp_flow(ONE.cluster_ip(family))?;
        for _ in 0..10 {
            ensure!(flow.ping().answer()?.pod == "a");
        }
        ensure!(is_offloaded(&world, "udp", flow.local_address())?);
        world.endpoints(ONE, &["b"]);
        world.sync()?;
        let port = flow.local_address().port().to_string();
        let tool = if family == IpFamily::V4 { "ipv4" } else { "ipv6" };
        let arguments = ["-D", "-f", tool, "-p", "udp", "--orig-port-src", &port];
        world.cluster.node(0).netns().output("conntrack", &arguments)?;
        eventually(GUARD, || {
            let pod = flow.ping().answer()?.pod;
            ensure!(pod == "b", "still at {pod}");
            Ok(())
        });
        world.endpoints(ONE, &["a"]);
        world.sync()?;
    }
    Ok(())
}

fn repaired() -> anyhow::Result<()> {
    let mut world = world(4)?;
    let before = world.ruleset()?;
    for watched in [false, true] {
        if watched {
            world.watch();
        }
        world.nft(
            "flush chain ip kube-proxy filter-forward ; delete flowtable ip kube-proxy fast-path",
        )?;
        ensure!(!world.intact(IpFamily::V4)?);
        world.full_sync()?;
        ensure!(world.ruleset()? == before);
        world.nft("add flowtable ip kube-proxy foreign { hook ingress priority 0 ; }")?;
        ensure!(!world.intact(IpFamily::V4)?);
        world.full_sync()?;
        ensure!(world.ruleset()? == before);
    }
    Ok(())
}
