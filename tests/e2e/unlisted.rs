//! Tables of iptables-nft with a rule that another program wrote with `nft`: iptables-nft lists such a table no more.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;

use crate::Once;
use crate::objects::{Svc, node_port};
use crate::traffic::{SILENCE, becomes};
use crate::world::{From, GUARD, Mode, World, binary, cluster_address};

pub(crate) const TESTS: &[Once] = &[
    ("unlisted/switch-to-nftables", switch),
    ("unlisted/restart-adds-no-hook", restart),
    ("unlisted/cleanup", cleanup),
    ("unlisted/cleanup-names-table-and-reason", names_table_and_reason),
];

const TABLES: [(&str, &str); 2] = [("nat", "POSTROUTING"), ("filter", "FORWARD")];

fn nft_family(family: IpFamily) -> &'static str {
    if family == IpFamily::V4 { "ip" } else { "ip6" }
}

/// A set of another program and a rule that uses it, in both families.
fn add_foreign(world: &World, table: &str, chain: &str) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let name = nft_family(family);
        let kind = if family == IpFamily::V4 { "ipv4_addr" } else { "ipv6_addr" };
        nft(world, &format!("add set {name} {table} mine {{ type {kind}; }}"))?;
        let rest = if table == "nat" { "masquerade" } else { "ct mark 7 accept" };
        nft(world, &format!("add rule {name} {table} {chain} {name} saddr @mine {rest}"))?;
        let program = Mode::IptablesNft.program(family, "-save");
        let listed = world.on_node(&program, &["-t", table])?;
        ensure!(!listed.contains(&format!("*{table}")), "{program} still lists {table}: {listed}");
    }
    Ok(())
}

fn nft(world: &World, command: &str) -> anyhow::Result<String> {
    world.on_node("nft", &command.split(' ').collect::<Vec<_>>())
}

/// The foreign sets and rules that are there: two of each table.
fn foreign(world: &World) -> anyhow::Result<Vec<String>> {
    let ruleset = nft(world, "--handle list ruleset")?;
    let of_others = ruleset.lines().filter(|line| line.contains("mine"));
    Ok(of_others.map(|line| line.trim().to_owned()).collect())
}

/// Ours in tables of iptables-nft, but for what is the kubelet's as well.
fn left(world: &World) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    for family in IpFamily::BOTH {
        for (table, _) in TABLES {
            let listed = nft(world, &format!("list table {} {table}", nft_family(family)))?;
            let ours = listed
                .lines()
                .filter(|line| line.contains("KUBE-") && !line.contains("KUBE-FIREWALL"));
            left.extend(ours.map(|line| format!("{table}: {}", line.trim())));
        }
    }
    Ok(left)
}

/// Rules of the kernel's chains that lead to ours, with their handles.
fn hooks(world: &World) -> anyhow::Result<Vec<String>> {
    let mut hooks = Vec::new();
    for family in IpFamily::BOTH {
        for (table, _) in TABLES {
            let name = nft_family(family);
            let listed = nft(world, &format!("--handle --stateless list table {name} {table}"))?;
            let mut chain = "";
            for line in listed.lines().map(str::trim) {
                if let Some(start) = line.strip_prefix("chain ") {
                    chain = start.split(' ').next().unwrap_or_default();
                } else if line.contains("jump KUBE-") && !chain.starts_with("KUBE-") {
                    hooks.push(format!("{name} {table} {chain}: {line}"));
                }
            }
        }
    }
    Ok(hooks)
}

/// A deleted Service and an old node port no longer answer by rules that iptables-nft does not list; new ones do.
fn switch() -> anyhow::Result<()> {
    let mut world = World::new(Mode::IptablesNft)?;
    for service in [Svc::new("gone", 1), Svc::new("moved", 2), Svc::new("kept", 3)] {
        world.serve(&service.node_port(), &["local-1"])?;
    }
    world.settle()?;
    let (pod, outside) = (From::Pod("client"), From::Outside);
    let mut removed: Vec<(From, SocketAddr)> = Vec::new();
    let mut served: Vec<(From, SocketAddr)> = Vec::new();
    for family in IpFamily::BOTH {
        removed.push((pod, cluster_address(1, family)));
        removed.push((outside, world.node_port(1, family)));
        removed.push((outside, world.node_port(2, family)));
        served.push((pod, cluster_address(2, family)));
        served.push((outside, world.node_port(3, family)));
    }
    for (from, to) in removed.iter().chain(&served) {
        becomes(world.probe(*from), *to, "local-1");
    }
    for (table, chain) in TABLES {
        add_foreign(&world, table, chain)?;
    }
    let others = foreign(&world)?;
    world.stop()?;
    world.delete("Service", "gone")?;
    let moved = Svc::new("moved", 2).node_port().with("/spec/ports/0/nodePort", node_port(4));
    world.apply([moved.object()])?;
    for (from, to) in &removed {
        let outcome = world.probe(*from).tcp(*to);
        ensure!(outcome.is_answer(), "the old rules are there: {to} {outcome:?}");
    }
    world.use_mode(Mode::Nftables);
    world.start()?;
    eventually(GUARD, || {
        let left = left(&world)?;
        ensure!(left.is_empty(), "there are still {left:#?}");
        anyhow::Ok(())
    });
    for (from, to) in &removed {
        let outcome = world.probe(*from).timeout(SILENCE).tcp(*to);
        ensure!(!outcome.is_answer(), "{to} still answers: {outcome:?}");
    }
    for family in IpFamily::BOTH {
        served.push((outside, world.node_port(4, family)));
    }
    for (from, to) in &served {
        becomes(world.probe(*from), *to, "local-1");
    }
    ensure!(foreign(&world)? == others, "{:#?} instead of {others:#?}", foreign(&world)?);
    Ok(())
}

