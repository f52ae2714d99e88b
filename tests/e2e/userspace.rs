//! What only the userspace mode has.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::objects::{Svc, vip};
use crate::traffic::{SILENCE, becomes, works};
use crate::world::{From, GUARD, Mode, World, cluster_address};
use crate::{Once, PerMode};

pub(crate) const TESTS: &[PerMode] = &[
    ("restart-serves-again", restart),
    ("repairs-flushed-rules", flushed),
    ("cleanup", cleanup),
    ("input-policy-drop", input_drop),
    ("source-ranges-hold-at-the-listening-port", past_the_ranges),
    ("bind-address", bind_address),
    ("metrics", metrics),
];

pub(crate) const ONCE: &[Once] = &[
    ("userspace/refuses-loopback", refuses_loopback),
    ("userspace/to-and-from-iptables", to_and_from_iptables),
];

/// Tests of all modes that are about what the kernel keeps when the process ends: here connections, UDP sessions and affinity end with it.
pub(crate) const NOT_HERE: &[&str] = &[
    "life/restart-after-sigterm",
    "life/restart-after-sigkill",
    "life/affinity-sticks",
    "conntrack/right-flows-stay",
];

const CLIENT: From = From::Pod("client");

/// Listening ports stay the same, so rules and UDP flows of before are right at once.
fn restart(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    let service = Svc::new("web", 1).load_balancer().external_local();
    world.serve(&service, &["local-1"])?;
    world.serve(&Svc::new("dns", 2).udp().node_port(), &["local-1"])?;
    world.settle()?;
    let rules = |world: &World| -> anyhow::Result<Vec<String>> {
        Ok([world.rules(mode, IpFamily::V4)?, world.rules(mode, IpFamily::V6)?].concat())
    };
    let before = rules(&world)?;
    ensure!(before.iter().any(|rule| rule.contains("REDIRECT")), "no rules: {before:#?}");
    let mut flow = world.probe(CLIENT).udp_flow(cluster_address(2, IpFamily::V4))?;
    flow.ping().answer()?;
    world.stop()?;
    ensure!(rules(&world)? == before, "stopping changed the rules");
    world.start()?;
    let after = rules(&world)?;
    ensure!(after == before, "{after:#?}\ninstead of {before:#?}");
    eventually(GUARD, || flow.ping().answer());
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    Ok(())
}

fn flushed(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let guarded = json!(["192.0.2.0/24", "2001:db8::/64"]);
    let service =
        Svc::new("web", 1).load_balancer().with("/spec/loadBalancerSourceRanges", guarded);
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let before = world.rules(mode, family)?;
        let chains = [
            ("nat", "KUBE-PORTALS-CONTAINER"),
            ("nat", "KUBE-PORTALS-HOST"),
            ("nat", "KUBE-NODEPORT-CONTAINER"),
            ("nat", "KUBE-NODEPORT-HOST"),
            ("filter", "KUBE-NODEPORT-NON-LOCAL"),
            ("filter", "KUBE-USERSPACE-FIREWALL"),
        ];
        let program = mode.program(family, "");
        let is_repaired = |what: &str| {
            eventually(GUARD, || {
                let now = world.rules(mode, family)?;
                ensure!(now == before, "{what}: {now:#?}\ninstead of {before:#?}");
                Ok(())
            });
        };
        for (table, chain) in chains {
            let start = format!("{table} -A {chain} ");
            ensure!(before.iter().any(|rule| rule.starts_with(&start)), "{table} {chain} is empty");
            world.on_node(&program, &["-t", table, "-F", chain])?;
            is_repaired(chain);
        }
        for table in ["nat", "filter"] {
            world.on_node(&program, &["-t", table, "-F"])?;
            world.on_node(&program, &["-t", table, "-X"])?;
            is_repaired(table);
        }
        works(world.probe(From::Outside), world.node_port(1, family));
    }
    Ok(())
}

fn cleanup(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::new(mode)?;
    world.serve(&Svc::new("web", 1).load_balancer(), &["local-1"])?;
    world.settle()?;
    world.stop()?;
    for family in IpFamily::BOTH {
        let rules = world.rules(mode, family)?;
        ensure!(rules.iter().any(|rule| rule.contains("KUBE-PORTALS-HOST")), "{rules:#?}");
    }
    let command = world.command()?;
    let mut arguments: Vec<&str> = command.get_args().filter_map(|a| a.to_str()).collect();
    arguments.push("--cleanup");
    for _ in 0..2 {
        world.on_node(&command.get_program().to_string_lossy(), &arguments)?;
        for family in IpFamily::BOTH {
            let rules = world.rules(mode, family)?;
            let left: Vec<_> = rules.iter().filter(|rule| rule.contains("KUBE-")).collect();
            ensure!(left.is_empty(), "left behind: {left:#?}");
        }
    }
    Ok(())
}

/// Where the node drops what is sent to it, services work all the same, and nothing else does.
fn input_drop(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    for family in IpFamily::BOTH {
        let program = mode.program(family, "");
        for rule in [
            "-A INPUT -i lo -j ACCEPT",
            "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            "-A INPUT -p ipv6-icmp -j ACCEPT",
            "-P INPUT DROP",
        ] {
            if family == IpFamily::V6 || !rule.contains("icmp") {
                world.on_node(&program, &rule.split(' ').collect::<Vec<_>>())?;
            }
        }
    }
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
        let port = listening_port(&world, mode, family, "default/web:p")?;
        let direct = SocketAddr::new(world.cluster.node(0).ip(family), port);
        let outcome = world.probe(From::Outside).timeout(SILENCE).tcp(direct);
        ensure!(outcome.is_timed_out(), "{family}: {outcome} at the listening port");
    }
    Ok(())
}

