//! Session affinity.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kube_proxy_core::{Conditions, Event, IpFamily, Service, TrafficPolicy};
use kube_proxy_testkit::pod::Serve;
use kube_proxy_testkit::probe::Probe;
use libtest_mimic::Trial;

use crate::trial;
use crate::world::{SILENCE, Svc, TARGET, World, ensure_nothing_sent};

/// Keeps a test from hanging.
const GUARD: Duration = Duration::from_mins(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("affinity::client_stays", client_stays),
        trial("affinity::one_session_for_all_frontends", one_session),
        trial("affinity::local_policy_keeps_to_this_node", local_policy),
        trial("affinity::repeated_first_packets_remember_nothing", repeated_packets),
        trial("affinity::survives_a_damaged_table", survives_damage),
        trial("affinity::ends_and_is_refreshed", ends_and_is_refreshed),
        trial("affinity::survives_restart", survives_restart),
        trial("affinity::ends_with_its_endpoint", ends_with_its_endpoint),
        trial("affinity::ends_if_it_began_after_the_table_was_read", began_after_the_reading),
        trial("affinity::ends_with_the_policy", ends_with_the_policy),
        trial("affinity::ends_with_the_service", ends_with_the_service),
    ]
}

const ONE: Svc = Svc(1);
const PODS: [&str; 3] = ["a", "b", "c"];

fn service(seconds: u64) -> Service {
    let mut service = ONE.everything();
    service.policy.session_affinity = Some(Duration::from_secs(seconds));
    service
}

fn world(seconds: u64) -> anyhow::Result<World> {
    let mut world = World::new(&[(0, "a"), (1, "b"), (1, "c"), (0, "other")])?;
    world.set(service(seconds));
    world.endpoints(ONE, &PODS);
    world.sync()?;
    Ok(world)
}

/// The pods that answer 20 connections and 5 datagrams.
fn answering(probe: Probe<'_>, address: SocketAddr) -> anyhow::Result<BTreeSet<String>> {
    let tcp = probe.spread(address, 20);
    ensure!(tcp.failures.is_empty(), "{tcp}");
    Ok(tcp.pods.into_keys().collect())
}

fn only(probe: Probe<'_>, address: SocketAddr) -> anyhow::Result<String> {
    let mut pods = answering(probe, address)?;
    ensure!(pods.len() == 1, "{address}: {pods:?}");
    Ok(pods.pop_first().unwrap_or_default())
}

fn client_stays() -> anyhow::Result<()> {
    let world = world(10_800)?;
    for family in IpFamily::BOTH {
        let client = world.cluster.client().probe();
        let all = [vec![ONE.cluster_ip(family)], ONE.external(family).to_vec()].concat();
        for address in all {
            only(client, address)?;
            only(world.pod("other").probe(), address)?;
            only(world.cluster.node(0).probe(), address)?;
            let udp = client.spread_udp(address, 10);
            ensure!(udp.pods.len() == 1 && udp.failures.is_empty(), "{udp}");
        }
        // Other clients are free to be sent elsewhere: 30 of them do not all meet the same pod.
        let mut pods = BTreeSet::new();
        for host in 100..130_u8 {
            let address: IpAddr = match family {
                IpFamily::V4 => [172, 18, 0, host].into(),
                IpFamily::V6 => format!("fd00:18::{host:x}").parse()?,
            };
            world.cluster.client().add_address(address)?;
            pods.insert(only(client.source(address), ONE.cluster_ip(family))?);
        }
        ensure!(pods.len() == 3, "{pods:?}");
    }
    Ok(())
}

/// Whichever frontend a client uses first, it meets the same pod at all others.
fn one_session() -> anyhow::Result<()> {
    let world = world(10_800)?;
    for family in IpFamily::BOTH {
        let all = [vec![ONE.cluster_ip(family)], ONE.external(family).to_vec()].concat();
        let mut pods = BTreeSet::new();
        for host in 60..76_u8 {
            let address: IpAddr = match family {
                IpFamily::V4 => [172, 18, 0, host].into(),
                IpFamily::V6 => format!("fd00:18::{host:x}").parse()?,
            };
            world.cluster.client().add_address(address)?;
            let client = world.cluster.client().probe().source(address);
            let from = usize::from(host) % all.len();
            let mut met = BTreeSet::new();
            for to in all[from..].iter().chain(&all[..from]) {
                met.insert(client.tcp(*to).answer()?.pod);
            }
            ensure!(met.len() == 1, "{address} met {met:?}");
            pods.extend(met);
        }
        ensure!(pods.len() > 1, "all of 16 clients met {pods:?}");
        let listed =
            world.nft(&format!("list map {} kube-proxy client-affinity", table(family)))?;
        let key = match ONE.cluster_ip(family).ip() {
            IpAddr::V4(ip) => format!(" . {} . 600080 ", u32::from(ip)),
            IpAddr::V6(_) => " . 600080 ".to_owned(),
        };
        ensure!(listed.matches(&key).count() == 16, "one session for each client: {listed}");
    }
    Ok(())
}