/// Every hook is there once, and is the one that was there: handles are not used twice.
fn restart() -> anyhow::Result<()> {
    let mut world = World::new(Mode::IptablesNft)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.settle()?;
    let there = hooks(&world)?;
    // As the table in docs/iptables.md has them, of both families.
    ensure!(there.len() == 2 * 14, "{there:#?}");
    for (table, chain) in TABLES {
        add_foreign(&world, table, chain)?;
        for signal in ["SIGTERM", "SIGKILL"] {
            if signal == "SIGTERM" {
                world.stop()?;
            }
            world.start()?;
            world.settle()?;
            let now = hooks(&world)?;
            ensure!(now == there, "{table}, {signal}: {now:#?} instead of {there:#?}");
        }
    }
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Outside), world.node_port(1, family), "local-1");
    }
    Ok(())
}

/// Ours goes, also from tables that are not listed; the foreign sets and rules stay, and the exit code is 0, each time.
fn cleanup() -> anyhow::Result<()> {
    let mut world = World::new(Mode::IptablesNft)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.settle()?;
    for (table, chain) in TABLES {
        add_foreign(&world, table, chain)?;
    }
    world.stop()?;
    let others = foreign(&world)?;
    ensure!(others.len() == 8, "{others:#?}");
    for _ in 0..2 {
        world.on_node(&binary()?.to_string_lossy(), &["--cleanup"])?;
        let left = left(&world)?;
        ensure!(left.is_empty(), "there are still {left:#?}");
        ensure!(foreign(&world)? == others, "{:#?} instead of {others:#?}", foreign(&world)?);
    }
    Ok(())
}

/// A table that only another process may write, and one that cannot be read: exit code 1, each is named with the reason,
/// and the rest goes all the same.
fn names_table_and_reason() -> anyhow::Result<()> {
    let world = World::without_proxy(Mode::IptablesNft, &[])?;
    let owner = Owner::of_filter_table(&world)?;
    world.on_node("iptables-nft", &["-t", "nat", "-N", "KUBE-SERVICES"])?;
    let text = failed_cleanup(&world, Command::new(binary()?))?;
    ensure!(named(&text, "IPv4", "table filter") && text.contains("not permitted"), "{text}");
    let rules = world.on_node("nft", &["list", "table", "ip", "nat"])?;
    ensure!(!rules.contains("KUBE-"), "a table behind the refused one was left: {rules}");
    drop(owner);
    let own =
        [("nat", "KUBE-SERVICES"), ("filter", "KUBE-FORWARD"), ("mangle", "KUBE-PROXY-CANARY")];
    for (table, chain) in own {
        world.on_node("iptables-nft", &["-t", table, "-N", chain])?;
    }
    let programs = tempfile::tempdir()?;
    let program = programs.path().join("iptables-nft-save");
    fs::write(&program, "#!/bin/sh\necho out of order >&2\nexit 1\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(binary()?);
    let path = std::env::var_os("PATH").context("a search path")?;
    let places = [programs.path().to_owned()].into_iter().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(places)?);
    let text = failed_cleanup(&world, command)?;
    for (table, _) in own {
        ensure!(named(&text, "IPv4", &format!("-t {table}")), "{table} is not named: {text}");
    }
    ensure!(text.contains("out of order"), "{text}");
    world.on_node(&binary()?.to_string_lossy(), &["--cleanup"])?;
    let rules = world.on_node("nft", &["list", "ruleset"])?;
    ensure!(!rules.contains("KUBE-"), "{rules}");
    Ok(())
}

/// Whether the line about what stayed of the iptables mode names this.
fn named(text: &str, family: &str, what: &str) -> bool {
    let start = format!("mode iptables, {family}: ");
    text.lines().any(|line| line.contains(&start) && line.contains(what))
}

/// What a cleanup said that has to end with exit code 1.
fn failed_cleanup(world: &World, mut command: Command) -> anyhow::Result<String> {
    command.arg("--cleanup");
    let output = world.cluster.node(0).netns().run(|| command.output())?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{}:\n{text}", output.status);
    Ok(text)
}

/// A process that owns a table with a chain of ours: the kernel lets no other program write it, and removes it with the process.
struct Owner(Child);

impl Owner {
    fn of_filter_table(world: &World) -> anyhow::Result<Self> {
        let mut command = world.cluster.node(0).netns().command("nft");
        let mut child = command.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut input = child.stdin.take().context("a pipe")?;
        let table = "table ip filter { flags owner; chain KUBE-SERVICES { accept; }; }";
        writeln!(input, "{table}")?;
        // Kept open: the process ends with its input.
        child.stdin = Some(input);
        let owner = Self(child);
        eventually(GUARD, || {
            let ruleset = nft(world, "list ruleset")?;
            ensure!(ruleset.contains("flags owner") && ruleset.contains("accept"), "{ruleset}");
            anyhow::Ok(())
        });
        Ok(owner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
