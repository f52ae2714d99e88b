//! What is counted of attempts to connect that no endpoint gets, by reason.

use std::collections::BTreeMap;

use anyhow::ensure;
use kube_proxy_core::{IpFamily, NoLocalEndpoints, RefusedReason, TrafficPolicy};
use kube_proxy_testkit::cluster::plan;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{SILENCE, Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("refused::by_reason", by_reason),
        trial("refused::counts_continue", counts_continue),
        trial("refused::off", off),
    ]
}

/// Without endpoints.
const NONE: Svc = Svc(1);
/// Internal policy `Local`, its endpoint is elsewhere.
const INTERNAL: Svc = Svc(2);
/// External policy `Local`, its endpoint is elsewhere.
const EXTERNAL: Svc = Svc(3);
/// With source ranges.
const RANGES: Svc = Svc(4);

fn world(counts: bool) -> anyhow::Result<World> {
    let pods = [(0, "a"), (0, "other"), (1, "far")];
    let mut world = World::with(&pods, |config| config.count_refused = counts)?;
    world.set(NONE.everything());
    let mut internal = INTERNAL.cluster_ip_only();
    internal.policy.internal_traffic_policy = TrafficPolicy::Local;
    world.set(internal);
    world.endpoints(INTERNAL, &["far"]);
    set_external(&mut world, NoLocalEndpoints::Drop);
    world.endpoints(EXTERNAL, &["far"]);
    let mut ranges = RANGES.everything();
    let inside = plan::pod_net(0);
    ranges.policy.load_balancer_source_ranges = vec![inside.v4, inside.v6];
    world.set(ranges);
    world.endpoints(RANGES, &["a"]);
    Ok(world)
}

fn set_external(world: &mut World, action: NoLocalEndpoints) {
    let mut external = EXTERNAL.everything();
    external.policy.external_traffic_policy = TrafficPolicy::Local;
    external.policy.no_local_endpoints = Some(action);
    world.set(external);
}

/// The attempts over TCP that were counted, without those that were not.
fn counted(
    world: &mut World,
    family: IpFamily,
) -> anyhow::Result<BTreeMap<(u8, RefusedReason), u64>> {
    let mut counted = BTreeMap::new();
    for refused in world.refused(family)? {
        let number = refused.service.service.name.trim_start_matches("svc-").parse()?;
        if &*refused.service.port == "tcp" && refused.attempts > 0 {
            counted.insert((number, refused.reason), refused.attempts);
        }
    }
    Ok(counted)
}

/// An attempt that is refused at once is one packet.
fn refuse(world: &World, family: IpFamily) -> anyhow::Result<()> {
    let client = world.cluster.client().probe();
    for to in [NONE.cluster_ip(family), NONE.external_ip(family), NONE.node_port(family)] {
        ensure!(client.tcp(to).is_refused(), "{to}");
    }
    let node = world.cluster.node(0).probe();
    ensure!(node.tcp(NONE.cluster_ip(family)).is_refused(), "the node");
    Ok(())
}

/// One that is dropped is a packet or more: a client that waits sends it again.
fn drop_some(world: &World, family: IpFamily) -> anyhow::Result<()> {
    let client = world.cluster.client().probe().timeout(SILENCE);
    let to = [INTERNAL.cluster_ip(family), RANGES.vip(family)];
    for to in to.into_iter().chain(EXTERNAL.external(family)) {
        let outcome = client.tcp(to);
        ensure!(!outcome.is_answer() && !outcome.is_refused(), "{to}: {outcome}");
    }
    // What gets through is not counted.
    world.pod("other").probe().tcp(RANGES.vip(family)).answer()?;
    world.pod("other").probe().tcp(EXTERNAL.vip(family)).answer()?;
    client.tcp(RANGES.node_port(family)).answer()?;
    Ok(())
}

fn ensure_counted(world: &mut World, family: IpFamily, times: u64) -> anyhow::Result<()> {
    let counted = counted(world, family)?;
    let least = BTreeMap::from([
        ((NONE.0, RefusedReason::NoEndpoints), 4 * times),
        ((INTERNAL.0, RefusedReason::InternalPolicy), times),
        ((EXTERNAL.0, RefusedReason::ExternalPolicy), 3 * times),
        ((RANGES.0, RefusedReason::SourceRanges), times),
    ]);
    let same = counted.keys().eq(least.keys());
    ensure!(same && counted.iter().all(|(key, count)| *count >= least[key]), "{counted:?}");
    let none = counted[&(NONE.0, RefusedReason::NoEndpoints)];
    ensure!(none == 4 * times, "{family}: {none} refused, not {}", 4 * times);
    Ok(())
}

