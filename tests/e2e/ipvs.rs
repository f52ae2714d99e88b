//! What only the ipvs mode has: virtual servers, draining, schedulers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::PerMode;
use crate::objects::{Svc, cluster_ip};
use crate::packets::cluster_cidr;
use crate::traffic::works;
use crate::world::{From, GUARD, Mode, TARGET, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("servers/graceful-termination", graceful_termination),
    ("servers/termination-timeout", termination_timeout),
    ("servers/state-found-at-start", found_at_start),
    ("servers/repair", repair),
    ("servers/cleanup", cleanup),
    ("servers/schedulers", schedulers),
    ("servers/unknown-scheduler", unknown_scheduler),
    ("servers/node-address-added", node_address_added),
    ("servers/local-fallback", local_fallback),
    ("servers/foreign-interface", foreign_interface),
];

const CLIENT: From = From::Pod("client");
const BOTH: [&str; 2] = ["local-1", "remote-1"];

fn begin(mode: Mode, flags: &[&str], pods: &[&str]) -> anyhow::Result<(World, Svc)> {
    let cidr = cluster_cidr();
    let flags: Vec<&str> = flags.iter().copied().chain([cidr.as_str()]).collect();
    let world = World::with_flags(mode, &flags)?;
    let service = Svc::new("web", 1).node_port();
    world.serve(&service, pods)?;
    world.settle()?;
    Ok((world, service))
}

/// The weight of each destination of a virtual server, as the kernel lists them: hexadecimal address and port, then weight.
fn weights(world: &World, server: SocketAddr) -> anyhow::Result<Vec<(String, u32)>> {
    let table = world.on_node("cat", &["/proc/net/ip_vs"])?;
    let SocketAddr::V4(server) = server else { anyhow::bail!("only IPv4") };
    let own = format!("TCP  {:08X}:{:04X} ", server.ip().to_bits(), server.port());
    let mut lines = table.lines().skip_while(|line| !line.starts_with(&own));
    lines.next().with_context(|| format!("no virtual server {server} in:\n{table}"))?;
    let destinations = lines.take_while(|line| line.starts_with("  ->"));
    let weights = destinations.filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(((*words.get(1)?).to_owned(), words.get(3)?.parse().ok()?))
    });
    Ok(weights.collect())
}

fn expect_weights(world: &World, wanted: &[u32]) {
    eventually(GUARD, || {
        let found = weights(world, cluster_address(1, IpFamily::V4))?;
        let mut numbers: Vec<u32> = found.iter().map(|(_, weight)| *weight).collect();
        numbers.sort_unstable();
        ensure!(numbers == wanted, "{found:?}, not {wanted:?}");
        Ok(())
    });
}

/// A long connection survives the removal of its endpoint until it ends; new ones go elsewhere; then the endpoint goes, or comes back.
fn graceful_termination(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &[], &["local-1"])?;
    let to = cluster_address(1, IpFamily::V4);
    let mut long = world.probe(CLIENT).connect(to)?;
    ensure!(long.ping().answer()?.pod == "local-1", "the only endpoint");
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    expect_weights(&world, &[0, 1]);
    world.check_pods(CLIENT, to, &["remote-1"])?;
    ensure!(long.ping().answer()?.pod == "local-1", "the connection went elsewhere");
    // Back again: live at once.
    world.serve(&service, &BOTH)?;
    world.settle()?;
    expect_weights(&world, &[1, 1]);
    world.check_pods(CLIENT, to, &BOTH)?;
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    ensure!(long.ping().answer()?.pod == "local-1", "the connection went elsewhere");
    // Looked at several times meanwhile.
    std::thread::sleep(Duration::from_secs(4));
    expect_weights(&world, &[0, 1]);
    ensure!(long.ping().answer()?.pod == "local-1", "the connection was cut");
    // An endpoint of a family without connections has left long ago.
    let list = world.on_node("cat", &["/proc/net/ip_vs"])?;
    ensure!(
        !list.lines().any(|l| l.contains("->") && l.contains('[') && l.contains(" 0      0")),
        "{list}"
    );
    Ok(())
}

/// When the time is over, an endpoint goes although it still has a connection.
fn termination_timeout(mode: Mode) -> anyhow::Result<()> {
    let (world, service) = begin(mode, &["--ipvs-graceful-termination-timeout=2s"], &["local-1"])?;
    let to = cluster_address(1, IpFamily::V4);
    let mut long = world.probe(CLIENT).connect(to)?;
    ensure!(long.ping().answer()?.pod == "local-1", "the only endpoint");
    world.serve(&service, &["remote-1"])?;
    expect_weights(&world, &[1]);
    ensure!(long.ping().answer().is_err(), "the connection was not cut");
    Ok(())
}

fn find(world: &World, family: IpFamily) -> anyhow::Result<String> {
    let list = world.on_node("cat", &["/proc/net/ip_vs"])?;
    let marker = if family == IpFamily::V4 { "TCP  0A60" } else { "TCP  [fd00:0010:0096" };
    Ok(list.lines().filter(|line| line.starts_with(marker)).collect::<Vec<_>>().join("\n"))
}

