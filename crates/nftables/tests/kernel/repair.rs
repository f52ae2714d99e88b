//! What is sent, and what happens when others change the ruleset.

use anyhow::{Context as _, ensure};
use kube_proxy_core::{Event, IpFamily, PerFamily, TrafficPolicy};
use kube_proxy_nftables::LastSync;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{Svc, World, ensure_nothing_sent};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("sync::twice_sends_nothing", twice_sends_nothing),
        trial("sync::restart_sends_nothing", restart_sends_nothing),
        trial("sync::restart_sends_the_difference", restart_sends_the_difference),
        trial("sync::what_was_read_ahead_is_not_read_again", read_ahead),
        trial("sync::what_was_read_ahead_and_changed_is_read_again", read_ahead_and_changed),
        trial("sync::one_endpoint_sends_few_elements", one_endpoint_sends_few_elements),
        trial("sync::partial_equals_full", partial_equals_full),
        trial("sync::random_changes", random_changes),
        trial("sync::connections_are_counted", connections_are_counted),
        trial("sync::refused_transaction_names_the_object", refused_names_the_object),
        trial("repair::flushed_ruleset", flushed_ruleset),
        trial("repair::every_kind_of_damage", every_kind_of_damage),
        trial("repair::changes_of_others_are_none_of_ours", changes_of_others),
        trial("repair::table_of_another_layout", table_of_another_layout),
        trial("repair::cleanup", cleanup),
    ]
}

const ONE: Svc = Svc(1);
const TWO: Svc = Svc(2);
const THREE: Svc = Svc(3);

/// Services of all kinds.
pub(crate) fn world() -> anyhow::Result<World> {
    let mut world = World::new(&[(0, "a"), (0, "b"), (1, "c"), (1, "d")])?;
    world.set(ONE.everything());
    let mut two = TWO.everything();
    two.policy.external_traffic_policy = TrafficPolicy::Local;
    two.policy.session_affinity = Some(std::time::Duration::from_mins(10));
    two.policy.load_balancer_source_ranges = vec!["10.0.0.0/8".parse()?, "fd00::/16".parse()?];
    world.set(two);
    world.set(THREE.everything());
    world.endpoints(ONE, &["a", "b", "c"]);
    world.endpoints(TWO, &["a", "c"]);
    world.sync()?;
    Ok(world)
}

fn twice_sends_nothing() -> anyhow::Result<()> {
    let mut world = world()?;
    ensure_nothing_sent(world.full_sync()?)?;
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
    }
    Ok(())
}

fn restart_sends_nothing() -> anyhow::Result<()> {
    let mut world = world()?;
    // Slots are as history has left them, not in order.
    world.endpoints(ONE, &["b", "c"]);
    world.sync()?;
    world.endpoints(ONE, &["a", "b", "c", "d"]);
    world.sync()?;
    world.endpoints(ONE, &["a", "c", "d"]);
    world.sync()?;
    let before = world.ruleset()?;
    world.restart()?;
    let last = world.sync()?;
    // The chains for 2 and 4 endpoints have no user any more and are deleted now; no element is touched.
    for family in IpFamily::BOTH {
        ensure!(last.get(family).elements == 0, "{last:?}");
    }
    world.restart()?;
    ensure_nothing_sent(world.sync()?)?;
    let elements = |text: &str| {
        text.lines().filter(|l| l.contains(" : ")).map(str::to_owned).collect::<Vec<_>>()
    };
    ensure!(elements(&before) == elements(&world.ruleset()?));
    Ok(())
}

fn restart_sends_the_difference() -> anyhow::Result<()> {
    let mut world = world()?;
    world.restart()?;
    world.endpoints(THREE, &["d"]);
    let last = world.sync()?;
    for family in IpFamily::BOTH {
        // Per protocol: 4 rejected frontends go, 4 with one endpoint each come.
        let LastSync { elements, transactions, .. } = *last.get(family);
        ensure!(elements == 2 * (4 + 4 + 4) && transactions == 1, "{last:?}");
    }
    ensure_nothing_sent(world.full_sync()?)
}

fn read_ahead() -> anyhow::Result<()> {
    let mut world = world()?;
    world.restart()?;
    world.read_ahead();
    ensure_nothing_sent(world.sync()?)?;
    for family in IpFamily::BOTH {
        ensure!(world.reads(family) == 1, "{family}: {} times", world.reads(family));
        ensure!(world.intact(family)?);
    }
    // It serves the first sync only.
    ensure_nothing_sent(world.full_sync()?)?;
    ensure!(world.reads(IpFamily::V4) == 2);
    Ok(())
}

