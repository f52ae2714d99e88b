//! The metrics that tell the traffic of services, in modes that count it.
//!
//! In ipvs mode the kernel sums its counters up every two seconds, so the numbers are right a little later.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;

use crate::PerMode;
use crate::check::ask;
use crate::objects::{NAMESPACE, Svc, vip};
use crate::traffic::SILENCE;
use crate::world::{From, GUARD, Mode, World, cluster_address};

pub(crate) const TESTS: &[PerMode] = &[
    ("metrics/connections-of-services", connections),
    ("metrics/services-beyond-the-limit", beyond_the_limit),
    ("metrics/no-services", none),
    ("metrics/refused-connections", refused),
];

const CLIENT: From = From::Pod("client");
const REFUSED: &str = "kubeproxy_service_refused_connections_total";
const NAME: &str = "kubeproxy_service_connections_total";

fn world(mode: Mode, limit: u32) -> anyhow::Result<World> {
    let nets = plan::cluster_net();
    let limit = format!("--service-metrics-limit={limit}");
    World::with_flags(mode, &[&format!("--cluster-cidr={},{}", nets.v4, nets.v6), &limit])
}

fn scrape(world: &World) -> anyhow::Result<String> {
    let answer = world.cluster.node(0).probe().http_get("127.0.0.1:10249".parse()?, "/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(answer.body)
}

/// The number in a series of the connections of a service.
fn counted(text: &str, service: &str, family: IpFamily) -> Option<u64> {
    let start = format!("{NAME}{{ip_family=\"{family}\",namespace=");
    let label = format!("service=\"{service}\"");
    let line = text.lines().find(|line| line.starts_with(&start) && line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn ensure_counted(world: &World, mode: Mode, expected: u64) -> anyhow::Result<()> {
    let look = || {
        let text = scrape(world)?;
        for family in IpFamily::BOTH {
            let found = counted(&text, "web", family);
            ensure!(found == Some(expected), "{family}: {found:?}, not {expected}");
        }
        Ok(())
    };
    if mode != Mode::Ipvs {
        return look();
    }
    eventually(GUARD, look);
    Ok(())
}

/// Waits until the kernel has summed up what went through so far.
fn summed_up(world: &World, mode: Mode) {
    if mode != Mode::Ipvs {
        return;
    }
    eventually(GUARD, || {
        let read = || world.on_node("ipvsadm", &["-Ln", "--stats"]);
        let before = read()?;
        sleep(Duration::from_secs(3));
        ensure!(read()? == before, "the counters still change");
        Ok(())
    });
}

fn connect(world: &World, from: From, service: u8, times: usize) -> anyhow::Result<()> {
    for family in IpFamily::BOTH {
        let to = match from {
            From::Outside => world.node_port(service, family),
            _ => cluster_address(service, family),
        };
        for _ in 0..times {
            world.probe(from).tcp(to).answer().with_context(|| format!("{from:?} to {to}"))?;
        }
    }
    Ok(())
}

/// Exact numbers, over frontends, other numbers of endpoints, a restart and the end.
fn connections(mode: Mode) -> anyhow::Result<()> {
    let mut world = world(mode, 100)?;
    let service = Svc::new("web", 1).node_port();
    world.serve(&service, &["local-1"])?;
    world.settle()?;
    ensure_counted(&world, mode, 0)?;
    connect(&world, CLIENT, 1, 5)?;
    connect(&world, From::Outside, 1, 3)?;
    ensure_counted(&world, mode, 8)?;
    // These are read by nothing before the service looks different.
    connect(&world, CLIENT, 1, 2)?;
    world.serve(&service, &["local-1", "remote-1"])?;
    world.settle()?;
    ensure_counted(&world, mode, 10)?;
    connect(&world, From::Outside, 1, 1)?;
    ensure_counted(&world, mode, 11)?;
    world.serve(&service, &[])?;
    world.settle()?;
    ensure_counted(&world, mode, 11)?;
    world.serve(&service, &["remote-1"])?;
    world.settle()?;
    connect(&world, CLIENT, 1, 1)?;
    ensure_counted(&world, mode, 12)?;
    // Counters of processes start at zero, whatever the kernel counted before.
    world.stop()?;
    // Without the process nothing answers.
    if mode != Mode::Userspace {
        connect(&world, CLIENT, 1, 1)?;
        summed_up(&world, mode);
    }
    world.start()?;
    ensure_counted(&world, mode, 0)?;
    connect(&world, CLIENT, 1, 2)?;
    ensure_counted(&world, mode, 2)?;
    world.delete("Service", "web")?;
    let no_series = |text: &str| {
        let left =
            IpFamily::BOTH.into_iter().find(|family| counted(text, "web", *family).is_some());
        left.map_or(Ok(()), |family| Err(anyhow::anyhow!("{family} still has a series")))
    };
    eventually(GUARD, || scrape(&world).and_then(|text| no_series(&text)));
    Ok(())
}

/// One service is told apart; the connections of the other are in the sum.
fn beyond_the_limit(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 1)?;
    world.serve(&Svc::new("first", 1).node_port(), &["local-1"])?;
    world.settle()?;
    let others = "(others)";
    let before = scrape(&world)?;
    world.serve(&Svc::new("second", 2).node_port(), &["local-1"])?;
    world.settle()?;
    summed_up(&world, mode);
    let settled = scrape(&world)?;
    connect(&world, From::Outside, 1, 4)?;
    connect(&world, From::Outside, 2, 3)?;
    summed_up(&world, mode);
    let after = scrape(&world)?;
    for family in IpFamily::BOTH {
        let total = |text: &str| -> u64 {
            let start = format!("{NAME}{{ip_family=\"{family}\"");
            let series = text.lines().filter(|line| line.starts_with(&start));
            series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let series = after.lines().filter(|line| line.starts_with(NAME)).count();
        ensure!(series == 2 * 2, "{series} series:\n{after}");
        ensure!(total(&after) == total(&settled) + 7, "{family}: {settled}\n{after}");
        let (old, new) = (counted(&before, others, family), counted(&after, others, family));
        ensure!(new >= old, "{family}: {old:?}, then {new:?}");
    }
    let second = format!("namespace=\"{NAMESPACE}\",service=\"second\"");
    // The counters of refusals have a limit of their own: it may have been seen without endpoints at first.
    let is_own = |line: &&str| line.starts_with(NAME) && line.contains(&second);
    let own: Vec<_> = after.lines().filter(is_own).collect();
    ensure!(own.is_empty(), "{own:#?}");
    Ok(())
}

/// By reason, over a restart, and as commands show them.
fn refused(mode: Mode) -> anyhow::Result<()> {
    let mut world = world(mode, 100)?;
    if mode != Mode::Nftables {
        world.serve(&Svc::new("gone", 1), &[])?;
        world.settle()?;
        ensure!(!scrape(&world)?.contains(REFUSED), "this mode does not count them");
        return Ok(());
    }
    world.serve(&Svc::new("gone", 1), &[])?;
    world.serve(&Svc::new("far", 2).node_port().external_local(), &["remote-1"])?;
    world.serve(&Svc::new("near", 3).internal_local(), &["remote-1"])?;
    let ranges = vec!["192.0.2.77/32", "2001:db8:77::/128"];
    let guarded = Svc::new("guarded", 4).load_balancer();
    world.serve(&guarded.with("/spec/loadBalancerSourceRanges", ranges), &["local-1"])?;
    world.settle()?;
    let attempts = |world: &World| -> anyhow::Result<()> {
        for family in IpFamily::BOTH {
            ensure!(world.probe(CLIENT).tcp(cluster_address(1, family)).is_refused());
            let vip = std::net::SocketAddr::new(vip(4, family), 80);
            for (from, to) in [
                (From::Outside, world.node_port(2, family)),
                (CLIENT, cluster_address(3, family)),
                (From::Outside, vip),
            ] {
                let outcome = world.probe(from).timeout(SILENCE).tcp(to);
                ensure!(!outcome.is_answer() && !outcome.is_refused(), "{to}: {outcome}");
            }
        }
        Ok(())
    };
    let expected = [
        ("gone", "no-endpoints"),
        ("far", "external-policy"),
        ("near", "internal-policy"),
        ("guarded", "source-ranges"),
    ];
    let ensure = |world: &World, least: u64| -> anyhow::Result<()> {
        let text = scrape(world)?;
        for family in IpFamily::BOTH {
            for (service, reason) in expected {
                let found = refusals(&text, service, reason, family);
                // A client that is not answered may have repeated its first packet.
                let right = if reason == "no-endpoints" || least == 0 {
                    found == Some(least)
                } else {
                    found >= Some(least)
                };
                ensure!(right, "{family} {service} {reason}: {found:?}, not {least}\n{text}");
            }
        }
        Ok(())
    };
    ensure(&world, 0)?;
    attempts(&world)?;
    ensure(&world, 1)?;
    let explained = ask(&world, &["explain", "default/gone"])?.stdout;
    ensure!(explained.contains("refused or dropped: no-endpoints=1"), "{explained}");
    let listed = ask(&world, &["services", "-o", "wide"])?.stdout;
    ensure!(listed.contains("no-endpoints=1") && listed.contains("REFUSED"), "{listed}");
    // The kernel counts on; the metrics of a process start at zero.
    world.stop()?;
    attempts(&world)?;
    world.start()?;
    ensure(&world, 0)?;
    attempts(&world)?;
    ensure(&world, 1)
}

/// The number in a series of refused connections.
fn refusals(text: &str, service: &str, reason: &str, family: IpFamily) -> Option<u64> {
    let labels = [
        format!("ip_family=\"{family}\""),
        format!("service=\"{service}\""),
        format!("reason=\"{reason}\""),
    ];
    let is = |line: &&str| line.starts_with(REFUSED) && labels.iter().all(|l| line.contains(l));
    text.lines().find(is)?.rsplit(' ').next()?.parse().ok()
}

fn none(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 0)?;
    world.serve(&Svc::new("web", 1).node_port(), &["local-1"])?;
    world.settle()?;
    connect(&world, CLIENT, 1, 1)?;
    let text = scrape(&world)?;
    ensure!(!text.contains("kubeproxy_service_"), "{text}");
    Ok(())
}
