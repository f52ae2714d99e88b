//! From one mode to another, under traffic: what the old mode left is removed, and no client notices.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::probe::{Connection, UdpFlow};
use libtest_mimic::Trial;

use crate::conntrack::{are_at, fall_silent, flows};
use crate::objects::{Svc, cluster_ip};
use crate::takeover;
use crate::traffic::Traffic;
use crate::world::{From, GUARD, Mode, World, cluster_address};
use crate::{Once, trial};

pub(crate) const TESTS: &[Once] = &[
    ("switch/from-go-iptables-to-nftables", from_go_iptables),
    ("switch/from-go-nftables-to-iptables", from_go_nftables),
    ("switch/udp-of-what-went/iptables-legacy-to-nftables", || {
        udp_of_what_went(Mode::IptablesLegacy, Mode::Nftables)
    }),
    ("switch/udp-of-what-went/iptables-nft-to-nftables", || {
        udp_of_what_went(Mode::IptablesNft, Mode::Nftables)
    }),
    ("switch/udp-of-what-went/nftables-to-iptables-legacy", || {
        udp_of_what_went(Mode::Nftables, Mode::IptablesLegacy)
    }),
];

/// Pause between two messages on a connection that lasts.
const PAUSE: Duration = Duration::from_millis(20);

/// Every ordered pair of modes. Those with ipvs are named so that they run where the kernel has it, which may have nothing but old iptables.
pub(crate) fn trials(rootless: bool) -> Vec<Trial> {
    let pairs = Mode::ALL.into_iter().flat_map(|from| Mode::ALL.map(|to| (from, to)));
    let here = Mode::Ipvs.is_here(rootless);
    let trials = pairs.filter(|(from, to)| from != to).filter_map(|(from, to)| {
        let name = format!("switch/{from}-to-{to}");
        let test = move || pair(from, to);
        match (from, to) {
            (Mode::Ipvs, Mode::IptablesLegacy) | (Mode::IptablesLegacy, Mode::Ipvs) => {
                Some(trial(&format!("ipvs/{name}"), test).with_ignored_flag(!here))
            }
            (Mode::Ipvs, _) | (_, Mode::Ipvs) => None,
            _ => Some(trial(&name, test)),
        }
    });
    trials.collect()
}

fn pair(from: Mode, to: Mode) -> anyhow::Result<()> {
    // The kernel remembers a UDP flow through a virtual server for as long.
    let nets = plan::cluster_net();
    let pod_networks = format!("--cluster-cidr={},{}", nets.v4, nets.v6);
    let mut world = World::with_flags(from, &[&pod_networks, "--ipvs-udp-timeout=15s"])?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1", "remote-1"])?;
    world.serve(&Svc::new("dns", 2).udp().node_port(), &["local-1", "remote-1"])?;
    world.settle()?;
    ensure!(!left_beside(&world, from, to)?.is_empty(), "{from} has something on the node");
    // What the userspace mode copies ends with its process, and so do its ports before the rules of the next mode are there.
    let ends = from == Mode::Userspace;
    // It has no way to take over UDP flows; they start again.
    let lasting = if ends { None } else { Some(Lasting::start(&world, to != Mode::Userspace)?) };
    let traffic = Traffic::to_service(&world, 1)?;
    world.stop()?;
    traffic.go_on();
    world.use_mode(to);
    world.start()?;
    match from {
        Mode::Ipvs => {
            is_what_connections_need(&world);
            serves(&world)?;
            other_ports_are_closed(&world)?;
        }
        _ => is_gone(&world, from, to),
    }
    traffic.go_on();
    let reports = traffic.end();
    let lasting = lasting.map_or_else(|| Ok("all flows ended".to_owned()), Lasting::end)?;
    is_gone(&world, from, to);
    let attempts: usize = reports.iter().map(|(_, report)| report.attempts.len()).sum();
    let failures: usize = reports.iter().map(|(_, report)| report.failures().count()).sum();
    let slowest = reports.iter().filter_map(|(_, report)| report.slowest()).map(|a| a.took).max();
    // For docs/migration.md; not a failure when standard error is closed.
    let _ = writeln!(
        std::io::stderr(),
        "{from} to {to}: {lasting}; {attempts} new connections, {failures} failed, slowest {:.1?}",
        slowest.unwrap_or_default()
    );
    for (address, report) in reports.iter().filter(|_| !ends) {
        report.check_no_failure().with_context(|| format!("connections to {address}"))?;
    }
    serves(&world)
}