fn read_ahead_and_changed() -> anyhow::Result<()> {
    let mut world = world()?;
    let before = world.ruleset()?;
    world.restart()?;
    world.read_ahead();
    world.nft("flush map ip kube-proxy frontend-ips")?;
    let last = world.sync()?;
    ensure!(last.get(IpFamily::V4).elements > 0, "{last:?}");
    ensure!(world.reads(IpFamily::V4) == 2);
    ensure!(before == world.ruleset()?);
    Ok(())
}

fn one_endpoint_sends_few_elements() -> anyhow::Result<()> {
    let mut world = World::new(&[(1, "a"), (1, "b"), (1, "c"), (1, "d")])?;
    for number in 1..=100 {
        world.set(Svc(number).cluster_ip_only());
        world.endpoints(Svc(number), &["a", "b", "c"]);
    }
    world.sync()?;
    let counted = |last: PerFamily<LastSync>, elements: usize| {
        for family in IpFamily::BOTH {
            let last = *last.get(family);
            ensure!(last.elements == elements && last.transactions == 1, "{last:?}");
        }
        Ok(())
    };
    // Per protocol: the slot, and the frontend to another chain: one out, one in.
    world.endpoints(Svc(50), &["a", "b", "c", "d"]);
    counted(world.sync()?, 2 * 3)?;
    // The last slot moves into the hole: two out, one in; and the frontend.
    world.endpoints(Svc(50), &["b", "c", "d"]);
    counted(world.sync()?, 2 * 5)?;
    // One for another: one slot changes.
    world.endpoints(Svc(50), &["b", "c", "a"]);
    counted(world.sync()?, 2 * 2)?;
    // Nothing that matters.
    world.endpoints(Svc(50), &["c", "b", "a"]);
    ensure_nothing_sent(world.sync()?)
}

fn partial_equals_full() -> anyhow::Result<()> {
    let mut world = world()?;
    let mut one = ONE.everything();
    one.policy.internal_traffic_policy = TrafficPolicy::Local;
    one.external_ips.clear();
    world.set(one);
    world.endpoints(TWO, &["b", "d", "c"]);
    world.endpoints(THREE, &["a"]);
    world.sync()?;
    world.endpoints(THREE, &[]);
    world.apply(&Event::ServiceDeleted(ONE.name()));
    world.sync()?;
    // Reads all of it back, and finds nothing but chains without users.
    let last = world.full_sync()?;
    for family in IpFamily::BOTH {
        ensure!(last.get(family).elements == 0, "{last:?}");
    }
    ensure_nothing_sent(world.full_sync()?)
}

fn refused_names_the_object() -> anyhow::Result<()> {
    let mut world = world()?;
    let key = format!("{} . tcp . 80", ONE.cluster_ip(IpFamily::V4).ip());
    world.nft(&format!("delete element ip kube-proxy frontend-ips {{ {key} }}"))?;
    world.apply(&Event::ServiceDeleted(ONE.name()));
    let error = world.sync().map(|_| ()).expect_err("the element is gone");
    let text = format!("{error:#}");
    for part in
        ["delete element 0a60000106", "from set frontend-ips in table ip kube-proxy", "ENOENT"]
    {
        ensure!(text.contains(part), "{text}");
    }
    // The next sync is full, and repairs.
    world.full_sync()?;
    ensure_nothing_sent(world.full_sync()?)
}

fn flushed_ruleset() -> anyhow::Result<()> {
    let mut world = world()?;
    let before = world.ruleset()?;
    world.nft("flush ruleset")?;
    for family in IpFamily::BOTH {
        ensure!(!world.intact(family)?);
    }
    world.full_sync()?;
    ensure!(world.ruleset()? == before, "{}", world.ruleset()?);
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
        world.cluster.client().probe().tcp(ONE.cluster_ip(family)).answer()?;
    }
    Ok(())
}

