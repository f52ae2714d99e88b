//! Nothing runs on half dead: a panic of any part ends the process.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};
use kube_proxy_testkit::eventually::eventually;
use serde_json::json;

use crate::Once;
use crate::objects::Svc;
use crate::world::{GUARD, Mode, World};

pub(crate) const TESTS: &[Once] = &[("panics/any-part-ends-the-process", any_part)];

/// A part by the name that a panic reports, and what brings it to run.
struct Part {
    name: &'static str,
    /// Where the panic is said to be.
    reported: &'static str,
    trigger: fn(&World) -> anyhow::Result<()>,
}

const fn part(name: &'static str) -> Part {
    Part { name, reported: name, trigger: |_| Ok(()) }
}

const PARTS: &[Part] = &[
    part("conntrack settings"),
    part("OOM score"),
    part("events"),
    part("source"),
    part("health server"),
    part("metrics server"),
    part("start"),
    part("node"),
    part("families"),
    part("backends"),
    part("node changes"),
    part("supervisor"),
    part("health-check node ports"),
    part("configuration file"),
    part("sync-IPv4"),
    part("sync-IPv6"),
    part("leftovers-IPv4"),
    part("addresses"),
    part("health-check node port"),
    Part {
        name: "connection",
        reported: "connection",
        trigger: |world| {
            ask(world, "/healthz");
            Ok(())
        },
    },
    Part {
        name: "CPU profile",
        reported: "CPU profile",
        trigger: |world| {
            ask(world, "/debug/pprof/profile?seconds=1");
            Ok(())
        },
    },
    // A thread of a library.
    Part { name: "waker", reported: "watch-IPv", trigger: damage },
];

/// Asks the metrics server, without waiting for an answer.
fn ask(world: &World, path: &str) {
    let to = SocketAddr::from(([127, 0, 0, 1], 10_249));
    eventually(GUARD, || {
        let mut stream = world.cluster.node(0).netns().run(|| TcpStream::connect(to))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").as_bytes())?;
        anyhow::Ok(())
    });
}

/// Touches the tables of the proxy once they are there.
fn damage(world: &World) -> anyhow::Result<()> {
    world.wait_until_synced()?;
    for family in ["ip", "ip6"] {
        // The table of the other family may not be there yet.
        let _ = world.on_node("nft", &["add", "chain", family, "kube-proxy", "foreign"]);
    }
    Ok(())
}

fn any_part() -> anyhow::Result<()> {
    let flags = ["--nodeport-addresses=127.0.0.0/8", "--profiling"];
    let mut world = World::without_proxy(Mode::Nftables, &flags)?;
    let service = Svc::new("web", 1).load_balancer().external_local();
    world.serve(&service.with("/spec/healthCheckNodePort", json!(32_100)), &["local-1"])?;
    for part in PARTS {
        let mut command = world.command()?;
        command.env("KUBE_PROXY_TEST_PANIC", part.name);
        world.start_without_waiting(command)?;
        (part.trigger)(&world)?;
        let status = world.proxy_mut().wait(GUARD).with_context(|| part.name.to_owned())?;
        let lines = world.proxy().lines();
        let text = lines.join("\n");
        ensure!(status.code() == Some(1), "{}: {status}:\n{text}", part.name);
        let reports: Vec<_> = lines.iter().filter(|line| line.contains(" panicked at ")).collect();
        ensure!(!reports.is_empty(), "{}: no report in:\n{text}", part.name);
        let named = format!("\"{}", part.reported);
        ensure!(reports.iter().all(|line| line.contains(&named)), "{}: {reports:?}", part.name);
    }
    Ok(())
}