/// UDP flows to what is removed between the end of the old mode and the start of the new one end as well; others continue.
fn udp_of_what_went(from: Mode, to: Mode) -> anyhow::Result<()> {
    let mut world = World::new(from)?;
    let all = |name, number| Svc::new(name, number).udp().load_balancer().external_ips();
    for service in [all("gone", 1), all("fewer", 2), all("right", 3)] {
        world.serve(&service, &["local-1"])?;
    }
    world.settle()?;
    let mut removed = flows(&world, 1)?;
    let (mut kept, external): (Vec<_>, Vec<_>) =
        flows(&world, 2)?.into_iter().partition(|(what, _)| what.contains("cluster IP"));
    removed.extend(external);
    kept.extend(flows(&world, 3)?);
    are_at(&mut removed, "local-1")?;
    are_at(&mut kept, "local-1")?;
    world.stop()?;
    world.delete("Service", "gone")?;
    world.apply([Svc::new("fewer", 2).udp().object()])?;
    // What was removed is still reached: no proxy has run since.
    are_at(&mut removed, "local-1")?;
    world.use_mode(to);
    world.start()?;
    fall_silent(&mut removed)?;
    are_at(&mut kept, "local-1")
}

/// The new mode serves, by all frontends.
fn serves(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let pods = ["local-1", "remote-1"];
        world.check_pods(From::Pod("client"), cluster_address(1, family), &pods)?;
        world.check_pods(From::Node, cluster_address(1, family), &pods)?;
        world.check_pods(From::Outside, world.node_port(1, family), &pods)?;
    }
    Ok(())
}

/// What a mode has on the node, but for what it shares with the kubelet.
pub(crate) fn left_by(world: &World, mode: Mode) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for family in IpFamily::BOTH {
        let portal = |rule: &str| {
            ["KUBE-PORTALS-", "KUBE-NODEPORT-", "KUBE-USERSPACE-"]
                .iter()
                .any(|start| rule.contains(start))
        };
        let rules = |ours: &dyn Fn(&str) -> bool| -> anyhow::Result<Vec<String>> {
            Ok(world.rules(mode, family)?.into_iter().filter(|rule| ours(rule)).collect())
        };
        if mode == Mode::Userspace {
            left.extend(rules(&portal)?);
        } else if mode == Mode::Ipvs {
            let ours = |rule: &str| OF_IPVS.iter().any(|name| rule.contains(name));
            left.extend(rules(&ours)?);
        } else if mode.is_iptables() {
            let ours = |rule: &str| {
                rule.contains("KUBE-") && !rule.contains("KUBE-FIREWALL") && !portal(rule)
            };
            left.extend(rules(&ours)?);
        } else {
            left.extend(
                nft_tables(world)?.into_iter().filter(|table| table.ends_with(" kube-proxy")),
            );
        }
    }
    if mode == Mode::Ipvs {
        left.extend(ipvs_objects(world)?);
    }
    Ok(left)
}

/// Parts of rules that only the ipvs mode has.
const OF_IPVS: [&str; 5] = [
    "KUBE-IPVS-",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-",
    "--match-set KUBE-",
];
/// Parts of rules that only the iptables mode has, where the ipvs mode has chains of the same names.
const OF_IPTABLES: [&str; 5] =
    ["KUBE-SVC-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES"];

/// What the ipvs mode has beside rules: virtual servers, sets, the interface.
fn ipvs_objects(world: &World) -> anyhow::Result<Vec<String>> {
    // A kernel without IPVS has no such file.
    let servers = world.on_node("cat", &["/proc/net/ip_vs"]).unwrap_or_default();
    let servers =
        servers.lines().filter(|line| line.starts_with("TCP ") || line.starts_with("UDP "));
    let sets = world.on_node("ipset", &["list", "-n"])?;
    let links = world.on_node("ip", &["-o", "link"])?;
    let others = sets.lines().chain(links.lines());
    let others = others.filter(|line| line.starts_with("KUBE-") || line.contains("kube-ipvs0"));
    Ok(servers.chain(others).map(str::to_owned).collect())
}