/// While nobody looks: an endpoint goes, a Service goes, weights become 0. A new start puts all of it right.
fn found_at_start(mode: Mode) -> anyhow::Result<()> {
    let (mut world, service) = begin(mode, &[], &BOTH)?;
    world.serve(&Svc::new("gone", 2).node_port(), &BOTH)?;
    world.settle()?;
    world.stop()?;
    world.delete("services", "gone")?;
    world.serve(&service, &["remote-1"])?;
    ip_vs(&world, IpFamily::V4, "set-weight-0")?;
    world.start()?;
    expect_weights(&world, &[1]);
    let left = find(&world, IpFamily::V4)?;
    ensure!(!left.contains("0A600002"), "left over: {left}");
    for family in IpFamily::BOTH {
        world.check_pods(CLIENT, cluster_address(1, family), &["remote-1"])?;
        let outcome =
            world.probe(CLIENT).timeout(Duration::from_millis(300)).tcp(cluster_address(2, family));
        ensure!(outcome.answer().is_err(), "a Service that is gone answers");
    }
    Ok(())
}

/// Changes virtual servers as others would, with `ipvsadm`.
fn ip_vs(world: &World, family: IpFamily, what: &str) -> anyhow::Result<()> {
    let server = cluster_address(1, family).to_string();
    let pod = SocketAddr::new(world.pod("remote-1").ip(family), TARGET).to_string();
    let arguments: Vec<&str> = match what {
        "set-weight-0" => vec!["-e", "-t", &server, "-r", &pod, "-m", "-w", "0"],
        "delete-destination" => vec!["-d", "-t", &server, "-r", &pod],
        "delete-server" => vec!["-D", "-t", &server],
        _ => vec!["-C"],
    };
    world.on_node("ipvsadm", &arguments)?;
    Ok(())
}

/// Whatever others break is noticed within a sync period.
fn repair(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &[], &["remote-1"])?;
    let broken: [(&str, &[&str]); 5] = [
        ("ip", &["link", "delete", "kube-ipvs0"]),
        ("iptables-legacy", &["-t", "nat", "-F"]),
        ("ip", &["addr", "flush", "dev", "kube-ipvs0"]),
        ("iptables-legacy", &["-t", "filter", "-F", "KUBE-IPVS-FILTER"]),
        ("iptables-legacy", &["-t", "mangle", "-F"]),
    ];
    let check = |what: &str| -> anyhow::Result<()> {
        eventually(GUARD, || {
            let rules = world.rules(mode, IpFamily::V4)?;
            for rule in [
                "KUBE-SERVICES -m addrtype",
                "POSTROUTING -m comment",
                "KUBE-IPVS-OUT-DROP -m",
                "KUBE-IPVS-FILTER -m",
            ] {
                ensure!(rules.iter().any(|found| found.contains(rule)), "{what}: no {rule}");
            }
            anyhow::Ok(())
        });
        for family in IpFamily::BOTH {
            works(world.probe(CLIENT), cluster_address(1, family));
            works(world.probe(From::Outside), world.node_port(1, family));
        }
        Ok(())
    };
    for (program, arguments) in broken {
        world.on_node(program, arguments)?;
        check(&format!("{program} {arguments:?}"))?;
    }
    for what in ["set-weight-0", "delete-destination", "delete-server", "everything"] {
        ip_vs(&world, IpFamily::V4, what)?;
        check(what)?;
    }
    Ok(())
}

/// What is not ours stays: virtual servers, addresses, rules. All of ours goes, of both families.
fn cleanup(mode: Mode) -> anyhow::Result<()> {
    let (mut world, _) = begin(mode, &["--ipvs-exclude-cidrs=10.96.0.77/32"], &BOTH)?;
    let node = world.cluster.node(0).ip(IpFamily::V4).to_string();
    let foreign = format!("{node}:7777");
    world.on_node("ipvsadm", &["-A", "-t", &foreign, "-s", "rr"])?;
    world.on_node("ip", &["addr", "add", "10.96.0.77/32", "dev", "kube-ipvs0"])?;
    world.on_node("ipvsadm", &["-A", "-t", "10.96.0.77:80", "-s", "rr"])?;
    world.on_node("iptables-legacy", &["-t", "nat", "-N", "FOREIGN"])?;
    world.stop()?;
    // A restart leaves them alone as well.
    world.start()?;
    let list = world.on_node("ipvsadm", &["-Ln"])?;
    ensure!(list.contains(&foreign) && list.contains("10.96.0.77:80"), "{list}");
    world.stop()?;
    let command = world.command()?;
    let mut arguments: Vec<&str> = command.get_args().filter_map(|a| a.to_str()).collect();
    arguments.push("--cleanup");
    for _ in 0..2 {
        world.on_node(&command.get_program().to_string_lossy(), &arguments)?;
    }
    let list = world.on_node("ipvsadm", &["-Ln"])?;
    ensure!(list.contains(&foreign) && list.contains("10.96.0.77:80"), "{list}");
    ensure!(
        list.lines().filter(|line| line.starts_with("TCP") || line.starts_with("UDP")).count() == 2,
        "{list}"
    );
    let addresses = world.on_node("ip", &["-br", "addr", "show", "dev", "kube-ipvs0"])?;
    ensure!(
        addresses.contains("10.96.0.77/32") && !addresses.contains("10.96.0.1/"),
        "{addresses}"
    );
    for family in IpFamily::BOTH {
        let rules = world.rules(mode, family)?;
        let ours: Vec<_> = rules.iter().filter(|rule| rule.contains("KUBE-")).collect();
        ensure!(ours.is_empty(), "left behind: {ours:#?}");
    }
    let rules = world.rules(mode, IpFamily::V4)?;
    ensure!(rules.iter().any(|rule| rule.contains("FOREIGN")), "the chain of others is gone");
    ensure!(!world.on_node("ipset", &["list", "-n"])?.contains("KUBE-"), "sets are left");
    Ok(())
}

