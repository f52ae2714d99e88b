//! Rules that another program removed: a full sync writes all of them again, whatever the backend believes is there.

use anyhow::ensure;
use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_xtables::Variant;

use crate::Test;
use crate::world::{Options, World, address_of, service};

pub(crate) const TESTS: &[Test] =
    &[("damage/nft", || both(Variant::Nft)), ("damage/legacy", || both(Variant::Legacy))];

/// What another program does to the rules, as words for the program.
const DAMAGE: [&[&str]; 5] = [
    // Each chain alone, with the way there left in place.
    &["-t nat -F KUBE-PORTALS-CONTAINER"],
    &["-t nat -F KUBE-PORTALS-HOST", "-t filter -F KUBE-USERSPACE-FIREWALL"],
    // The ways there.
    &["-t nat -F PREROUTING", "-t filter -F INPUT"],
    // Everything of one table, with and without its chains.
    &["-t nat -F"],
    &["-t filter -F", "-t filter -X", "-t nat -F", "-t nat -X"],
];

fn both(variant: Variant) -> anyhow::Result<()> {
    IpFamily::BOTH.into_iter().try_for_each(|family| damaged(variant, family))
}

fn damaged(variant: Variant, family: IpFamily) -> anyhow::Result<()> {
    let mut world = World::new(Options { family, variant, ..Options::default() })?;
    for number in 1..=3 {
        let (service, _) = service(number, Protocol::Tcp);
        world.set(&service, &[address_of(1, family)]);
    }
    world.sync()?;
    let kind = if variant == Variant::Nft { "nft" } else { "legacy" };
    let program = if family == IpFamily::V4 { "iptables" } else { "ip6tables" };
    let program = format!("{program}-{kind}");
    let rules = |world: &World| -> anyhow::Result<Vec<String>> {
        let text = world.netns.output(&format!("{program}-save"), &[])?;
        let ours = text.lines().filter(|line| line.contains("KUBE-"));
        let mut ours: Vec<_> = ours.map(|line| line.replace("[0:0]", "")).collect();
        ours.sort_unstable();
        Ok(ours)
    };
    let right = rules(&world)?;
    ensure!(
        right.iter().filter(|rule| rule.contains("10.96.") || rule.contains("fd00:10:96:")).count()
            >= 6,
        "{right:#?}"
    );
    let found = world.compare()?;
    ensure!(found.is_empty(), "{found:#?}");
    for commands in DAMAGE {
        for command in commands {
            world.netns.output(&program, &command.split(' ').collect::<Vec<_>>())?;
        }
        let damaged = rules(&world)?;
        ensure!(damaged != right, "{commands:?} changed nothing");
        let found = world.compare()?;
        // The chains and rules that are gone, and nothing else; a comparison changes nothing.
        ensure!(!found.is_empty(), "{commands:?}");
        ensure!(found.iter().all(|line| line.starts_with("Missing ")), "{commands:?}: {found:#?}");
        ensure!(rules(&world)? == damaged, "{commands:?}");
        world.sync()?;
        let after = rules(&world)?;
        let missing: Vec<_> = right.iter().filter(|rule| !after.contains(rule)).collect();
        ensure!(
            after == right,
            "{commands:?}: missing {missing:#?} of {right:#?}, there is {after:#?}"
        );
        ensure!(world.is_intact()?, "{commands:?}");
    }
    Ok(())
}
