//! What only the ipvs mode has: virtual servers, draining, schedulers.

use std::net::{SocketAddr, TcpListener, TcpStream};
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

mod marks;
mod source_ports;

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
    ("servers/address-of-another-node", address_of_another_node),
    ("servers/source-ports-that-are-node-ports", source_ports::are_node_ports),
    ("servers/reserved-source-ports", source_ports::reserved),
    ("servers/handed-to-the-go-kube-proxy", handed_to_go),
    ("marks/restart", marks::restart),
    ("marks/repair-and-cleanup", marks::repair),
    ("marks/handed-back-to-an-older-version", marks::handed_back),
    ("marks/bits-of-others", marks::bits_of_others),
    ("marks/affinity", marks::affinity),
    ("marks/masks", marks::masks),
    ("marks/datagrams", marks::datagrams),
    ("marks/left-by-the-mode", marks::left),
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
    // The one before has the same weight: first the change, then its end.
    world.settle()?;
    expect_weights(&world, &[1]);
    ensure!(long.ping().answer().is_err(), "the connection was not cut");
    Ok(())
}

fn find(world: &World, family: IpFamily) -> anyhow::Result<String> {
    let list = world.on_node("cat", &["/proc/net/ip_vs"])?;
    let marker = if family == IpFamily::V4 { "TCP  0A60" } else { "TCP  [fd00:0010:0096" };
    Ok(list.lines().filter(|line| line.starts_with(marker)).collect::<Vec<_>>().join("\n"))
}

/// While nothing runs: an endpoint goes, a Service goes, weights become 0. A new start puts all of it right.
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

/// An interface with our name that is no dummy is another program's: said, and left alone.
fn foreign_interface(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    world.on_node("ip", &["link", "add", "kube-ipvs0", "type", "bridge"])?;
    let command = world.command()?;
    world.start_without_waiting(command)?;
    world
        .proxy()
        .wait_for_line(GUARD, |line| line.contains("kube-ipvs0") && line.contains("bridge"))?;
    world.on_node("ip", &["link", "delete", "kube-ipvs0"])?;
    world.wait_until_synced()?;
    Ok(())
}

/// An external IP that is the address of another node: the node reaches it all the same, other frontends of the Service work, and it is served
/// once it is no next hop any more.
fn address_of_another_node(mode: Mode) -> anyhow::Result<()> {
    let (world, _) = begin(mode, &[], &["local-1"])?;
    let other = world.cluster.node(1);
    let spare = |family| SocketAddr::new(crate::objects::external_ip(2, family), 80);
    let ips = IpFamily::BOTH.map(|family| other.ip(family).to_string());
    let spares = IpFamily::BOTH.map(|family| spare(family).ip().to_string());
    let external = ips.iter().chain(&spares).cloned().collect::<Vec<_>>();
    world.serve(
        &Svc::new("greedy", 2).node_port().with("/spec/externalIPs", external),
        &["local-1"],
    )?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let ip = other.ip(family).to_string();
        world.proxy().wait_for_line(GUARD, |line| {
            line.contains("next hop") && line.contains(&ip) && line.contains("default/greedy:p")
        })?;
        let listener = SocketAddr::new(other.ip(family), 7_000);
        let _listener = other.netns().run(|| TcpListener::bind(listener))?;
        let stream = world.cluster.node(0).netns().run(|| TcpStream::connect(listener));
        stream.with_context(|| format!("the node cannot reach {listener}"))?;
        world.check_pods(CLIENT, cluster_address(2, family), &["local-1"])?;
        world.check_pods(From::Outside, world.node_port(2, family), &["local-1"])?;
        world.check_pods(From::Outside, spare(family), &["local-1"])?;
        // What goes through the other node goes there.
        world.check_pods(
            From::Node,
            world.pod("remote-1").address(family, TARGET),
            &["remote-1"],
        )?;
    }
    let lines = world.proxy().lines();
    let said = lines.iter().filter(|line| line.contains("next hop")).count();
    ensure!(said == 2, "said {said} times");
    let net = plan::pod_net(1).v4.to_string();
    world.on_node("ip", &["route", "delete", &net])?;
    let to = SocketAddr::new(other.ip(IpFamily::V4), 80);
    works(world.probe(CLIENT), to);
    world.proxy().wait_for_line(GUARD, |line| line.contains("not refused any more"))?;
    Ok(())
}

