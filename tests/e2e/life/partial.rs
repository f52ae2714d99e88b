//! What a sync after one change writes.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;

use crate::objects::{Svc, cluster_ip};
use crate::traffic::SILENCE;
use crate::world::{GUARD, Mode, TARGET, World};

/// One endpoint more costs the same, whether the cluster has 10 services or hundreds.
pub(super) fn costs_the_change(mode: Mode) -> anyhow::Result<()> {
    let world = World::new(mode)?;
    fill(&world, 0..10)?;
    world.settle()?;
    let few = written_for_one_endpoint(&world)?;
    fill(&world, 10..large(mode)?)?;
    world.settle()?;
    let many = written_for_one_endpoint(&world)?;
    ensure!(few == many, "{few} rules with 10 services, {many} with many");
    ensure!(few <= 10, "{few} rules for one endpoint");
    Ok(())
}

/// How many services there are in the end.
///
/// Without full privileges the kernel takes no large transaction from the nft programs, which cannot enlarge their send buffer then.
fn large(mode: Mode) -> anyhow::Result<u16> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let privileged = map.split_whitespace().last() == Some("4294967295");
    Ok(if privileged || mode != Mode::IptablesNft { 300 } else { 60 })
}

/// Services with addresses of their own, past those of [`Svc`].
fn fill(world: &World, numbers: std::ops::Range<u16>) -> anyhow::Result<()> {
    for number in numbers {
        let ips = IpFamily::BOTH.map(|family| match cluster_ip(0, family) {
            IpAddr::V4(ip) => {
                IpAddr::from((u32::from(ip) + 1024 + u32::from(number)).to_be_bytes())
            }
            IpAddr::V6(ip) => {
                IpAddr::from((u128::from(ip) + 1024 + u128::from(number)).to_be_bytes())
            }
        });
        let ips = ips.map(|ip| ip.to_string());
        let service = Svc::new(&format!("many-{number}"), 0)
            .with("/spec/clusterIP", ips[0].clone())
            .with("/spec/clusterIPs", ips.to_vec());
        world.serve(&service, &["local-1", "remote-1"])?;
    }
    Ok(())
}

/// Adds an endpoint to a Service in one family, and returns how many rules the sync wrote.
fn written_for_one_endpoint(world: &World) -> anyhow::Result<usize> {
    let service = Svc::new("many-5", 0);
    let slice = |pods: &[&str]| service.slice(IpFamily::V4, "", TARGET, &world.endpoints(pods));
    world.apply([slice(&["local-1", "remote-1"])])?;
    world.settle()?;
    // The log line of a sync comes a little later than its rules.
    std::thread::sleep(SILENCE);
    let before = world.proxy().lines().len();
    world.apply([slice(&["local-1", "local-2", "remote-1"])])?;
    let (_, line) = world.proxy().wait_for_line_after(before, GUARD, |line| {
        line.contains("sync took") && line.contains("IPv4")
    })?;
    ensure!(line.contains("partial"), "not a partial sync: {line}");
    written(&line).with_context(|| format!("no rule counts in {line:?}"))
}

/// Sums up `rules="filter 1 of 20, nat 4 of 100"`.
fn written(line: &str) -> Option<usize> {
    let rules = line.split_once("rules=")?.1.trim_start_matches('"').split('"').next()?;
    rules.split(", ").map(|count| count.split(' ').nth(1)?.parse::<usize>().ok()).sum()
}
