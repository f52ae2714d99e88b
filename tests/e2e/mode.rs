//! `--proxy-mode=auto`, and no mode at all.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::Once;
use crate::docker::Docker;
use crate::objects::Svc;
use crate::servers::event;
use crate::traffic::becomes;
use crate::world::{From, GUARD, Mode, NODE, World, binary, cluster_address};

pub(crate) const TESTS: &[Once] = &[
    ("mode/auto-on-a-fresh-node", fresh),
    ("mode/auto-beside-a-firewall", firewall),
    ("mode/auto-beside-docker", docker),
    ("mode/auto-keeps-what-is-there", keeps),
    ("mode/unset", unset),
];

fn begin() -> anyhow::Result<World> {
    let world = World::without_proxy(Mode::IptablesNft, &[])?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    Ok(world)
}

/// Starts with these flags only; what mode it is in once it serves.
fn start(world: &mut World, flags: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    command.args(flags);
    start_with(world, command)
}

/// The same with a command that lacks nothing but the source and the name of the node.
pub(crate) fn start_with(world: &mut World, mut command: Command) -> anyhow::Result<String> {
    command.args(&world.source).arg(format!("--hostname-override={NODE}"));
    world.start_without_waiting(command)?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-1");
    }
    // A process that was replaced may have left rules that answer: the port is that of the new one.
    let metrics = SocketAddr::from(([127, 0, 0, 1], 10_249));
    let answer =
        eventually(GUARD, || world.cluster.node(0).probe().http_get(metrics, "/proxyMode"));
    Ok(answer.body)
}

fn auto(world: &mut World, mode: &str, reason: &str) -> anyhow::Result<()> {
    let chosen = start(world, &["--proxy-mode=auto"])?;
    let lines = world.proxy().lines().join("\n");
    ensure!(chosen == mode, "{chosen}, not {mode}:\n{lines}");
    let said = lines.lines().filter(|line| line.contains("chose the proxy mode"));
    let said: Vec<_> = said.collect();
    ensure!(said.len() == 1 && said[0].contains(reason), "{said:?}, not {reason:?}");
    Ok(())
}

fn fresh() -> anyhow::Result<()> {
    auto(&mut begin()?, "nftables", "the kernel has what it needs")
}

fn firewall() -> anyhow::Result<()> {
    for program in ["iptables-nft", "ip6tables-legacy"] {
        let mut world = begin()?;
        world.on_node(program, &["-P", "FORWARD", "DROP"])?;
        // What a network plugin brings along on such a node.
        let nets = plan::cluster_net();
        let net = if program == "iptables-nft" { nets.v4 } else { nets.v6 }.to_string();
        for end in ["-s", "-d"] {
            world.on_node(program, &["-A", "FORWARD", end, &net, "-j", "ACCEPT"])?;
        }
        auto(
            &mut world,
            "iptables",
            &format!("FORWARD is DROP, and nftables mode opens no firewall ({program})"),
        )?;
    }
    Ok(())
}

/// Docker's policy is a firewall, whichever programs wrote it.
fn docker() -> anyhow::Result<()> {
    for variant in ["legacy", "nft"] {
        let mut world = begin()?;
        let _docker = Docker::start(&world, variant)?;
        auto(&mut world, "iptables", "FORWARD is DROP, and nftables mode opens no firewall")?;
    }
    Ok(())
}

/// Restarts do not change the mode, whatever else has changed on the node.
fn keeps() -> anyhow::Result<()> {
    let mut world = begin()?;
    start(&mut world, &["--proxy-mode=iptables", "--iptables-variant=nft"])?;
    auto(&mut world, "iptables", "its rules are on this node already")?;
    let mut world = begin()?;
    auto(&mut world, "nftables", "the kernel has what it needs")?;
    world.on_node("iptables-nft", &["-N", "FOREIGN"])?;
    world.on_node("iptables-nft", &["-A", "FORWARD", "-i", "unknown", "-j", "DROP"])?;
    auto(&mut world, "nftables", "its rules are on this node already")
}

/// iptables, and a warning in the log and in an event, which a mode that is named does not give.
fn unset() -> anyhow::Result<()> {
    let mut world = begin()?;
    ensure!(start(&mut world, &[])? == "iptables", "not the default");
    let expected = "from Kubernetes 1.40 on the default is nftables";
    world
        .proxy()
        .wait_for_line(GUARD, |line| line.contains(" WARN ") && line.contains(expected))?;
    eventually(GUARD, || {
        let event = event(&world, "ProxyModeUnset")?;
        ensure!(event["type"] == json!("Warning"), "{event}");
        ensure!(event["note"].as_str().is_some_and(|note| note.contains(expected)), "{event}");
        Ok(())
    });
    let mut world = begin()?;
    start(&mut world, &["--proxy-mode=iptables"])?;
    eventually(GUARD, || event(&world, "Starting"));
    let lines = world.proxy().lines().join("\n");
    ensure!(!lines.contains(expected) && event(&world, "ProxyModeUnset").is_err(), "{lines}");
    Ok(())
}
