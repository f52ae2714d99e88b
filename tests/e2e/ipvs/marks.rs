//! Under the external policy `Local`, pods of the node and the node reach every endpoint by packet marks: what becomes of that over time.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::METRICS;

use super::{BOTH, CLIENT, begin};
use crate::objects::{Svc, vip};
use crate::world::{From, GUARD, Mode, World};

const LOCAL: [&str; 1] = ["local-1"];
const SET: &str = "KUBE-IPVS-MARK";

/// A second Service, under the external policy `Local`, with an endpoint here and one elsewhere.
fn world(mode: Mode, flags: &[&str], change: fn(Svc) -> Svc) -> anyhow::Result<(World, Svc)> {
    let (world, _) = begin(mode, flags, &BOTH)?;
    let service = change(Svc::new("near", 2).load_balancer().external_local());
    world.serve(&service, &BOTH)?;
    world.settle()?;
    Ok((world, service))
}

fn at_vip(family: IpFamily) -> SocketAddr {
    SocketAddr::new(vip(2, family), 80)
}

/// Whom pods and the node reach, and that others reach local endpoints.
fn reaches(world: &World, pods: &[&str]) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        for from in [CLIENT, From::Node] {
            world.check_pods(from, at_vip(family), pods).with_context(|| format!("{from:?}"))?;
            world.check_pods(from, world.node_port(2, family), pods)?;
        }
        world.check_pods(From::Outside, at_vip(family), &LOCAL)?;
        world.check_pods(From::Outside, world.node_port(2, family), &LOCAL)?;
    }
    Ok(())
}

/// The virtual servers that go by mark, without their counters.
fn by_mark(world: &World) -> anyhow::Result<Vec<String>> {
    let list = world.on_node("ipvsadm", &["-Sn"])?;
    let own = list.lines().filter(|line| line.starts_with("-A -f"));
    Ok(own.map(|line| line.trim().to_owned()).collect())
}

fn state(world: &World, mode: Mode) -> anyhow::Result<String> {
    let mut state = by_mark(world)?.join("\n");
    state += &world.on_node("ipset", &["list", "-n"])?;
    for family in IpFamily::BOTH {
        let rules = world.rules(mode, family)?;
        state.extend(rules.into_iter().filter(|rule| rule.contains("KUBE-IPVS")));
    }
    Ok(state)
}

/// A restart keeps the marks, and with them the connections that came by them; a Service that goes takes all with it.
pub(super) fn restart(mode: Mode) -> anyhow::Result<()> {
    let (mut world, service) = world(mode, &[], |service| service)?;
    world.serve(&Svc::new("third", 3).load_balancer().external_local(), &BOTH)?;
    world.settle()?;
    // The first Service has no mark any more, the last one keeps its.
    world.delete("services", "near")?;
    world.settle()?;
    world.serve(&service, &BOTH)?;
    world.settle()?;
    let before = by_mark(&world)?;
    ensure!(
        before.len() == 8,
        "two Services, two families, with and without masquerading: {before:?}"
    );
    let mut lasting = Vec::new();
    while !lasting.iter().any(|(pod, _)| pod == "remote-1") {
        let mut connection = world.probe(CLIENT).connect(at_vip(IpFamily::V4))?;
        lasting.push((connection.ping().answer()?.pod, connection));
    }
    world.stop()?;
    world.start()?;
    let after = by_mark(&world)?;
    ensure!(after == before, "{before:?} became {after:?}");
    for (pod, connection) in &mut lasting {
        ensure!(connection.ping().answer()?.pod == *pod, "the connection went elsewhere");
    }
    reaches(&world, &BOTH)?;
    // One endpoint goes: its connection stays, new ones go to the other.
    world.serve(&service, &LOCAL)?;
    world.settle()?;
    reaches(&world, &LOCAL)?;
    for (pod, connection) in &mut lasting {
        ensure!(connection.ping().answer()?.pod == *pod, "the connection was cut");
    }
    for name in ["near", "third"] {
        world.delete("services", name)?;
    }
    world.settle()?;
    eventually(GUARD, || {
        let left = state(&world, mode)?;
        ensure!(!left.contains("-f ") && !left.contains(SET) && !left.contains("UNMARK"), "{left}");
        Ok(())
    });
    Ok(())
}