fn by_reason() -> anyhow::Result<()> {
    let mut world = world(true)?;
    world.sync()?;
    for family in IpFamily::BOTH {
        // Service ports that may refuse are there from the start, at zero.
        let zero = world.refused(family)?;
        let reasons =
            |svc: Svc| zero.iter().filter(|refused| refused.service.service == svc.name()).count();
        ensure!([NONE, INTERNAL, EXTERNAL, RANGES].map(reasons) == [2; 4], "{zero:?}");
        refuse(&world, family)?;
        drop_some(&world, family)?;
        ensure_counted(&mut world, family, 1)?;
        // Read again, nothing is counted twice.
        ensure_counted(&mut world, family, 1)?;
    }
    Ok(())
}

/// Over changes of what becomes of the packets, of endpoints, full syncs and restarts; nothing is read just before.
fn counts_continue() -> anyhow::Result<()> {
    let mut world = world(true)?;
    world.sync()?;
    for family in IpFamily::BOTH {
        refuse(&world, family)?;
        drop_some(&world, family)?;
    }
    set_external(&mut world, NoLocalEndpoints::Reject);
    world.endpoints(NONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        ensure_counted(&mut world, family, 1)?;
        let before = counted(&mut world, family)?;
        let client = world.cluster.client().probe();
        client.tcp(NONE.cluster_ip(family)).answer()?;
        ensure!(client.tcp(EXTERNAL.vip(family)).is_refused());
        let after = counted(&mut world, family)?;
        let key = (EXTERNAL.0, RefusedReason::ExternalPolicy);
        ensure!(after[&key] == before[&key] + 1, "{before:?}, then {after:?}");
    }
    world.endpoints(NONE, &[]);
    world.sync()?;
    for family in IpFamily::BOTH {
        refuse(&world, family)?;
    }
    // A full sync that finds the element of another owner of the frontend.
    world.endpoints(NONE, &["a"]);
    world.full_sync()?;
    for family in IpFamily::BOTH {
        let counted = counted(&mut world, family)?;
        ensure!(counted[&(NONE.0, RefusedReason::NoEndpoints)] == 8, "{family}: {counted:?}");
    }
    // The elements of a service port that goes take its numbers with them.
    world.apply(&kube_proxy_core::Event::ServiceDeleted(NONE.name()));
    world.sync()?;
    // What the kernel counts survives a restart, as the elements stay.
    world.restart()?;
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        let counted = counted(&mut world, family)?;
        let keys: Vec<_> = counted.keys().copied().collect();
        let left = [
            (INTERNAL.0, RefusedReason::InternalPolicy),
            (EXTERNAL.0, RefusedReason::ExternalPolicy),
            (RANGES.0, RefusedReason::SourceRanges),
        ];
        ensure!(keys == left, "{family}: {counted:?}");
    }
    Ok(())
}

/// Where nothing is counted there is no map for it, and the packets fare as well; the switch costs one transaction.
fn off() -> anyhow::Result<()> {
    let mut counting = world(true)?;
    let with = counting.sync()?;
    drop(counting);
    let mut world = world(false)?;
    let without = world.sync()?;
    for family in IpFamily::BOTH {
        let (with, without) = (with.get(family), without.get(family));
        // The map, its elements, and the message that has them.
        let more = (with.elements - without.elements, with.messages - without.messages);
        ensure!(more == (2, 2), "{with:?}, {without:?}");
        drop_some(&world, family)?;
        ensure!(world.refused(family)?.is_empty());
        ensure!(!has_map(&world, family)?);
    }
    for counts in [true, false] {
        world.restart_with(|config| config.count_refused = counts)?;
        let last = world.sync()?;
        for family in IpFamily::BOTH {
            ensure!(last.get(family).transactions == 1, "{last:?}");
            ensure!(has_map(&world, family)? == counts);
            ensure!(world.intact(family)?);
            let differences = world.compare(family)?;
            ensure!(differences.is_empty(), "{differences:?}");
            drop_some(&world, family)?;
            ensure!(counted(&mut world, family)?.is_empty() != counts);
        }
        ensure_nothing_sent(world.full_sync()?)?;
    }
    Ok(())
}

fn has_map(world: &World, family: IpFamily) -> anyhow::Result<bool> {
    let table = if family == IpFamily::V4 { "ip" } else { "ip6" };
    Ok(world.nft(&format!("list table {table} kube-proxy"))?.contains("map firewall-dropped"))
}
