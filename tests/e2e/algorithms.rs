//! How an endpoint is chosen: by the client's address, by the number of connections, or at random where a mode has nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_core::algorithm::source_slot;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::METRICS;
use kube_proxy_testkit::probe::Connection;

use crate::PerMode;
use crate::explain::named;
use crate::objects::Svc;
use crate::world::{From, GUARD, Mode, World, cluster_address};

/// Those of a mode.
pub(crate) fn tests(mode: Mode) -> Vec<PerMode> {
    let mut tests: Vec<PerMode> = vec![("algorithms/of-the-node", of_node)];
    if !mode.is_iptables() {
        tests.push(("algorithms/source-hash", source_hash));
    }
    if mode.is_iptables() || mode == Mode::Nftables {
        tests.push(("algorithms/not-in-this-mode", lacking));
    } else {
        tests.push(("algorithms/least-connections", least_connections));
    }
    tests
}

const PODS: [&str; 3] = ["local-1", "local-2", "remote-1"];

fn asking(number: u8, algorithm: &str) -> Svc {
    let annotations = serde_json::json!({ "kube-proxy.io/lb-algorithm": algorithm });
    Svc::new(&format!("web-{number}"), number)
        .node_port()
        .with("/metadata/annotations", annotations)
}

/// Sixteen addresses outside, which the client has: they choose the same of three pods once in 14 million times.
fn clients(world: &World, family: IpFamily) -> anyhow::Result<Vec<IpAddr>> {
    let fabric = plan::fabric_net().get(family).network();
    let nth = |number: u8| match fabric {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + u128::from(number)).to_be_bytes()),
    };
    let clients: Vec<IpAddr> = (100..116).map(nth).collect();
    for client in &clients {
        world.cluster.client().add_address(*client)?;
    }
    Ok(clients)
}

/// Each client has its pod at every frontend, before and after a restart; and where the hash is ours, it is the one that every node chooses.
fn source_hash(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&asking(1, "source-hash"), &PODS)?;
    world.settle()?;
    named(&world, "explain default/web-1", &["source-hash"])?;
    let mut choices = Vec::new();
    for family in IpFamily::BOTH {
        let mut pods = PODS.map(|pod| (world.pod(pod).ip(family), pod));
        pods.sort_unstable();
        for client in clients(&world, family)? {
            let pod = ask(&world, client, cluster_address(1, family))?;
            let slot = source_slot(client, 3) as usize;
            let expected = pods[slot].1;
            ensure!(mode == Mode::Ipvs || pod == expected, "{client}: {pod}, not {expected}");
            choices.push((family, client, pod));
        }
    }
    for family in IpFamily::BOTH {
        let used: BTreeSet<_> =
            choices.iter().filter(|choice| choice.0 == family).map(|choice| &choice.2).collect();
        ensure!(used.len() > 1, "all clients go to {used:?}");
    }
    check(&world, &choices)?;
    // Others come and go: slots of this one stay, also where an earlier one of its endpoints had been another's.
    world.serve(&asking(1, "source-hash"), &PODS[..2])?;
    world.settle()?;
    world.serve(&asking(1, "source-hash"), &PODS)?;
    world.settle()?;
    if mode != Mode::Ipvs {
        check(&world, &choices)?;
        world.stop()?;
        world.start()?;
        check(&world, &choices)?;
    }
    Ok(())
}

fn ask(world: &World, client: IpAddr, to: SocketAddr) -> anyhow::Result<String> {
    Ok(world.probe(From::Outside).source(client).tcp(to).answer()?.pod)
}

fn check(world: &World, choices: &[(IpFamily, IpAddr, String)]) -> anyhow::Result<()> {
    for (family, client, pod) in choices {
        for to in [cluster_address(1, *family), world.node_port(1, *family)] {
            let found = ask(world, *client, to).with_context(|| to.to_string())?;
            ensure!(found == *pod, "{client} to {to}: {found}, not {pod}");
        }
    }
    Ok(())
}

/// What a mode does not have is said in the log and counted, and the random choice serves.
fn lacking(mode: Mode) -> anyhow::Result<()> {
    let algorithm = if mode == Mode::Nftables { "least-connections" } else { "source-hash" };
    let world = World::new(mode)?;
    world.serve(&asking(1, algorithm), &PODS)?;
    world.serve(&asking(2, "random"), &PODS)?;
    world.settle()?;
    for family in IpFamily::BOTH {
        world.check_pods(From::Pod("client"), cluster_address(1, family), &PODS)?;
    }
    let said = |line: &String| line.contains("does not have the algorithm");
    let lines: Vec<_> = world.proxy().lines().into_iter().filter(said).collect();
    ensure!(lines.len() == 2, "not once for each family: {lines:#?}");
    ensure!(lines.iter().all(|line| line.contains("default/web-1") && line.contains(algorithm)));
    let page = world.probe(From::Node).http_get(METRICS, "/metrics")?.body;
    for family in IpFamily::BOTH {
        let line =
            format!("kubeproxy_services_without_their_lb_algorithm{{ip_family=\"{family}\"}} 1");
        ensure!(page.contains(&line), "{line} is not among the metrics");
    }
    Ok(())
}

/// What the flag says holds for Services that say nothing, or is said to be missing at the start.
fn of_node(mode: Mode) -> anyhow::Result<()> {
    let world = World::with_flags(mode, &["--lb-algorithm=source-hash"])?;
    world.serve(&Svc::new("plain", 1).node_port(), &PODS)?;
    world.serve(&asking(2, "random"), &PODS)?;
    world.settle()?;
    let plain = cluster_address(1, IpFamily::V4);
    let probe = world.probe(From::Pod("client"));
    if mode.is_iptables() {
        let missing = "does not have the algorithm of --lb-algorithm";
        let lines = world.proxy().lines();
        let said = lines.iter().filter(|line| line.contains(missing));
        ensure!(said.count() == 2, "not once for each family");
        world.check_pods(From::Pod("client"), plain, &PODS)?;
    } else {
        named(&world, "explain default/plain", &["source-hash"])?;
        let spread = probe.spread(plain, 20);
        ensure!(spread.pods.len() == 1 && spread.failures.is_empty(), "one client: {spread}");
    }
    world.check_pods(From::Pod("client"), cluster_address(2, IpFamily::V4), &PODS)
}

/// Six connections are three for each of two pods; where the three of one end, the next goes there.
fn least_connections(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    world.serve(&asking(1, "least-connections"), &PODS[..2])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let connect = || world.probe(From::Pod("client")).connect(cluster_address(1, family));
        let of = |connection: &Connection, pod: &str| connection.greeting().pod == pod;
        let open = (0..6).map(|_| connect()).collect::<anyhow::Result<Vec<_>>>()?;
        let first = open.iter().filter(|connection| of(connection, "local-1")).count();
        ensure!(first == 3, "{first} of 6 connections are to local-1");
        let (ended, kept): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|connection| of(connection, "local-1"));
        drop(ended);
        for _ in 0..2 {
            eventually(GUARD, || {
                let connection = connect()?;
                ensure!(of(&connection, "local-1"), "to the pod with {} connections", kept.len());
                Ok(())
            });
        }
    }
    Ok(())
}