fn table(family: IpFamily) -> &'static str {
    if family == IpFamily::V4 { "ip" } else { "ip6" }
}

/// A session with an endpoint elsewhere does not lead external traffic away from this node.
fn local_policy() -> anyhow::Result<()> {
    let mut world = World::new(&[(0, "a"), (0, "b"), (1, "c"), (1, "d"), (0, "other")])?;
    let mut local = service(10_800);
    local.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(local);
    world.endpoints(ONE, &["a", "b", "c", "d"]);
    world.sync()?;
    for family in IpFamily::BOTH {
        let mut met = BTreeSet::new();
        for host in 80..92_u8 {
            let address: IpAddr = match family {
                IpFamily::V4 => [172, 18, 0, host].into(),
                IpFamily::V6 => format!("fd00:18::{host:x}").parse()?,
            };
            world.cluster.client().add_address(address)?;
            let client = world.cluster.client().probe().source(address);
            let inside = only(client, ONE.cluster_ip(family))?;
            let [external, vip, node_port] = ONE.external(family).map(|to| only(client, to));
            let (external, vip, node_port) = (external?, vip?, node_port?);
            ensure!(external == vip && vip == node_port, "{external}, {vip}, {node_port}");
            ensure!(["a", "b"].contains(&external.as_str()), "{external} is not of this node");
            if ["a", "b"].contains(&inside.as_str()) {
                ensure!(inside == external, "{inside} and {external}");
            }
            met.insert(inside);
        }
        ensure!(met.len() > 1, "{met:?}");
        // Traffic of pods takes the short way, to the session with all endpoints.
        let pod = world.pod("other").probe();
        let inside = only(pod, ONE.cluster_ip(family))?;
        ensure!(only(pod, ONE.external_ip(family))? == inside);
    }
    Ok(())
}

/// A client that continues sending to an endpoint that went must not make it its session again.
fn repeated_packets() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    for family in IpFamily::BOTH {
        let to = ONE.cluster_ip(family);
        let mut flow = world.cluster.client().probe().udp_flow(to)?;
        let old = flow.ping().answer()?.pod;
        flow.set_timeout(SILENCE)?;
        // It no longer answers, so that the next flow stays a new one.
        let target = world.pod(&old).address(family, TARGET);
        world.pod(&old).close(Serve::Udp, TARGET);
        let local = flow.local_address();
        world.cluster.node(0).netns().output("conntrack", &["-F"])?;
        ensure!(!flow.ping().is_answer(), "{target} from {local}");
        let rest: Vec<&str> = PODS.into_iter().filter(|pod| *pod != old.as_str()).collect();
        world.endpoints(ONE, &rest);
        world.sync()?;
        ensure!(!flow.ping().is_answer(), "the flow is still with {old}");
        let sessions =
            world.nft(&format!("list map {} kube-proxy client-affinity", table(family)))?;
        ensure!(!sessions.contains(&format!(": {} . ", target.ip())), "{sessions}");
        world.pod(&old).serve_udp(TARGET)?;
        world.endpoints(ONE, &PODS);
        world.sync()?;
    }
    Ok(())
}

/// Another program's chain in our table makes it one of another layout; its sessions continue in the new one.
fn survives_damage() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    for family in IpFamily::BOTH {
        let before = only(world.cluster.client().probe(), ONE.node_port(family))?;
        world.nft(&format!("add chain {} kube-proxy foreign", table(family)))?;
        world.full_sync()?;
        let chains = world.nft(&format!("list chains {}", table(family)))?;
        ensure!(!chains.contains("foreign"), "{chains}");
        for to in [ONE.cluster_ip(family), ONE.node_port(family)] {
            let after = only(world.cluster.client().probe(), to)?;
            ensure!(after == before, "{after} after {before}");
        }
    }
    Ok(())
}