/// What a mode has on the node that another one, which may run, has not.
fn left_beside(world: &World, mode: Mode, other: Mode) -> anyhow::Result<Vec<String>> {
    let mut left = left_by(world, mode)?;
    if mode.is_iptables() && other == Mode::Ipvs {
        left.retain(|rule| OF_IPTABLES.iter().any(|name| rule.contains(name)));
    }
    Ok(left)
}

/// Lines such as `table ip kube-proxy`.
pub(crate) fn nft_tables(world: &World) -> anyhow::Result<Vec<String>> {
    Ok(world.on_node("nft", &["list", "tables"])?.lines().map(str::to_owned).collect())
}

fn is_gone(world: &World, mode: Mode, other: Mode) {
    eventually(GUARD, || {
        let left = left_beside(world, mode, other)?;
        ensure!(left.is_empty(), "of {mode} there are still {left:#?}");
        Ok(())
    });
}

/// Of the ipvs mode are there the virtual servers that [`Lasting`] uses, without new connections, and no rules but the filter.
fn is_what_connections_need(world: &World) {
    eventually(GUARD, || {
        let mut left = left_by(world, Mode::Ipvs)?;
        let gone =
            ["-A KUBE-NODE-PORT ", "-A KUBE-LOAD-BALANCER ", "KUBE-IPVS-OUT-DROP", "LOOP-BACK"];
        left.retain(|line| gone.iter().any(|name| line.contains(name)));
        ensure!(left.is_empty(), "of ipvs there are still {left:#?}");
        let table = world.on_node("cat", &["/proc/net/ip_vs"])?;
        let servers =
            table.lines().filter(|line| ["TCP ", "UDP "].iter().any(|p| line.starts_with(p)));
        ensure!(servers.count() == 8, "not two Services by two frontends in two families: {table}");
        // Such as "  -> 0AF40102:1F90      Masq    0      1          0".
        let destinations = table.lines().filter(|line| line.contains("Masq"));
        let live = destinations.filter(|line| line.split_whitespace().nth(3) != Some("0"));
        ensure!(live.count() == 0, "there are weights: {table}");
        Ok(())
    });
}

/// An address that stays on the node does not lead to what the node itself listens on.
fn other_ports_are_closed(world: &World) -> anyhow::Result<()> {
    // The health server of the proxy, on all addresses of IPv4.
    let health = |ip| SocketAddr::new(ip, 10256);
    let probe = world.probe(From::Pod("client"));
    let node = world.node_port(1, IpFamily::V4).ip();
    probe.http_get(health(node), "/livez").context("the health server of the node")?;
    let outcome = probe.tcp(health(cluster_ip(1, IpFamily::V4)));
    ensure!(outcome.is_refused(), "a port of the node by a cluster IP: {outcome:?}");
    Ok(())
}

/// Connections on which something is said all the time.
struct Lasting {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<String>>,
}

impl Lasting {
    /// From a pod to cluster IPs and from outside to node ports, TCP and UDP, in both families.
    fn start(world: &World, udp: bool) -> anyhow::Result<Self> {
        let mut connections: Vec<(String, Connection)> = Vec::new();
        let mut flows: Vec<(String, UdpFlow, String)> = Vec::new();
        for family in IpFamily::BOTH {
            let (pod, outside) = (world.probe(From::Pod("client")), world.probe(From::Outside));
            for (probe, to) in
                [(pod, cluster_address(1, family)), (outside, world.node_port(1, family))]
            {
                connections.push((format!("TCP {to}"), probe.connect(to)?));
            }
            for (probe, to) in
                [(pod, cluster_address(2, family)), (outside, world.node_port(2, family))]
            {
                let mut flow = probe.udp_flow(to)?;
                let pod = flow.ping().answer()?.pod;
                if udp {
                    flows.push((format!("UDP {to}"), flow, pod));
                }
            }
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || talk(connections, flows, &stopped));
        Ok(Self { stop, thread })
    }

