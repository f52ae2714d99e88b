//! `--cleanup` of all modes at once; what it does in one mode is in `life/cleanup.rs`.

use anyhow::ensure;
use kube_proxy_core::IpFamily;

use crate::Once;
use crate::objects::Svc;
use crate::switch::{left_by, load_go_table};
use crate::takeover;
use crate::world::{Mode, World, binary};

pub(crate) const TESTS: &[Once] = &[
    ("cleanup/all-modes", all_modes),
    ("cleanup/ipvs-mode-whatever-the-kernel-has", ipvs_mode),
    ("cleanup/names-what-it-cannot-remove", names_failures),
];

/// What others have on a node beside kube-proxy, as commands.
const FOREIGN: &[&str] = &[
    "nft add table ip kube-proxy-like",
    "nft add chain ip kube-proxy-like c { type nat hook prerouting priority -100; }",
    "nft add table inet filter",
    "iptables-legacy -t nat -N FOREIGN",
    "iptables-legacy -t nat -A PREROUTING -j FOREIGN",
    "iptables-nft -t filter -N FOREIGN",
    "iptables-nft -t filter -A FORWARD -m comment --comment KUBE -j FOREIGN",
    "ip link add foreign0 type bridge",
];

/// What is on the node in all tables and families, without counters.
fn everything(world: &World) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for mode in [Mode::IptablesLegacy, Mode::IptablesNft] {
        for family in IpFamily::BOTH {
            lines.extend(world.rules(mode, family)?);
        }
    }
    lines.extend(
        world.on_node("nft", &["--stateless", "list", "ruleset"])?.lines().map(str::to_owned),
    );
    lines.extend(world.on_node("ip", &["-brief", "address"])?.lines().map(str::to_owned));
    Ok(lines)
}

fn leave_everything(world: &World) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        takeover::load(world, Mode::IptablesLegacy, family)?;
        takeover::load(world, Mode::IptablesNft, family)?;
    }
    load_go_table(world)
}

fn all_modes() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    for command in FOREIGN {
        let words: Vec<&str> = command.split(' ').collect();
        world.on_node(words[0], &words[1..])?;
    }
    for family in IpFamily::BOTH {
        for mode in [Mode::IptablesLegacy, Mode::IptablesNft] {
            // Tables and the kernel's own chains come into being when a program lists them.
            // The chain that is the kubelet's as well stays.
            for rule in [
                "-t mangle -S",
                "-t nat -P PREROUTING ACCEPT",
                "-t nat -P POSTROUTING ACCEPT",
                "-t nat -P OUTPUT ACCEPT",
                "-N KUBE-FIREWALL",
                "-A INPUT -j KUBE-FIREWALL",
                "-A OUTPUT -j KUBE-FIREWALL",
                "-P FORWARD ACCEPT",
            ] {
                world.on_node(&mode.program(family, ""), &rule.split(' ').collect::<Vec<_>>())?;
            }
        }
    }
    let before = everything(&world)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    leave_everything(&world)?;
    ensure!(everything(&world)?.len() > before.len() + 50, "there is something to remove");
    for run in 1..=2 {
        cleanup(&world)?;
        let after: Vec<String> = everything(&world)?;
        let added: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
        let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
        ensure!(added.is_empty() && lost.is_empty(), "run {run}: left {added:#?}, lost {lost:#?}");
    }
    Ok(())
}

/// Without any capability nothing can be removed: every mode is named, the exit code is 1, and with them all of it goes.
fn names_failures() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    leave_everything(&world)?;
    let mut command = world.cluster.node(0).netns().command("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(binary()?).arg("--cleanup");
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}:\n{text}", output.status);
    for mode in ["iptables", "nftables"] {
        for family in IpFamily::BOTH {
            let named = format!("mode {mode}, {family}: ");
            ensure!(text.contains(&named), "no {named:?} in:\n{text}");
        }
    }
    cleanup(&world)?;
    for mode in Mode::ALL {
        let left = left_by(&world, mode)?;
        ensure!(left.is_empty(), "{mode}: {left:#?}");
    }
    Ok(())
}

fn cleanup(world: &World) -> anyhow::Result<()> {
    world.on_node(&binary()?.to_string_lossy(), &["--cleanup"])?;
    Ok(())
}

/// What the ipvs mode left is removed on a kernel that has no IPVS any more: sets, rules that use them, the interface.
fn ipvs_mode() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::Nftables, &[])?;
    for command in [
        "ipset create KUBE-CLUSTER-IP hash:ip,port",
        "ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6",
        "ipset create FOREIGN hash:ip,port",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        world.on_node(words[0], &words[1..])?;
    }
    // Not every kernel has such interfaces.
    if world.on_node("ip", &["link", "add", "kube-ipvs0", "type", "dummy"]).is_ok() {
        for address in ["10.96.0.1/32", "fd00:10:96::1/128"] {
            world.on_node("ip", &["addr", "add", address, "dev", "kube-ipvs0"])?;
        }
    }
    for (family, set) in IpFamily::BOTH.into_iter().zip(["KUBE-CLUSTER-IP", "KUBE-6-CLUSTER-IP"]) {
        let rule = format!("-A KUBE-IPVS-FILTER -m set --match-set {set} dst,dst -j RETURN");
        for mode in [Mode::IptablesLegacy, Mode::IptablesNft] {
            for rule in ["-N KUBE-IPVS-FILTER", "-I INPUT -j KUBE-IPVS-FILTER", &rule] {
                world.on_node(&mode.program(family, ""), &rule.split(' ').collect::<Vec<_>>())?;
            }
        }
    }
    cleanup(&world)?;
    let left = left_by(&world, Mode::Ipvs)?;
    ensure!(left.is_empty(), "{left:#?}");
    for family in IpFamily::BOTH {
        let rules = world.rules(Mode::IptablesNft, family)?;
        let ours: Vec<_> = rules.iter().filter(|rule| rule.contains("KUBE-IPVS")).collect();
        ensure!(ours.is_empty(), "{ours:#?}");
    }
    ensure!(
        world.on_node("ipset", &["list", "-n"])?.contains("FOREIGN"),
        "a set of others is gone"
    );
    Ok(())
}