/// `rr` takes turns exactly; `sh`, by annotation, sticks to the client's address.
fn schedulers(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &[], &BOTH)?;
    let annotation = json!({ "kube-proxy.io/ipvs-scheduler": "sh" });
    let sticky = Svc::new("sticky", 2).with("/metadata/annotations", annotation);
    world.serve(&sticky, &BOTH)?;
    let annotation = json!({ "kube-proxy.io/ipvs-scheduler": "nonsense" });
    world.serve(&Svc::new("odd", 3).with("/metadata/annotations", annotation), &BOTH)?;
    world.settle()?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("nonsense") && line.contains("odd"))?;
    for family in IpFamily::BOTH {
        let ask = |number| {
            anyhow::Ok(world.probe(CLIENT).tcp(cluster_address(number, family)).answer()?.pod)
        };
        for number in [1, 3] {
            let mut pods = Vec::new();
            for _ in 0..10 {
                pods.push(ask(number)?);
            }
            ensure!(pods.windows(2).all(|pair| pair[0] != pair[1]), "no turns: {pods:?}");
        }
        let first = ask(2)?;
        for _ in 0..10 {
            ensure!(ask(2)? == first, "the client changed its pod");
        }
    }
    Ok(())
}

fn unknown_scheduler(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &["--ipvs-scheduler=nonsense"])?;
    let command = world.command()?;
    world.start_without_waiting(command)?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("no IPVS scheduler \"nonsense\""))?;
    ensure!(!world.proxy_mut().wait(GUARD)?.success(), "it ended well");
    let list = world.on_node("cat", &["/proc/net/ip_vs"])?;
    ensure!(!list.contains("C6336400"), "the probe was left: {list}");
    ensure!(world.on_node("ip", &["link", "show", "kube-ipvs0"]).is_err(), "something was begun");
    Ok(())
}

/// Node ports work on an address that the node gets later, at once.
fn node_address_added(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &["--ipvs-sync-period=1h"], &BOTH)?;
    for family in IpFamily::BOTH {
        let net = plan::fabric_net();
        let address = match net.get(family).network() {
            std::net::IpAddr::V4(ip) => std::net::IpAddr::from((ip.to_bits() + 77).to_be_bytes()),
            std::net::IpAddr::V6(ip) => std::net::IpAddr::from((ip.to_bits() + 0x77).to_be_bytes()),
        };
        world.cluster.node(0).add_address(address)?;
        let to = SocketAddr::new(address, world.node_port(1, family).port());
        works(world.probe(From::Outside), to);
    }
    Ok(())
}

fn local_fallback(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &["--ipvs-local-fallback"], &BOTH)?;
    let service = Svc::new("far", 2).load_balancer().external_local();
    world.serve(&service, &["remote-1"])?;
    world.serve(&Svc::new("inside", 3).internal_local(), &["remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let vip = SocketAddr::new(crate::objects::vip(2, family), 80);
        world.check_pods(CLIENT, vip, &["remote-1"])?;
        world.check_pods(From::Outside, world.node_port(2, family), &["remote-1"])?;
        world.check_pods(CLIENT, SocketAddr::new(cluster_ip(3, family), 80), &["remote-1"])?;
    }
    Ok(())
}

/// An interface with our name that is no dummy is somebody else's: said, and left alone.
fn foreign_interface(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    world.on_node("ip", &["link", "add", "kube-ipvs0", "type", "bridge"])?;
    let command = world.command()?;
    world.start_without_waiting(command)?;
    world
        .proxy()
        .wait_for_line(GUARD, |line| line.contains("kube-ipvs0") && line.contains("bridge"))?;
    world.on_node("ip", &["link", "delete", "kube-ipvs0"])?;
    world.proxy().wait_for_line(GUARD, |line| line.contains("full sync took"))?;
    Ok(())
}
