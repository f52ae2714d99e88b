//! What the comparison object by object names, and that it changes nothing.

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use libtest_mimic::Trial;

use crate::repair::{damages, world};
use crate::trial;
use crate::world::{Svc, TARGET};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("compare::names_each_damage_and_repairs_none", names_each_damage),
        trial("compare::names_the_element", names_the_element),
        trial("compare::follows_partial_syncs", follows_partial_syncs),
    ]
}

fn names_each_damage() -> anyhow::Result<()> {
    let mut world = world()?;
    ensure!(world.compare(IpFamily::V4)?.is_empty(), "{:?}", world.compare(IpFamily::V4)?);
    for damage in damages() {
        if damage.starts_with("delete chain") {
            world.nft("flush chain ip kube-proxy filter-forward")?;
        }
        world.nft(&damage)?;
        let damaged = world.ruleset()?;
        let found = world.compare(IpFamily::V4)?;
        ensure!(!found.is_empty(), "not seen: {damage}");
        ensure!(world.compare(IpFamily::V6)?.is_empty(), "the other family: {damage}");
        ensure!(world.ruleset()? == damaged, "it changed something: {damage}");
        world.full_sync()?;
        let after = world.compare(IpFamily::V4)?;
        ensure!(after.is_empty(), "{damage}: {after:?}");
    }
    Ok(())
}

fn names_the_element() -> anyhow::Result<()> {
    let mut world = world()?;
    let one = Svc(1).cluster_ip(IpFamily::V4).ip();
    world.nft(&format!("delete element ip kube-proxy frontend-ips {{ {one} . tcp . 80 }}"))?;
    world.nft("add element ip kube-proxy cluster-ips { 10.96.3.3 }")?;
    let endpoint = format!("cluster-endpoints {{ {one} . udp . 80 . 0 }}");
    world.nft(&format!("delete element ip kube-proxy {endpoint}"))?;
    let other = format!("{one} . udp . 80 . 0 : 10.9.9.9 . 99");
    world.nft(&format!("add element ip kube-proxy cluster-endpoints {{ {other} }}"))?;
    let found = world.compare(IpFamily::V4)?;
    ensure!(found.len() == 3, "{found:#?}");
    let has = |start: &str| found.iter().any(|line| line.starts_with(start));
    ensure!(
        has(&format!(
            "Missing element frontend-ips: {one} . tcp . 80 : goto masq-outside-cluster-3"
        )),
        "{found:#?}"
    );
    ensure!(has("Unexpected element cluster-ips: 10.96.3.3"), "{found:#?}");
    let start = format!("Different element cluster-endpoints: {one} . udp . 80 . 0 : ");
    let different = found.iter().find(|line| line.starts_with(&start));
    let different = different.map(String::as_str).unwrap_or_default();
    ensure!(different.contains(&format!(". {TARGET}")), "{found:#?}");
    ensure!(different.contains("there is") && different.contains("10.9.9.9 . 99"), "{found:#?}");
    Ok(())
}

/// Elements and chains that history left are no differences.
fn follows_partial_syncs() -> anyhow::Result<()> {
    let mut world = world()?;
    for endpoints in [&["b", "c"][..], &["a", "b", "c", "d"], &[], &["d"], &["a", "d"]] {
        world.endpoints(Svc(1), endpoints);
        world.sync()?;
        for family in IpFamily::BOTH {
            let found = world.compare(family)?;
            ensure!(found.is_empty(), "{endpoints:?}: {found:#?}");
        }
    }
    Ok(())
}
