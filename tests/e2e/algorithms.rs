//! How an endpoint is chosen: by the client's address, by the number of connections, or at random where a mode has nothing else.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, ensure};
use kube_proxy_core::algorithm::{connection_slot, source_slot};
use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::{Conditions, Endpoint, IpFamily, maglev};
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::METRICS;
use kube_proxy_testkit::probe::Connection;

use crate::PerMode;
use crate::explain::named;
use crate::objects::Svc;
use crate::servers::{event, events};
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

/// Those of a mode.
pub(crate) fn tests(mode: Mode) -> Vec<PerMode> {
    let mut tests: Vec<PerMode> = vec![("algorithms/of-the-node", of_node)];
    if !mode.is_iptables() {
        tests.push(("algorithms/source-hash", source_hash));
        tests.push(("algorithms/maglev", maglev_table));
        tests.push(("algorithms/source-hash-drain", source_hash_drain));
        tests.push(("algorithms/maglev-drain", maglev_drain));
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

/// Source ports that were not used yet, so that no connection of before answers for another one.
struct Ports(u16);

impl Ports {
    fn next(&mut self) -> u16 {
        self.0 += 1;
        self.0
    }
}

/// Who answers to this client port.
fn pod_of(world: &World, port: u16, to: SocketAddr) -> anyhow::Result<String> {
    let client = *plan::client().get(IpFamily::of(&to.ip()));
    let probe = world.probe(From::Outside).source(client).source_port(port);
    Ok(probe.udp(to).answer().with_context(|| format!("{to} from port {port}"))?.pod)
}

/// The pod that every node has in the slot of a client port.
fn pod_in_table(world: &World, pods: &[&'static str], family: IpFamily, port: u16) -> &'static str {
    let mut pods: Vec<_> = pods.iter().map(|pod| (world.pod(pod).ip(family), *pod)).collect();
    pods.sort_unstable();
    let endpoint = |(ip, _): &(IpAddr, &str)| Endpoint {
        ip: *ip,
        port: TARGET.try_into().expect("not zero"),
        conditions: Conditions::default(),
        place: Place::default(),
        node_hint: NodeHint::default(),
        steering: None,
    };
    let table = maglev::table(&pods.iter().map(endpoint).collect::<Vec<_>>());
    let size = u32::try_from(table.len()).expect("a few thousand");
    let client = SocketAddr::new(*plan::client().get(family), port);
    pods[table[connection_slot(client, size) as usize] as usize].1
}

/// The pod depends on the client's port, and not on the frontend; where the table is ours, it is the one that every node has, with two
/// pods and with three, before a restart and after it.
fn maglev_table(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let service = asking(1, "maglev").udp();
    let mut ports = Ports(20_000);
    for (pods, restart) in [(&PODS[..], false), (&PODS[..2], false), (&PODS[..], true)] {
        if restart {
            world.stop()?;
            world.start()?;
        }
        world.serve(&service, pods)?;
        world.settle()?;
        for family in IpFamily::BOTH {
            let (cluster_ip, node_port) = (cluster_address(1, family), world.node_port(1, family));
            let mut used = BTreeSet::new();
            for _ in 0..24 {
                let port = ports.next();
                let pod = pod_of(&world, port, cluster_ip)?;
                if mode == Mode::Ipvs {
                    let other = pod_of(&world, port, node_port)?;
                    ensure!(pod == other, "port {port}: {pod}, and {other} at the node port");
                } else {
                    let expected = pod_in_table(&world, pods, family, port);
                    ensure!(pod == expected, "{cluster_ip}, port {port}: {pod}, not {expected}");
                    let port = ports.next();
                    let expected = pod_in_table(&world, pods, family, port);
                    let pod = pod_of(&world, port, node_port)?;
                    ensure!(pod == expected, "{node_port}, port {port}: {pod}, not {expected}");
                }
                used.insert(pod);
            }
            // All of them to one of two pods once in eight million times, and the ports are always the same.
            ensure!(used.len() > 1, "{family}: all ports lead to {used:?}");
        }
    }
    named(&world, "explain default/web-1", &["maglev"])
}

/// One of the pods of a Service drains.
fn drain_one(world: &World, service: &Svc) -> anyhow::Result<()> {
    let drained = |family| {
        let mut slice = service.slice(family, "", TARGET, &world.endpoints(&PODS));
        let weight = format!("{}=0", world.pod("local-1").ip(family));
        slice["metadata"]["annotations"] =
            serde_json::json!({ "kube-proxy.io/endpoint-weights": weight });
        slice
    };
    world.apply(IpFamily::BOTH.map(drained))?;
    world.settle()
}

/// What drains gets nothing new: every client of it is served by another pod.
fn source_hash_drain(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking(1, "source-hash");
    world.serve(&service, &PODS)?;
    world.settle()?;
    drain_one(&world, &service)?;
    for family in IpFamily::BOTH {
        for client in clients(&world, family)? {
            for to in [cluster_address(1, family), world.node_port(1, family)] {
                let pod = ask(&world, client, to).with_context(|| format!("{client} to {to}"))?;
                ensure!(pod != "local-1", "{client} to {to}: {pod} drains");
            }
        }
    }
    Ok(())
}

/// What drains gets nothing new: every client port of it leads to another pod.
fn maglev_drain(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let service = asking(1, "maglev").udp();
    world.serve(&service, &PODS)?;
    world.settle()?;
    drain_one(&world, &service)?;
    let mut ports = Ports(20_000);
    for family in IpFamily::BOTH {
        for to in [cluster_address(1, family), world.node_port(1, family)] {
            for _ in 0..24 {
                let pod = pod_of(&world, ports.next(), to)?;
                ensure!(pod != "local-1", "{to}: {pod} drains");
            }
        }
    }
    Ok(())
}

/// What a mode does not have is said in the log, counted, and named by one event of the Service, and the random choice serves.
fn lacking(mode: Mode) -> anyhow::Result<()> {
    let algorithm = if mode == Mode::Nftables { "least-connections" } else { "maglev" };
    let mut world = World::new(mode)?;
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
    let reason = "LBAlgorithmNotAvailable";
    let found = eventually(GUARD, || event(&world, reason));
    ensure!(found["regarding"]["name"] == "web-1" && found["type"] == "Warning", "{found}");
    let note = found["note"].as_str().unwrap_or_default();
    ensure!(note.contains(algorithm) && note.contains("at random"), "{found}");
    // Of both families and of a second process too.
    ensure!(events(&world, reason)?.len() == 1);
    world.stop()?;
    world.start()?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("does not have the algorithm"))?;
    world.settle()?;
    ensure!(events(&world, reason)?.len() == 1);
    let refused = |line: &String| line.contains("events do not reach");
    ensure!(!world.proxy().lines().iter().any(refused), "one that is there already is no failure");
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
