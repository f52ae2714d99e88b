//! `kube-proxy trace`: real packets, step by step, and nothing left behind.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::KubeProxy;
use serde_json::Value;

use crate::PerMode;
use crate::check::ask;
use crate::objects::Svc;
use crate::world::{From, GUARD, Mode, TARGET, World, binary, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("trace/real-packet-to-its-endpoint", to_endpoint),
    ("trace/refused-packet-is-named", refused),
    ("trace/killed-leaves-nothing", killed),
];

fn world(mode: Mode) -> anyhow::Result<World> {
    let world = World::new(mode)?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    world.serve(&Svc::new("nobody", 3), &[])?;
    world.settle()?;
    Ok(world)
}

/// Whether the rules of this mode are in `nf_tables`; otherwise checks that the command says in a sentence why it cannot help.
fn can_trace(world: &World, mode: Mode) -> anyhow::Result<bool> {
    let sentence = match mode {
        Mode::Nftables | Mode::IptablesNft | Mode::Userspace => return Ok(true),
        Mode::IptablesLegacy => {
            "iptables mode with iptables-legacy: its rules are not in nf_tables"
        }
        Mode::Ipvs => "ipvs mode: IP virtual server chooses the endpoint",
    };
    let answer = ask(world, &["trace", "--to", "default/web"])?;
    // A kernel without nf_tables has no chains to list either.
    let none = answer.stderr.contains("packets cannot be traced");
    ensure!(
        answer.code == Some(1) && (none || answer.stderr.contains(sentence)),
        "{}",
        answer.stderr
    );
    Ok(false)
}

fn start(world: &World, arguments: &[&str]) -> anyhow::Result<KubeProxy> {
    let mut command = Command::new(binary()?);
    command.arg("trace").args(arguments);
    let tracer = KubeProxy::start(world.cluster.node(0).netns(), command)?;
    tracer.wait_for_line(GUARD, |line| line.contains("waiting for packets"))?;
    Ok(tracer)
}

fn packet(tracer: &KubeProxy) -> anyhow::Result<Value> {
    let line = tracer.wait_for_line(GUARD, |line| line.starts_with('{'))?;
    serde_json::from_str(&line).context(line)
}

fn has_table(world: &World) -> anyhow::Result<bool> {
    Ok(world.on_node("nft", &["list", "tables"])?.contains("kube-proxy-trace"))
}

fn to_endpoint(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    if !can_trace(&world, mode)? {
        return Ok(());
    }
    for family in IpFamily::BOTH {
        let to = cluster_address(1, family);
        let mut tracer = start(&world, &["--to", "default/web", "-o", "json"])?;
        world.probe(From::Pod("client")).tcp(to).answer()?;
        let packet = packet(&tracer)?;
        ensure!(packet["destination"] == to.to_string(), "{packet:#}");
        let client = world.pod("client").ip(family).to_string();
        ensure!(packet["source"].as_str().is_some_and(|s| s.contains(&client)), "{packet:#}");
        let endpoint = SocketAddr::new(world.pod("local-1").ip(family), TARGET);
        let sent = packet["sentTo"] == endpoint.to_string();
        // The userspace mode takes it itself.
        ensure!(sent || mode == Mode::Userspace, "{packet:#}");
        ensure!(packet["stoppedBy"].is_null(), "{packet:#}");
        let text = packet.to_string();
        let own = match mode {
            Mode::Nftables => "looks for the Service of this address",
            Mode::Userspace => "sends Service addresses to the ports of kube-proxy",
            _ => "default/web:p: picks one of its endpoints",
        };
        ensure!(text.contains(own), "{packet:#}");
        ensure!(tracer.wait(GUARD)?.success());
        ensure!(!has_table(&world)?, "the table is still there");
    }
    Ok(())
}

fn refused(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    if !can_trace(&world, mode)? {
        return Ok(());
    }
    let to = cluster_address(3, IpFamily::V4).to_string();
    let client = world.pod("client").ip(IpFamily::V4).to_string();
    let mut tracer = start(&world, &["--to", &to, "--from", &client])?;
    let outcome = world.probe(From::Pod("client")).tcp(cluster_address(3, IpFamily::V4));
    ensure!(!outcome.is_answer(), "{outcome}");
    let last = tracer.wait_for_line(GUARD, |line| line.starts_with("=> "))?;
    ensure!(last.starts_with("=> stopped by ip "), "{:#?}", tracer.lines());
    ensure!(last.contains("refuse"), "{:#?}", tracer.lines());
    ensure!(tracer.wait(GUARD)?.success());
    Ok(())
}

fn killed(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    if !can_trace(&world, mode)? {
        return Ok(());
    }
    let mut tracer = start(&world, &["--to", "default/web", "--count", "1000"])?;
    ensure!(has_table(&world)?);
    // A second one says who is in its way.
    let second = ask(&world, &["trace", "--to", "default/web"])?;
    ensure!(second.stderr.contains("another kube-proxy trace runs"), "{}", second.stderr);
    tracer.kill()?;
    eventually(GUARD, || {
        ensure!(!has_table(&world)?);
        Ok(())
    });
    let tracer = start(&world, &["--to", "default/web"])?;
    tracer.terminate()?;
    eventually(GUARD, || {
        ensure!(!has_table(&world)?);
        Ok(())
    });
    Ok(())
}