fn every_kind_of_damage() -> anyhow::Result<()> {
    let mut world = world()?;
    let before = world.ruleset()?;
    for damage in damages() {
        if damage.starts_with("delete chain") {
            world.nft("flush chain ip kube-proxy filter-forward")?;
        }
        world.nft(&damage)?;
        ensure!(world.ruleset()? != before, "no damage: {damage}");
        let hidden = is_of_elements(&damage) && !sizes_are_told()?;
        ensure!(hidden || !world.intact(IpFamily::V4)?, "not seen: {damage}");
        ensure!(world.intact(IpFamily::V6)?, "nothing happened to the other family: {damage}");
        world.full_sync()?;
        let after = world.ruleset()?;
        ensure!(after == before, "not repaired: {damage}:\n{after}\nbefore:\n{before}");
        ensure!(world.intact(IpFamily::V4)?, "{damage}");
    }
    Ok(())
}

/// What others do to the IPv4 table of [`world`], as arguments of `nft`.
pub(crate) fn damages() -> Vec<String> {
    let cluster_ip = ONE.cluster_ip(IpFamily::V4).ip();
    vec![
        "delete table ip kube-proxy".to_owned(),
        "flush table ip kube-proxy".to_owned(),
        "add table ip kube-proxy { flags dormant ; }".to_owned(),
        "chain ip kube-proxy filter-forward { policy drop ; }".to_owned(),
        "flush chain ip kube-proxy services".to_owned(),
        "flush chain ip kube-proxy cluster-3".to_owned(),
        "insert rule ip kube-proxy services drop".to_owned(),
        "add chain ip kube-proxy foreign".to_owned(),
        "add set ip kube-proxy foreign { type ipv4_addr ; }".to_owned(),
        "delete chain ip kube-proxy filter-forward".to_owned(),
        "flush map ip kube-proxy frontend-ips".to_owned(),
        format!("delete element ip kube-proxy frontend-ips {{ {cluster_ip} . tcp . 80 }}"),
        "add element ip kube-proxy cluster-ips { 10.96.3.3 }".to_owned(),
        "flush set ip kube-proxy firewall-sources".to_owned(),
        "flush set ip kube-proxy hairpin-connections".to_owned(),
    ]
}

/// What only the sizes of sets show, to those who are not told of changes.
fn is_of_elements(damage: &str) -> bool {
    ["flush map", "flush set", "delete element", "add element"]
        .iter()
        .any(|start| damage.starts_with(start))
}

/// Whether the kernel reports how many elements a set has: from Linux 6.17 on.
fn sizes_are_told() -> anyhow::Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    Ok((numbers.next(), numbers.next()) >= (Some(6), Some(17)))
}

fn changes_of_others() -> anyhow::Result<()> {
    let mut world = world()?;
    world.nft("add table ip other")?;
    world.nft("add chain ip other c { type filter hook input priority 0 ; }")?;
    for family in IpFamily::BOTH {
        ensure!(world.intact(family)?);
        ensure!(world.intact(family)?);
    }
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    world.full_sync()?;
    ensure_nothing_sent(world.full_sync()?)?;
    ensure!(world.ruleset()?.contains("table ip other"));
    Ok(())
}

fn table_of_another_layout() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "b"), (1, "c")])?;
    world.nft("add table ip kube-proxy { comment \"rules for kube-proxy\" ; }")?;
    world.nft("add chain ip kube-proxy service-ABC")?;
    world.nft("add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; }")?;
    world
        .nft("add element ip kube-proxy service-ips { 10.96.0.9 . tcp . 80 : goto service-ABC }")?;
    world.set(ONE.everything());
    world.endpoints(ONE, &["a", "b", "c"]);
    let last = world.sync()?;
    ensure!(last.v4.transactions == 1, "replaced at once: {last:?}");
    let after = world.ruleset()?;
    ensure!(!after.contains("service-ABC"), "{after}");
    for family in IpFamily::BOTH {
        world.cluster.client().probe().tcp(ONE.cluster_ip(family)).answer()?;
    }
    ensure_nothing_sent(world.full_sync()?)
}

fn cleanup() -> anyhow::Result<()> {
    let mut world = world()?;
    world.nft("add table ip other")?;
    world.remove()?;
    ensure!(world.ruleset()?.replace('}', "").trim() == "table ip other {", "{}", world.ruleset()?);
    world.remove()?;
    // And it can continue.
    world.full_sync()?;
    world.cluster.client().probe().tcp(ONE.cluster_ip(IpFamily::V6)).answer()?;
    Ok(())
}