fn ends_and_is_refreshed() -> anyhow::Result<()> {
    let world = world(2)?;
    let (client, address) = (world.cluster.client().probe(), ONE.cluster_ip(IpFamily::V4));
    // Each connection gives it another 2 seconds; without that it would end within 6 rounds. On a busy machine it may end: once more.
    let mut rounds = 0;
    let mut first = only(client, address)?;
    let (begin, mut last) = (Instant::now(), Instant::now());
    while rounds < 6 {
        thread::sleep(Duration::from_millis(500));
        let now = only(client, address)?;
        if last.elapsed() < Duration::from_millis(1_500) {
            ensure!(now == first, "{now} after {first}");
            rounds += 1;
        } else {
            ensure!(begin.elapsed() < GUARD, "no 6 rounds in a row came in time");
            (first, rounds) = (now, 0);
        }
        last = Instant::now();
    }
    // Then it ends: with a third of a chance to meet the same pod again, not 20 times in a row.
    let mut pods = BTreeSet::new();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(2_100));
        pods.insert(only(client, address)?);
        if pods.len() > 1 {
            return Ok(());
        }
    }
    anyhow::bail!("always {pods:?}")
}

fn survives_restart() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    let mut before = Vec::new();
    for family in IpFamily::BOTH {
        before.push(only(world.cluster.client().probe(), ONE.cluster_ip(family))?);
    }
    world.restart()?;
    ensure_nothing_sent(world.sync()?)?;
    for (family, before) in IpFamily::BOTH.into_iter().zip(before) {
        let after = only(world.cluster.client().probe(), ONE.cluster_ip(family))?;
        ensure!(after == before, "{after} after {before}");
    }
    Ok(())
}

fn ends_with_its_endpoint() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    let family = IpFamily::V4;
    let (cluster_ip, node_port) = (ONE.cluster_ip(family), ONE.node_port(family));
    let old = only(world.cluster.client().probe(), cluster_ip)?;
    let far = only(world.pod("other").probe(), node_port)?;
    // The endpoint is there still, but takes no new connections.
    let draining = Conditions { ready: false, serving: true, terminating: true };
    let state = |pod: &&str| if *pod == old { draining } else { Conditions::default() };
    let states: Vec<_> = PODS.iter().map(|pod| (*pod, state(pod))).collect();
    world.endpoints_in(ONE, &states);
    world.sync()?;
    let new = only(world.cluster.client().probe(), cluster_ip)?;
    ensure!(new != old, "still {new}");
    if far != old {
        ensure!(only(world.pod("other").probe(), node_port)? == far, "no session of others ends");
    }
    // Sessions with it ended on all frontends, and in both families.
    for prefix in ["ip", "ip6"] {
        let sessions = world.nft(&format!("list map {prefix} kube-proxy client-affinity"))?;
        let gone = world.pod(&old).ip(family).to_string();
        ensure!(!sessions.contains(&format!(": {gone} . ")), "{sessions}");
    }
    Ok(())
}

fn began_after_the_reading() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    let address = ONE.cluster_ip(IpFamily::V4);
    world.restart()?;
    world.read_ahead();
    let old = only(world.cluster.client().probe(), address)?;
    let others: Vec<_> = PODS.into_iter().filter(|pod| *pod != old).collect();
    world.endpoints(ONE, &others);
    world.sync()?;
    let sessions = world.nft("list map ip kube-proxy client-affinity")?;
    let gone = world.pod(&old).ip(IpFamily::V4).to_string();
    ensure!(!sessions.contains(&format!(": {gone} . ")), "{sessions}");
    Ok(())
}

fn ends_with_the_policy() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    let address = ONE.node_port(IpFamily::V4);
    // Until some client is with an endpoint that is not of this node.
    let mut host = 100;
    let client = loop {
        let source = IpAddr::from([172, 18, 0, host]);
        world.cluster.client().add_address(source)?;
        if only(world.cluster.client().probe().source(source), address)? != "a" {
            break source;
        }
        host += 1;
        ensure!(host < 160, "always the local endpoint");
    };
    let mut local = service(10_800);
    local.policy.external_traffic_policy = TrafficPolicy::Local;
    world.set(local);
    world.sync()?;
    let now = only(world.cluster.client().probe().source(client), address)?;
    ensure!(now == "a", "{now} is not of this node");
    Ok(())
}

fn ends_with_the_service() -> anyhow::Result<()> {
    let mut world = world(10_800)?;
    for family in IpFamily::BOTH {
        only(world.cluster.client().probe(), ONE.cluster_ip(family))?;
    }
    world.apply(&Event::ServiceDeleted(ONE.name()));
    world.sync()?;
    for prefix in ["ip", "ip6"] {
        let sessions = world.nft(&format!("list map {prefix} kube-proxy client-affinity"))?;
        ensure!(!sessions.contains("elements"), "{sessions}");
        let chains = world.nft(&format!("list chains {prefix}"))?;
        ensure!(!chains.contains("remember-") && !chains.contains("-affinity-"), "{chains}");
    }
    Ok(())
}