/// The port that rules with this comment lead to.
fn listening_port(
    world: &World,
    mode: Mode,
    family: IpFamily,
    comment: &str,
) -> anyhow::Result<u16> {
    let rules = world.rules(mode, family)?;
    let rule = rules
        .iter()
        .find(|rule| rule.contains(comment) && rule.contains("--to-ports"))
        .with_context(|| format!("no rule of {comment} in {rules:#?}"))?;
    let port = rule.split("--to-ports ").nth(1).context("a port")?;
    Ok(port.trim().parse()?)
}

/// Who may not use the load balancer's address does not get there through the port behind it.
fn past_the_ranges(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    let nobody = json!(["192.0.2.0/24", "2001:db8:192::/64"]);
    let service = Svc::new("web", 1).load_balancer().with("/spec/loadBalancerSourceRanges", nobody);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let port = listening_port(&world, mode, family, "default/web:p")?;
        let direct = SocketAddr::new(world.cluster.node(0).ip(family), port);
        for to in [direct, SocketAddr::new(vip(1, family), 80)] {
            let outcome = world.probe(From::Outside).timeout(SILENCE).tcp(to);
            ensure!(outcome.is_timed_out(), "{to}: {outcome}");
        }
        works(world.probe(From::Outside), world.node_port(1, family));
    }
    Ok(())
}

/// With an address to listen on, traffic is sent there.
fn bind_address(mode: Mode) -> anyhow::Result<()> {
    let mut world = World::without_proxy(mode, &[])?;
    let ip = world.cluster.node(0).ip(IpFamily::V4);
    let mut command = world.command()?;
    command.arg(format!("--bind-address={ip}"));
    world.start_without_waiting(command)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    for family in IpFamily::BOTH {
        becomes(world.probe(CLIENT), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Node), cluster_address(1, family), "local-1");
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    let rules = world.rules(mode, IpFamily::V4)?;
    let target = format!("DNAT --to-destination {ip}:");
    ensure!(rules.iter().any(|rule| rule.contains(&target)), "{rules:#?}");
    ensure!(!rules.iter().any(|rule| rule.contains("REDIRECT")), "{rules:#?}");
    Ok(())
}

fn metrics(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    world.settle()?;
    // Nothing listens there.
    let service = Svc::new("dead", 2);
    world.apply([service.object()])?;
    world.apply(service.slices(9, &world.endpoints(&["local-1"])))?;
    world.settle()?;
    let _open = world.probe(CLIENT).connect(cluster_address(1, IpFamily::V4))?;
    let outcome = world.probe(CLIENT).tcp(cluster_address(2, IpFamily::V4));
    ensure!(outcome.to_string().contains("reset"), "{outcome}");
    eventually(GUARD, || {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 10_249));
        let text = world.cluster.node(0).probe().http_get(loopback, "/metrics")?.body;
        for line in [
            "kubeproxy_userspace_open_connections{ip_family=\"IPv4\",service=\"default/web:p\",protocol=\"TCP\"} 1",
            "kubeproxy_userspace_dial_failures_total{ip_family=\"IPv4\",service=\"default/dead:p\",protocol=\"TCP\"} 4",
        ] {
            ensure!(text.lines().any(|other| other == line), "no {line} in:\n{text}");
        }
        Ok(())
    });
    Ok(())
}

fn refuses_loopback() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Userspace, &["--bind-address=127.0.0.1"])?;
    world.start_without_waiting(world.command()?)?;
    let status = world.proxy_mut().wait(GUARD)?;
    let lines = world.proxy().lines();
    ensure!(status.code() == Some(1), "{status}");
    let last = lines.last().context("a last line")?;
    ensure!(last.contains("cannot listen on 127.0.0.1"), "{last}");
    Ok(())
}

/// After a change of mode what the former one left goes, and nothing of the new one.
fn to_and_from_iptables() -> anyhow::Result<()> {
    let mut world = World::new(Mode::IptablesNft)?;
    let nobody = json!(["192.0.2.0/24", "2001:db8:192::/64"]);
    let service = Svc::new("web", 1).load_balancer().with("/spec/loadBalancerSourceRanges", nobody);
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    let modes = [
        (Mode::Userspace, "KUBE-SVC-", "KUBE-PORTALS-HOST"),
        (Mode::IptablesNft, "KUBE-PORTALS-HOST", "KUBE-SVC-"),
    ];
    for (mode, gone, there) in modes {
        world.stop()?;
        world.use_mode(mode);
        world.start()?;
        for family in IpFamily::BOTH {
            world.proxy().wait_for_line(GUARD, |line| {
                line.contains("removed what mode") && line.contains(&family.to_string())
            })?;
            let rules = world.rules(mode, family)?;
            let has = |text: &str| rules.iter().any(|rule| rule.contains(text));
            ensure!(has(there) && !has(gone), "{mode}: {rules:#?}");
        }
        world.settle()?;
        for family in IpFamily::BOTH {
            works(world.probe(From::Outside), world.node_port(1, family));
            let to = SocketAddr::new(vip(1, family), 80);
            let outcome = world.probe(From::Outside).timeout(SILENCE).tcp(to);
            ensure!(outcome.is_timed_out(), "{mode}, {to}: {outcome}");
        }
        let repaired =
            world.proxy().lines().into_iter().find(|line| line.contains("writing them again"));
        ensure!(repaired.is_none(), "{mode}: {repaired:?}");
    }
    Ok(())
}
