//! `kube-proxy flows`: real connections by the names of their Services.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_testkit::kube_proxy::KubeProxy;
use serde_json::Value;

use crate::PerMode;
use crate::check::ask;
use crate::objects::Svc;
use crate::world::{From, GUARD, Mode, TARGET, World, binary, cluster_address};

pub(crate) const TESTS: &[PerMode] =
    &[("flows/lists-connections-by-service", lists), ("flows/follows-new-connections", follows)];

fn world(mode: Mode) -> anyhow::Result<World> {
    let world = World::new(mode)?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    world.serve(&Svc::new("other", 2), &["local-1"])?;
    world.settle()?;
    Ok(world)
}

/// Lines about connections from this address.
fn of_client(text: &str, client: SocketAddr) -> anyhow::Result<Vec<Value>> {
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let lines = lines.collect::<Result<Vec<_>, _>>().with_context(|| text.to_owned())?;
    Ok(lines.into_iter().filter(|line| line["client"] == client.to_string()).collect())
}

fn lists(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    for family in IpFamily::BOTH {
        let to = cluster_address(1, family);
        let connection = world.probe(From::Pod("client")).connect(to)?;
        let client = connection.local_address();
        eventually(GUARD, || {
            let answer = ask(&world, &["flows", "-o", "json", "--service", "default/web"])?;
            ensure!(answer.code == Some(0), "{}", answer.stderr);
            let lines = of_client(&answer.stdout, client)?;
            let [line] = &lines[..] else { anyhow::bail!("{lines:#?}") };
            ensure!(line["event"] == "exists" && line["protocol"] == "tcp", "{line:#}");
            ensure!(line["frontend"] == to.to_string() && line["answered"] == true, "{line:#}");
            ensure!(line["service"]["name"] == "web", "{line:#}");
            let endpoint = SocketAddr::new(world.pod("local-1").ip(family), TARGET);
            ensure!(
                mode == Mode::Userspace || line["endpoint"] == endpoint.to_string(),
                "{line:#}"
            );
            Ok(())
        });
        let none = ask(&world, &["flows", "-o", "json", "--service", "default/other"])?;
        ensure!(of_client(&none.stdout, client)?.is_empty(), "{}", none.stdout);
        let from = client.ip().to_string();
        let text = ask(&world, &["flows", "--from", &from])?.stdout;
        let line = text.lines().find(|line| line.contains(&format!("{client} -> default/web")));
        ensure!(line.is_some_and(|line| line.starts_with("exists")), "{text}");
        drop(connection);
    }
    Ok(())
}

fn follows(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode)?;
    let to = cluster_address(1, IpFamily::V4);
    let first = world.probe(From::Pod("client")).connect(to)?;
    let mut command = std::process::Command::new(binary()?);
    command.args(["flows", "--follow", "-o", "json", "--service", "web"]);
    let follower = KubeProxy::start(world.cluster.node(0).netns(), command)?;
    let wait = |event: &str, client: SocketAddr| {
        follower.wait_for_line(GUARD, |line| {
            let line = serde_json::from_str::<Value>(line).unwrap_or_default();
            line["event"] == event && line["client"] == client.to_string()
        })
    };
    // It listened before it listed.
    wait("exists", first.local_address())?;
    let second = world.probe(From::Pod("client")).connect(to)?;
    wait("began", second.local_address())?;
    wait("answered", second.local_address())?;
    Ok(())
}