/// Whatever of it others break is noticed within a sync period, and what is not ours stays.
pub(super) fn repair(mode: Mode) -> anyhow::Result<()> {
    let (mut world, _) = world(mode, &[], |service| service)?;
    let marks = by_mark(&world)?;
    let first = marks.iter().find_map(|line| line.split(' ').nth(2)).context("no mark")?;
    world.on_node("ipvsadm", &["-A", "-f", "99", "-s", "rr"])?;
    world.on_node("ipvsadm", &["-A", "-f", "99", "-6", "-s", "rr"])?;
    let broken: [(&str, &[&str]); 5] = [
        ("ipvsadm", &["-D", "-f", first]),
        ("ipset", &["flush", SET]),
        ("ipset", &["flush", "KUBE-LOOP-BACK"]),
        ("iptables-legacy", &["-t", "mangle", "-F"]),
        ("iptables-legacy", &["-t", "mangle", "-F", "KUBE-IPVS-OUT-MARK"]),
    ];
    for (program, arguments) in broken {
        world.on_node(program, arguments)?;
        eventually(GUARD, || {
            reaches(&world, &BOTH).with_context(|| format!("{program} {arguments:?}"))?;
            let state = state(&world, mode)?;
            ensure!(state.contains("-j KUBE-IPVS-OUT-MARK"), "{program} {arguments:?}: {state}");
            anyhow::Ok(())
        });
    }
    world.stop()?;
    world.start()?;
    let kept = by_mark(&world)?.iter().filter(|line| line.contains("-f 99 ")).count();
    ensure!(kept == 2, "the virtual servers of others went");
    world.stop()?;
    let command = world.command()?;
    let mut arguments: Vec<&str> = command.get_args().filter_map(|a| a.to_str()).collect();
    arguments.push("--cleanup");
    world.on_node(&command.get_program().to_string_lossy(), &arguments)?;
    let left = state(&world, mode)?;
    ensure!(!left.contains("KUBE-"), "{left}");
    ensure!(by_mark(&world)?.len() == 2, "{left}");
    // On a node that has nothing of it, with the Service there from the start.
    world.start()?;
    reaches(&world, &BOTH)
}

/// An older version and the Go kube-proxy remove entries that they do not know from sets that they know; then no packet gets a mark.
pub(super) fn handed_back(mode: Mode) -> anyhow::Result<()> {
    let (mut world, _) = world(mode, &[], |service| service)?;
    reaches(&world, &BOTH)?;
    world.stop()?;
    for set in ["KUBE-LOOP-BACK", "KUBE-6-LOOP-BACK"] {
        world.on_node("ipset", &["flush", set])?;
    }
    reaches(&world, &LOCAL)?;
    world.start()?;
    reaches(&world, &BOTH)
}

/// What other programs set in a packet's mark is theirs: such packets are balanced as those of anybody else.
pub(super) fn bits_of_others(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = world(mode, &[], |service| service)?;
    for (program, chain) in [
        ("iptables-legacy", "PREROUTING"),
        ("iptables-legacy", "OUTPUT"),
        ("ip6tables-legacy", "PREROUTING"),
        ("ip6tables-legacy", "OUTPUT"),
    ] {
        world.on_node(
            program,
            &["-t", "mangle", "-A", chain, "-j", "MARK", "--or-mark", "0x10000"],
        )?;
        let table = world.on_node(program, &["-t", "mangle", "-S", "KUBE-IPVS-UNMARK"])?;
        ensure!(table.contains("--set-xmark 0x0/0x107f"), "{table}");
    }
    reaches(&world, &LOCAL)
}

/// The kernel ignores the port of destinations where a virtual server has affinity and goes by mark, so these have none.
pub(super) fn affinity(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = world(mode, &[], |service| service.affinity(600))?;
    ensure!(by_mark(&world)?.is_empty(), "a virtual server by mark");
    reaches(&world, &LOCAL)?;
    let gauge = |family, expected: u8| {
        let response = world.probe(From::Node).http_get(METRICS, "/metrics")?;
        let line =
            format!("kubeproxy_local_only_service_ports{{ip_family=\"{family}\"}} {expected}");
        ensure!(response.body.lines().any(|found| found == line), "no line {line}");
        anyhow::Ok(())
    };
    IpFamily::BOTH.into_iter().try_for_each(|family| gauge(family, 1))?;
    let said = said(&world)?;
    ensure!(said.contains("local-1") && !said.contains("remote-1"), "{said}");
    world.serve(&Svc::new("near", 2).load_balancer().external_local(), &BOTH)?;
    world.settle()?;
    reaches(&world, &BOTH)?;
    IpFamily::BOTH.into_iter().try_for_each(|family| gauge(family, 0))
}