    /// How many there were, if all of them are still there.
    fn end(self) -> anyhow::Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn talk(
    mut connections: Vec<(String, Connection)>,
    mut flows: Vec<(String, UdpFlow, String)>,
    stop: &AtomicBool,
) -> anyhow::Result<String> {
    let mut rounds = 0;
    loop {
        // A last round after the end.
        let is_end = stop.load(Ordering::Relaxed);
        for (to, connection) in &mut connections {
            let pod = connection.greeting().pod.clone();
            let lost = || format!("a connection to {to} was lost in round {rounds}");
            let answer = connection.ping().answer().with_context(lost)?;
            ensure!(answer.pod == pod, "{to}: {} answers, not {pod}", answer.pod);
        }
        for (to, flow, pod) in &mut flows {
            let lost = || format!("a flow to {to} was lost in round {rounds}");
            let answer = flow.ping().answer().with_context(lost)?;
            ensure!(answer.pod == *pod, "{to}: {} answers, not {pod}", answer.pod);
        }
        rounds += 1;
        if is_end {
            let (tcp, udp) = (connections.len(), flows.len());
            return Ok(format!("{tcp} TCP and {udp} UDP flows answered in all of {rounds} rounds"));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The rules of a Go kube-proxy in both variants of iptables.
fn from_go_iptables() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1", "remote-1"])?;
    let iptables = [Mode::IptablesLegacy, Mode::IptablesNft];
    for family in IpFamily::BOTH {
        for mode in iptables {
            takeover::load(&world, mode, family)?;
        }
    }
    let traffic = Traffic::to_service(&world, 1)?;
    world.start()?;
    for mode in iptables {
        is_gone(&world, mode, Mode::Nftables);
    }
    traffic.stop()?;
    serves(&world)
}

/// Objects of the table of a Go kube-proxy, for the cluster IP of the Service.
const GO_TABLE: &str = "\
table FAMILY kube-proxy { comment \"rules for kube-proxy\";
  set cluster-ips { type ADDRESSES; comment \"Active ClusterIPs\"; elements = { CLUSTER_IP }; }
  map service-ips {
    type ADDRESSES . inet_proto . inet_service : verdict; comment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\";
    elements = { CLUSTER_IP . tcp . 80 : goto service-446JGJO3-default/web/tcp/p };
  }
  chain service-446JGJO3-default/web/tcp/p { FAMILY daddr CLUSTER_IP tcp dport 80 dnat to ENDPOINT; }
  chain services { FAMILY daddr . meta l4proto . th dport vmap @service-ips; }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
}
";

fn from_go_nftables() -> anyhow::Result<()> {
    for mode in [Mode::IptablesLegacy, Mode::IptablesNft] {
        let mut world = World::without_proxy(mode, &[])?;
        world.serve(&Svc::new("web", 1).node_port(), &["local-1", "remote-1"])?;
        load_go_table(&world)?;
        let mut flows = Vec::new();
        for family in IpFamily::BOTH {
            flows.push((world.probe(From::Pod("client")), cluster_address(1, family)));
        }
        let traffic = Traffic::start(&flows)?;
        world.start()?;
        is_gone(&world, Mode::Nftables, mode);
        traffic.stop()?;
        serves(&world)?;
    }
    Ok(())
}

/// Loads the table of a Go kube-proxy, of both families.
pub(crate) fn load_go_table(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let (name, addresses) = match family {
            IpFamily::V4 => ("ip", "ipv4_addr"),
            IpFamily::V6 => ("ip6", "ipv6_addr"),
        };
        let text = GO_TABLE
            .replace("FAMILY", name)
            .replace("ADDRESSES", addresses)
            .replace("CLUSTER_IP", &cluster_ip(1, family).to_string())
            .replace("ENDPOINT", &world.pod("local-1").address(family, 8080).to_string());
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        world.on_node("nft", &["-f", file.path().to_str().context("a path of text")?])?;
    }
    Ok(())
}
