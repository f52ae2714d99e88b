//! What is refused again and again goes deeper each time: one line of the log and one count of a metric for each level.

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_netlink::Family;
use kube_proxy_netlink::nf_tables::{MapData, NfTables, SetSpec, Transaction};
use kube_proxy_testkit::eventually::eventually;

use crate::Once;
use crate::objects::Svc;
use crate::servers::{METRICS, get};
use crate::world::{From, GUARD, Mode, World, cluster_address};

pub(crate) const TESTS: &[Once] = &[("repairs/a-line-and-a-count-for-each-level", levels)];

const TABLE: &str = "kube-proxy";

/// A set, the parts of its key, its data, and the chain whose rules refer to it.
type Shrunken = (&'static str, &'static [u32], Option<MapData>, &'static str);
const CLUSTER_IPS: Shrunken = ("cluster-ips", &[4], None, "cluster-ips-check");
const NO_ENDPOINTS: Shrunken =
    ("unserved-ips", &[4, 1, 2], Some(MapData::Verdict), "service-endpoints-check");

/// Makes sets again with room for one element, of which the proxy knows nothing, and empties the chains that refer to them.
fn shrink(world: &World, sets: &[Shrunken]) -> anyhow::Result<()> {
    world.cluster.node(0).netns().run(|| {
        let mut netlink = NfTables::open(Family::V4)?;
        let there = netlink.sets(TABLE)?;
        let mut transaction = Transaction::new(Family::V4, TABLE);
        for (name, key_parts, data, chain) in sets {
            let old = there.iter().find(|found| found.name == *name).context("no such set")?;
            transaction.flush_chain(chain)?;
            transaction.delete_set(name)?;
            transaction.add_set(&SetSpec {
                name,
                flags: old.flags,
                key_type: old.key_type,
                key_parts: key_parts.to_vec(),
                data: *data,
                size: Some(1),
                counter: data.is_some(),
                user_data: old.user_data.clone(),
            })?;
        }
        netlink.commit(&mut transaction)?;
        Ok(())
    })
}

/// Syncs of IPv4 that were repairs, by level: full, object, table.
fn counted(world: &World) -> anyhow::Result<[u64; 3]> {
    let text = get(world, METRICS, "/metrics")?.body;
    let mut counts = [0; 3];
    for (level, count) in ["full", "object", "table"].iter().zip(&mut counts) {
        let labels = ["ip_family=\"IPv4\"".to_owned(), format!("level=\"{level}\"")];
        let line = text.lines().find(|line| {
            line.starts_with("kubeproxy_sync_repairs_total{")
                && labels.iter().all(|label| line.contains(label))
        });
        let line = line.with_context(|| format!("no count of level {level}"))?;
        *count = line.rsplit(' ').next().unwrap_or_default().parse()?;
    }
    Ok(counts)
}

/// Lines of the log about repairs, by level.
fn logged(world: &World) -> [u64; 3] {
    let lines = world.proxy().lines();
    ["full", "object", "table"].map(|level| {
        let level = format!("level=\"{level}\"");
        let of_level = lines
            .iter()
            .filter(|line| line.contains("repair after a refused sync") && line.contains(&level));
        of_level.count() as u64
    })
}

fn levels() -> anyhow::Result<()> {
    let world = World::new(Mode::Nftables)?;
    for (name, number) in [("one", 1), ("two", 2)] {
        world.serve(&Svc::new(name, number), &["local-1"])?;
    }
    for (name, number) in [("three", 3), ("four", 4)] {
        world.apply([Svc::new(name, number).object()])?;
    }
    world.settle()?;
    ensure!(counted(&world)? == [0; 3] && logged(&world) == [0; 3]);
    // The sync that finds the damage is refused, so is the next, and the third writes the set again.
    // Of two sets the other is refused then, and the fourth writes everything again.
    let steps: [(&[Shrunken], [u64; 3]); 2] =
        [(&[CLUSTER_IPS], [1, 1, 0]), (&[CLUSTER_IPS, NO_ENDPOINTS], [2, 2, 1])];
    for (sets, expected) in steps {
        shrink(&world, sets)?;
        eventually(GUARD, || {
            let counts = counted(&world)?;
            ensure!(counts == expected, "{counts:?} repairs");
            anyhow::Ok(())
        });
        world.settle()?;
        let (counts, lines) = (counted(&world)?, logged(&world));
        ensure!(counts == expected && lines == expected, "{counts:?} counted, {lines:?} logged");
        for number in [1, 2] {
            let to = cluster_address(number, IpFamily::V4);
            world.check_pods(From::Pod("client"), to, &["local-1"])?;
        }
        for number in [3, 4] {
            let outcome =
                world.probe(From::Pod("client")).tcp(cluster_address(number, IpFamily::V4));
            ensure!(outcome.is_refused(), "a Service without endpoints: {outcome:?}");
        }
    }
    Ok(())
}
