//! What becomes of events, and what they tell of a server that cannot listen.

use std::net::TcpListener;

use anyhow::{Context as _, ensure};
use fake_apiserver::{Failure, Verb};
use kube_proxy_testkit::eventually::eventually;
use serde_json::{Value, json};

use super::{HEALTH, METRICS, health_ports, loopback};
use crate::objects::Svc;
use crate::world::{GUARD, Mode, NODE, World};

/// An event with this reason, of the API group that people read.
pub(crate) fn event(world: &World, reason: &str) -> anyhow::Result<Value> {
    events(world, reason)?.pop().with_context(|| format!("no event {reason}"))
}

/// All events with this reason.
pub(crate) fn events(world: &World, reason: &str) -> anyhow::Result<Vec<Value>> {
    let address = world.api.address();
    let probe = world.cluster.node(0).probe();
    let list = probe.http_get(address, "/apis/events.k8s.io/v1/events")?;
    let list: Value = serde_json::from_str(&list.body)?;
    let items = list["items"].as_array().context("a list")?;
    Ok(items.iter().filter(|event| event["reason"] == json!(reason)).cloned().collect())
}

/// With hard failing on, the process ends, and an event says why.
pub(super) fn hard_fail() -> anyhow::Result<()> {
    for (port, reason) in
        [(HEALTH, "FailedToStartProxierHealthcheck"), (METRICS, "FailedToStartMetricServer")]
    {
        let flags = ["--bind-address-hard-fail", "--healthz-bind-address=127.0.0.1:10256"];
        let mut world = World::without_proxy(Mode::IptablesNft, &flags)?;
        let _holder = world.cluster.node(0).netns().run(|| TcpListener::bind(loopback(port)))?;
        world.start_without_waiting(world.command()?)?;
        let status = world.proxy_mut().wait(GUARD)?;
        let lines = world.proxy().lines();
        ensure!(status.code() == Some(1), "{status}:\n{}", lines.join("\n"));
        let last = lines.last().context("a last line")?;
        let address = loopback(port).to_string();
        ensure!(last.starts_with("kube-proxy: ") && last.contains(&address), "{last}");
        let event = event(&world, reason)?;
        let regarding = json!({ "apiVersion": "v1", "kind": "Node", "name": NODE });
        ensure!(event["regarding"] == regarding, "{event}");
        ensure!(event["type"] == json!("Warning"), "{event}");
        let note = event["note"].as_str().unwrap_or_default();
        ensure!(note.contains(&address), "{event}");
    }
    Ok(())
}

/// An API server that takes no events hurts nothing: rules are written, the process stays, and the log says it once.
pub(super) fn do_not_arrive() -> anyhow::Result<()> {
    let flags = ["-v=4", "--nodeport-addresses=127.0.0.0/8"];
    let mut world = World::without_proxy(Mode::IptablesNft, &flags)?;
    // Each start has two events: one of itself, one of a port that another program holds.
    let holder = |port| world.cluster.node(0).netns().run(|| TcpListener::bind(loopback(port)));
    let _holder = holder(health_ports::PORT)?;
    world.serve(&health_ports::service(), &["local-1"])?;
    for failure in [Failure::new(403), Failure::new(500), Failure::unanswered()] {
        let failure = failure.times(u32::MAX).verb(Verb::Create).resource("events");
        world.api.faults().fail(failure.clone());
        world.start()?;
        world.serve(&Svc::new("before", 2), &["local-1"])?;
        world.settle()?;
        let proxy = world.proxy();
        proxy.wait_for_line(GUARD, |line| line.contains("dropped an event, "))?;
        world.serve(&Svc::new("after", 3), &["local-1"])?;
        world.settle()?;
        ensure!(world.proxy_mut().is_running(), "{failure:?}: the process ended");
        let lines = world.proxy().lines();
        let said = lines.iter().filter(|line| line.contains("events do not reach")).count();
        ensure!(said == 1, "{failure:?}: said {said} times:\n{}", lines.join("\n"));
        world.api.faults().clear_failures();
    }
    world.start()?;
    eventually(GUARD, || event(&world, "FailedToStartServiceHealthcheck"));
    Ok(())
}
