//! Changes by others are noticed at once; what we do ourselves, and what others do elsewhere, is not worth a look.

use std::time::Duration;

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::eventually::eventually;
use libtest_mimic::Trial;

use crate::repair::{change, damages, world};
use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("notices::every_kind_of_damage", every_kind_of_damage),
        trial("notices::an_element_changed_or_moved", an_element_changed),
        trial("notices::own_changes_are_not_looked_at", own_changes),
        trial("notices::a_storm_elsewhere_costs_no_look", storm_elsewhere),
        trial("notices::large_transactions_are_not_listened_to", large_transactions),
    ]
}

const ONE: Svc = Svc(1);
/// Keeps a test from hanging.
const GUARD: Duration = Duration::from_mins(5);

/// The backend asks to be looked at, and the other family's does not; the look finds damage, without reading the table.
fn is_noticed(world: &mut World, before: usize, damage: &str) -> anyhow::Result<()> {
    eventually(GUARD, || {
        ensure!(world.wakes(IpFamily::V4) > before, "not noticed: {damage}");
        Ok(())
    });
    let looks = world.looks(IpFamily::V4);
    ensure!(!world.intact(IpFamily::V4)?, "not seen: {damage}");
    ensure!(world.looks(IpFamily::V4) == looks, "the notice says it all: {damage}");
    ensure!(world.wakes(IpFamily::V6) == 0 && world.intact(IpFamily::V6)?, "{damage}");
    Ok(())
}

fn every_kind_of_damage() -> anyhow::Result<()> {
    let mut world = world()?;
    let rules = world.ruleset()?;
    world.watch();
    let elements = [
        "delete element ip kube-proxy frontend-nodeports { tcp . 30001 }".to_owned(),
        "delete element ip kube-proxy hairpin-connections { 10.244.0.2 . 10.244.0.2 . tcp . 8080 }"
            .to_owned(),
    ];
    for damage in damages().into_iter().chain(elements) {
        if damage.starts_with("delete chain") {
            world.nft("flush chain ip kube-proxy filter-forward")?;
            ensure!(!world.intact(IpFamily::V4)?);
        }
        let before = world.wakes(IpFamily::V4);
        world.nft(&damage)?;
        is_noticed(&mut world, before, &damage)?;
        world.full_sync()?;
        ensure!(world.ruleset()? == rules, "not repaired: {damage}");
        ensure!(world.intact(IpFamily::V4)?, "{damage}");
    }
    Ok(())
}

/// Neither the number of elements nor any rule shows this.
fn an_element_changed() -> anyhow::Result<()> {
    let mut world = world()?;
    let rules = world.ruleset()?;
    world.watch();
    let ip = ONE.cluster_ip(IpFamily::V4).ip();
    let key = format!("{ip} . tcp . 80 . 0");
    let changes = [
        format!("add element ip kube-proxy cluster-endpoints {{ {key} : 192.0.2.1 . 1 }}"),
        format!(
            "add element ip kube-proxy cluster-endpoints {{ {ip} . tcp . 80 . 77 : 192.0.2.1 . 1 }}"
        ),
    ];
    for change in changes {
        let before = world.wakes(IpFamily::V4);
        world.nft(&format!(
            "delete element ip kube-proxy cluster-endpoints {{ {key} }} ; {change}"
        ))?;
        is_noticed(&mut world, before, &change)?;
        world.full_sync()?;
        ensure!(world.ruleset()? == rules, "not repaired: {change}");
    }
    Ok(())
}

fn own_changes() -> anyhow::Result<()> {
    const PODS: [&str; 4] = ["a", "b", "c", "d"];
    let mut world = world()?;
    world.watch();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..60 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        change(&mut world, random, &PODS)?;
        world.sync()?;
        if round % 20 == 0 {
            world.full_sync()?;
        }
        for family in IpFamily::BOTH {
            ensure!(world.intact(family)?, "round {round}");
        }
    }
    // A client that loses its session is no damage.
    world.nft("flush map ip kube-proxy client-affinity")?;
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
        let (wakes, looks) = (world.wakes(family), world.looks(family));
        ensure!((wakes, looks) == (0, 0), "{family}: {wakes} wakes, {looks} looks");
    }
    Ok(())
}

fn storm_elsewhere() -> anyhow::Result<()> {
    let mut world = world()?;
    world.watch();
    let mut storm = String::from("add table ip kube-proxy-not ; add table inet kube-proxy ;");
    storm += "add set inet kube-proxy s { type ipv4_addr ; } ;";
    world.nft(&storm)?;
    for round in 0..100 {
        let elements = (0..200).map(|n| format!("10.0.{round}.{n}")).collect::<Vec<_>>().join(",");
        world.nft(&format!("add element inet kube-proxy s {{ {elements} }}"))?;
        world.nft(&format!("add chain ip kube-proxy-not c{round}"))?;
    }
    world.nft("delete table inet kube-proxy")?;
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
        let (wakes, looks) = (world.wakes(family), world.looks(family));
        ensure!((wakes, looks) == (0, 0), "{family}: {wakes} wakes, {looks} looks");
    }
    // And after it, damage is noticed as before.
    world.nft("flush chain ip kube-proxy services")?;
    is_noticed(&mut world, 0, "flush chain")
}

/// After a transaction so large that nothing listens to it, changes by others are noticed again.
fn large_transactions() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (1, "b")])?;
    world.watch();
    for number in 1..=250 {
        world.set(Svc(number).everything());
        world.endpoints(Svc(number), &["a", "b"]);
    }
    let elements = world.sync()?.v4.elements;
    ensure!(elements > 5_000, "{elements} are not many");
    ensure_nothing_sent(world.full_sync()?)?;
    let before = world.wakes(IpFamily::V4);
    world.nft("delete element ip kube-proxy frontend-ips { 10.96.0.7 . tcp . 80 }")?;
    eventually(GUARD, || {
        ensure!(world.wakes(IpFamily::V4) > before, "not noticed");
        Ok(())
    });
    ensure!(!world.intact(IpFamily::V4)?);
    ensure!(world.full_sync()?.v4.elements == 1);
    Ok(())
}