/// Whom `explain` says that a pod reaches by the VIP: the names of the pods.
fn said(world: &World) -> anyhow::Result<String> {
    let to = at_vip(IpFamily::V4);
    let from = world.pod("client").ip(IpFamily::V4);
    let path = format!("/debug/explain?from={from}&to={to}/tcp");
    let response = world.probe(From::Node).http_get(METRICS, &path)?;
    let answer: serde_json::Value = serde_json::from_str(&response.body)?;
    let endpoints = answer["paths"][0]["endpoints"].as_array().context("endpoints")?;
    let used = endpoints.iter().filter(|endpoint| endpoint["unused"].is_null());
    let is_used = |pod: &&str| {
        let ip = world.pod(pod).ip(IpFamily::V4).to_string();
        used.clone().any(|e| e["address"].as_str().is_some_and(|a| a.starts_with(&ip)))
    };
    Ok(BOTH.into_iter().filter(is_used).collect::<Vec<_>>().join(" "))
}

/// Other bits than the usual ones, and none.
pub(super) fn masks(mode: Mode) -> anyhow::Result<()> {
    // The bit for masquerading is the one by which marks are known.
    let (without, _) = world(mode, &["--iptables-masquerade-bit=12"], |service| service)?;
    reaches(&without, &BOTH)?;
    drop(without);
    let (two, _) = world(mode, &["--ipvs-mark-mask=0x30000000"], |service| service)?;
    reaches(&two, &BOTH)?;
    let list = by_mark(&two)?;
    ensure!(list.iter().any(|line| line.contains("-f 805306368 ")), "{list:?}");
    drop(two);
    let (none, _) = world(mode, &["--ipvs-mark-mask=0"], |service| service)?;
    reaches(&none, &LOCAL)?;
    let said = said(&none)?;
    ensure!(said == "local-1", "explained as {said}");
    let state = state(&none, mode)?;
    ensure!(!state.contains("-f ") && !state.contains(SET), "{state}");
    Ok(())
}

/// Datagrams, whose flows move when their endpoint goes.
pub(super) fn datagrams(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = world(mode, &[], Svc::udp)?;
    for family in IpFamily::BOTH {
        let asks = |from: From, to: SocketAddr, wanted: &[&str]| {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..20 {
                seen.insert(world.probe(from).udp(to).answer()?.pod);
            }
            let wanted = wanted.iter().map(ToString::to_string).collect();
            ensure!(seen == wanted, "{from:?} to {to}: {seen:?}, not {wanted:?}");
            anyhow::Ok(())
        };
        for to in [at_vip(family), world.node_port(2, family)] {
            asks(CLIENT, to, &BOTH)?;
            asks(From::Node, to, &BOTH)?;
            asks(From::Outside, to, &LOCAL)?;
        }
    }
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        for from in [CLIENT, From::Node] {
            let answer = world.probe(from).udp(at_vip(family)).answer()?;
            ensure!(answer.pod == "remote-1", "{answer:?}");
        }
    }
    Ok(())
}

/// Connections that came by mark continue under another mode; when they end, all of it goes.
pub(super) fn left(mode: Mode) -> anyhow::Result<()> {
    let (mut world, _) = world(mode, &[], |service| service)?;
    let mut lasting = Vec::new();
    for family in IpFamily::BOTH {
        for from in [CLIENT, From::Node] {
            let mut pods = std::collections::BTreeSet::new();
            while pods.len() < 2 {
                let mut connection = world.probe(from).connect(at_vip(family))?;
                let pod = connection.ping().answer()?.pod;
                if pods.insert(pod.clone()) {
                    lasting.push((pod, connection));
                }
            }
        }
    }
    world.stop()?;
    world.use_mode(Mode::IptablesLegacy);
    world.start()?;
    eventually(GUARD, || {
        let state = state(&world, mode)?;
        ensure!(!state.contains("UNMARK") && state.contains(SET), "{state}");
        anyhow::Ok(())
    });
    for (pod, connection) in &mut lasting {
        ensure!(connection.ping().answer()?.pod == *pod, "the connection went elsewhere");
    }
    reaches(&world, &BOTH)?;
    drop(lasting);
    eventually(GUARD, || {
        let state = state(&world, mode)?;
        ensure!(!state.contains("KUBE-") && !state.contains("-f "), "{state}");
        anyhow::Ok(())
    });
    Ok(())
}