/// Sets of the Go kube-proxy: name, type, and what else its `ipset create -exist` says.
const GO_SETS: [(&str, &str); 16] = [
    ("LOOP-BACK", "hash:ip,port,ip"),
    ("CLUSTER-IP", "hash:ip,port"),
    ("EXTERNAL-IP", "hash:ip,port"),
    ("EXTERNAL-IP-LOCAL", "hash:ip,port"),
    ("LOAD-BALANCER", "hash:ip,port"),
    ("LOAD-BALANCER-LOCAL", "hash:ip,port"),
    ("LOAD-BALANCER-FW", "hash:ip,port"),
    ("LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip"),
    ("LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net"),
    ("NODE-PORT-TCP", "bitmap:port"),
    ("NODE-PORT-LOCAL-TCP", "bitmap:port"),
    ("NODE-PORT-UDP", "bitmap:port"),
    ("NODE-PORT-LOCAL-UDP", "bitmap:port"),
    ("NODE-PORT-SCTP-HASH", "hash:ip,port"),
    ("NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port"),
    ("HEALTH-CHECK-NODE-PORT", "bitmap:port"),
];

/// An older image comes back: each of its sets, its chains, its virtual servers over ours, and packets pass all the while.
fn handed_to_go(mode: Mode) -> anyhow::Result<()> {
    let (mut world, _) = begin(mode, &[], &BOTH)?;
    world.stop()?;
    for family in IpFamily::BOTH {
        let (prefix, name) = match family {
            IpFamily::V4 => ("KUBE-", "inet"),
            IpFamily::V6 => ("KUBE-6-", "inet6"),
        };
        for (set, kind) in GO_SETS {
            let mut set = format!("{prefix}{set}");
            set.truncate(31);
            let mut words = vec!["create", set.as_str(), kind];
            if kind == "bitmap:port" {
                words.extend(["range", "0-65535"]);
            } else {
                words.extend(["family", name, "hashsize", "1024", "maxelem", "65536"]);
            }
            words.push("-exist");
            world.on_node("ipset", &words).with_context(|| format!("{set}, {kind}"))?;
        }
        world.on_node(
            "ipset",
            &["create", &format!("{prefix}IPVS-IPS"), "hash:ip", "family", name, "-exist"],
        )?;
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), go_chains(prefix))?;
        let path = file.path().to_str().context("a path of text")?;
        world.on_node(&mode.program(family, "-restore"), &["--noflush", path])?;
        let server = cluster_address(1, family).to_string();
        world.on_node("ipvsadm", &["-E", "-t", &server, "-s", "rr"])?;
        world.check_pods(CLIENT, cluster_address(1, family), &BOTH)?;
        world.check_pods(From::Node, cluster_address(1, family), &BOTH)?;
        world.check_pods(From::Outside, world.node_port(1, family), &BOTH)?;
    }
    Ok(())
}

/// What the Go kube-proxy writes over chains that are there, as far as these packets meet it.
fn go_chains(prefix: &str) -> String {
    let set = |name: &str, flags: &str| format!("-m set --match-set {prefix}{name} {flags}");
    let (cluster_ip, node_port) = (set("CLUSTER-IP", "dst,dst"), set("NODE-PORT-TCP", "dst"));
    let (loop_back, health) =
        (set("LOOP-BACK", "dst,dst,src"), set("HEALTH-CHECK-NODE-PORT", "dst"));
    let (all, pods) = (set("IPVS-IPS", "dst"), plan::cluster_net());
    let pods = if prefix == "KUBE-" { pods.v4.to_string() } else { pods.v6.to_string() };
    format!(
        "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-LOAD-BALANCER - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
         -A KUBE-POSTROUTING {loop_back} -j MASQUERADE\n\
         -A KUBE-SERVICES ! -s {pods} {cluster_ip} -j KUBE-MARK-MASQ\n\
         -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT\n\
         -A KUBE-SERVICES {cluster_ip} -j ACCEPT\n\
         -A KUBE-NODE-PORT -p tcp {node_port} -j KUBE-MARK-MASQ\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -j MASQUERADE\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\nCOMMIT\n\
         *filter\n:KUBE-FORWARD - [0:0]\n:KUBE-NODE-PORT - [0:0]\n:KUBE-PROXY-FIREWALL - [0:0]\n:KUBE-SOURCE-RANGES-FIREWALL - [0:0]\n:KUBE-IPVS-FILTER - [0:0]\n:KUBE-IPVS-OUT-FILTER - [0:0]\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A KUBE-NODE-PORT {health} -j ACCEPT\n\
         -A KUBE-SOURCE-RANGES-FIREWALL -j DROP\n\
         -A KUBE-IPVS-FILTER {cluster_ip} -j RETURN\n\
         -A KUBE-IPVS-FILTER -m conntrack --ctstate NEW {all} -j REJECT\n\
         -A KUBE-IPVS-OUT-FILTER -m conntrack --ctstate NEW {all} -j REJECT\nCOMMIT\n"
    )
}
