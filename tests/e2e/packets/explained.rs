//! What the running proxy says about a packet is what the packet did.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::kube_proxy::METRICS;
use serde_json::Value;

use super::{Expect, Flow, Source};
use crate::world::{From, World};

/// Asks about a packet whose fate is known.
pub(super) fn check(
    world: &World,
    flow: Flow,
    expected: Expect,
    family: IpFamily,
) -> anyhow::Result<()> {
    let answer = ask(world, flow, family)?;
    let paths = answer["paths"].as_array().context("no paths")?;
    let [path] = &paths[..] else { bail!("not one path: {answer}") };
    let said = path["verdict"].as_str().unwrap_or_default();
    // What the proxy leaves alone is refused by the node at its own addresses, and led nowhere by the routes of this cluster at others.
    let fate = match (said, path["toNode"].as_bool()) {
        ("passed", Some(true)) => "refused",
        ("passed", _) => "dropped",
        (other, _) => other,
    };
    match expected {
        Expect::Refused => ensure!(fate == "refused", "explained as {said}, but refused: {path}"),
        Expect::Dropped => ensure!(fate == "dropped", "explained as {said}, but dropped: {path}"),
        Expect::Pods(pods, source) => {
            ensure!(fate == "endpoints", "explained as {said}, but answered: {path}");
            let used: Vec<_> = endpoints(path).filter(|e| e["unused"].is_null()).collect();
            let ips: BTreeSet<String> = used.iter().filter_map(|e| ip(e)).collect();
            let wanted = pods.iter().map(|pod| world.pod(pod).ip(family).to_string()).collect();
            ensure!(ips == wanted, "explained with endpoints {ips:?}, not {wanted:?}: {path}");
            let masqueraded = used.iter().all(|e| e["masqueraded"] == true);
            let kept = used.iter().all(|e| e["masqueraded"] == false);
            match source {
                Source::Any => {}
                Source::Kept => ensure!(kept, "explained as masqueraded, but kept: {path}"),
                Source::Masqueraded => {
                    ensure!(masqueraded, "explained as kept, but masqueraded: {path}");
                }
            }
        }
    }
    Ok(())
}

fn endpoints(path: &Value) -> impl Iterator<Item = &Value> {
    path["endpoints"].as_array().into_iter().flatten()
}

fn ip(endpoint: &Value) -> Option<String> {
    let address: std::net::SocketAddr = endpoint["address"].as_str()?.parse().ok()?;
    Some(address.ip().to_string())
}

fn ask(world: &World, flow: Flow, family: IpFamily) -> anyhow::Result<Value> {
    let from = match flow.from {
        From::Node => "node".to_owned(),
        From::Pod(pod) => world.pod(pod).ip(family).to_string(),
        From::Outside => client(family).to_string(),
    };
    let protocol = if flow.to.is_udp() { "udp" } else { "tcp" };
    let to = flow.to.address(family, world);
    let only = "onNode=none&connections=none";
    let path = format!("/debug/explain?from={from}&to={to}/{protocol}&{only}");
    let response = world.probe(From::Node).http_get(METRICS, &path)?;
    ensure!(response.status == 200, "{path}: {} {}", response.status, response.body);
    serde_json::from_str(&response.body).with_context(|| format!("{path}: {}", response.body))
}

fn client(family: IpFamily) -> IpAddr {
    *plan::client().get(family)
}
