//! The servers before the families run.

use anyhow::ensure;
use kube_proxy_testkit::eventually::eventually;
use serde_json::{Value, json};

use super::{HEALTH, METRICS, get};
use crate::objects::{Svc, node};
use crate::traffic::becomes;
use crate::world::{From, GUARD, Mode, NODE, World, cluster_address};
use kube_proxy_core::IpFamily;

/// Without an API server the ports are open, the log says what is waited for, and once the server comes services work.
pub(super) fn api_server_away() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    world.api.stop();
    world.start_without_waiting(world.command()?)?;
    for path in ["/healthz", "/livez"] {
        let answer = eventually(GUARD, || get(&world, HEALTH, path));
        ensure!(answer.status == 200, "{path}: {answer:?}");
        let body: Value = serde_json::from_str(&answer.body)?;
        for family in IpFamily::BOTH {
            let healthy = &body["status"][family.to_string()]["healthy"];
            ensure!(*healthy == json!(true), "{path}: {body}");
        }
    }
    let answer = get(&world, HEALTH, "/readyz")?;
    let body: Value = serde_json::from_str(&answer.body)?;
    ensure!(answer.status == 503 && body["ready"] == json!(false), "/readyz: {answer:?}");
    for family in IpFamily::BOTH {
        let written = &body["status"][family.to_string()]["written"];
        ensure!(*written == json!(false), "nothing was written: {body}");
    }
    let mode = eventually(GUARD, || get(&world, METRICS, "/proxyMode"));
    ensure!(mode.body == "nftables", "{mode:?}");
    let metrics = get(&world, METRICS, "/metrics")?;
    ensure!(metrics.body.contains("kubernetes_feature_enabled"), "{}", metrics.body);
    let named = ["waiting for the API server to list", "Services", "EndpointSlices"];
    world.proxy().wait_for_line(GUARD, |line| named.iter().all(|name| line.contains(name)))?;
    world.cluster.node(0).netns().run(|| world.api.resume())?;
    for family in IpFamily::BOTH {
        becomes(world.probe(From::Pod("client")), cluster_address(1, family), "local-1");
    }
    eventually(GUARD, || {
        let answer = get(&world, HEALTH, "/readyz")?;
        ensure!(answer.status == 200, "/readyz: {answer:?}");
        Ok(())
    });
    Ok(())
}

/// A node without an address keeps the families from starting for a while, and what else its Node says counts meanwhile.
pub(super) fn tainted_node() -> anyhow::Result<()> {
    let mut world = World::without_proxy(Mode::Nftables, &[])?;
    let mut object = node(NODE, 0, "zone-a");
    let addresses = object["status"]["addresses"].take();
    object["spec"]["taints"] =
        json!([{ "key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule" }]);
    world.apply([object.clone()])?;
    world.start_without_waiting(world.command()?)?;
    eventually(GUARD, || {
        let answer = get(&world, HEALTH, "/healthz")?;
        ensure!(
            answer.status == 503 && answer.body.contains("\"nodeEligible\":false"),
            "{answer:?}"
        );
        Ok(())
    });
    ensure!(get(&world, HEALTH, "/livez")?.status == 200, "/livez");
    world.proxy().wait_for_line(GUARD, |line| {
        line.contains(&format!("waiting for an address of Node {NODE:?}"))
    })?;
    object["status"]["addresses"] = addresses;
    world.apply([object])?;
    world.settle()
}