/// Random changes, synced one after the other, leave what a fresh build would have made.
fn random_changes() -> anyhow::Result<()> {
    const PODS: [&str; 4] = ["a", "b", "c", "d"];
    let mut world = World::new(&[(0, "a"), (0, "b"), (1, "c"), (1, "d")])?;
    world.sync()?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..150 {
        for _ in 0..3 {
            // Xorshift: the same numbers each time.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            change(&mut world, random, &PODS)?;
        }
        world.sync().with_context(|| format!("round {round}"))?;
        for family in IpFamily::BOTH {
            ensure!(world.intact(family)?, "round {round}");
        }
    }
    let last = world.full_sync()?;
    for family in IpFamily::BOTH {
        ensure!(last.get(family).elements == 0 && last.get(family).chains == 0, "{last:?}");
    }
    Ok(())
}

pub(crate) fn change(world: &mut World, random: u64, pods: &[&str]) -> anyhow::Result<()> {
    let bit = |index: u32| random >> index & 1 == 1;
    let svc = Svc(u8::try_from(random >> 40 & 7)?);
    let policy = |local| if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
    match random >> 50 & 3 {
        0 if bit(20) => world.apply(&Event::ServiceDeleted(svc.name())),
        0 | 1 => {
            let mut service = if bit(1) { svc.everything() } else { svc.cluster_ip_only() };
            service.policy.internal_traffic_policy = policy(bit(2));
            service.policy.external_traffic_policy = policy(bit(3));
            service.policy.session_affinity = bit(4).then_some(std::time::Duration::from_mins(1));
            if bit(5) {
                service.policy.load_balancer_source_ranges =
                    ["10.0.0.0/8", "10.1.0.0/16", "fd00::/16"]
                        .map(|net| net.parse().expect("a network"))
                        .into();
            }
            if bit(6) {
                // Addresses that another one claims too.
                service.load_balancer_vips = Svc(1).everything().load_balancer_vips;
            }
            world.set(service);
        }
        _ => {
            let some: Vec<_> = (10..).zip(pods).filter(|(n, _)| bit(*n)).map(|(_, p)| *p).collect();
            world.endpoints(svc, &some);
        }
    }
    Ok(())
}

fn connections_are_counted() -> anyhow::Result<()> {
    let mut world = world()?;
    for family in IpFamily::BOTH {
        let client = world.cluster.client().probe();
        client.spread(ONE.cluster_ip(family), 5);
        client.spread(ONE.node_port(family), 3);
        // Traffic from a pod takes the short way to the same service.
        client.spread(TWO.node_port(family), 2);
        world.pod("b").probe().spread(TWO.external_ip(family), 4);
        ensure_counts(&mut world, family, [8, 6])?;
    }
    // Fewer endpoints lead to another chain, and connections that nothing read meanwhile count too.
    for family in IpFamily::BOTH {
        world.cluster.client().probe().spread(ONE.cluster_ip(family), 2);
    }
    world.endpoints(ONE, &["a"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        ensure_counts(&mut world, family, [10, 6])?;
        world.cluster.client().probe().spread(ONE.node_port(family), 3);
        ensure_counts(&mut world, family, [13, 6])?;
    }
    // No endpoints and some again.
    world.endpoints(ONE, &[]);
    world.sync()?;
    for family in IpFamily::BOTH {
        ensure_counts(&mut world, family, [13, 6])?;
    }
    world.endpoints(ONE, &["a", "b"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        world.cluster.client().probe().spread(ONE.cluster_ip(family), 1);
        ensure_counts(&mut world, family, [14, 6])?;
    }
    // Written again by the work of another program, and by a full sync.
    world.nft("flush ruleset")?;
    ensure!(!world.intact(IpFamily::V4)? && !world.intact(IpFamily::V6)?, "flushed");
    world.full_sync()?;
    for family in IpFamily::BOTH {
        world.cluster.client().probe().spread(ONE.cluster_ip(family), 2);
        ensure_counts(&mut world, family, [16, 6])?;
    }
    Ok(())
}

fn ensure_counts(world: &mut World, family: IpFamily, expected: [u64; 2]) -> anyhow::Result<()> {
    let counts: Vec<_> = world
        .traffic(family)?
        .into_iter()
        .map(|traffic| (traffic.service.to_string(), traffic.connections))
        .filter(|(_, connections)| *connections > 0)
        .collect();
    let [one, two] = expected;
    let expected = [("test/svc-1:tcp".to_owned(), one), ("test/svc-2:tcp".to_owned(), two)];
    ensure!(counts == expected, "{family}: {counts:?}, not {expected:?}");
    Ok(())
}
