//! Session affinity by client address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::cluster::plan;
use kube_proxy_testkit::eventually::eventually;

use crate::objects::{Svc, external_ip, vip};
use crate::world::{From, GUARD, Mode, World, cluster_address};

const PODS: [&str; 3] = ["local-1", "local-2", "remote-1"];
/// This many clients choose the same of three pods once in 14 million times.
const CLIENTS: u8 = 16;

/// A world with an affinity Service, and addresses for clients outside.
fn world(mode: Mode, seconds: u32) -> anyhow::Result<World> {
    let world = World::new(mode)?;
    for family in IpFamily::BOTH {
        for client in clients(family) {
            world.cluster.client().add_address(client)?;
        }
    }
    world.serve(&Svc::new("web", 1).node_port().affinity(seconds), &PODS)?;
    world.settle()?;
    Ok(world)
}

fn clients(family: IpFamily) -> Vec<IpAddr> {
    let fabric = plan::fabric_net().get(family).network();
    let nth = |number: u8| match fabric {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(ip) => IpAddr::from((u128::from(ip) + u128::from(number)).to_be_bytes()),
    };
    (100..100 + CLIENTS).map(nth).collect()
}

fn ask(world: &World, client: IpAddr, to: SocketAddr) -> anyhow::Result<String> {
    Ok(world.probe(From::Outside).source(client).tcp(to).answer()?.pod)
}

/// The pod of each client.
fn choices(world: &World, family: IpFamily) -> anyhow::Result<BTreeMap<IpAddr, String>> {
    let to = cluster_address(1, family);
    clients(family).into_iter().map(|client| Ok((client, ask(world, client, to)?))).collect()
}

pub(super) fn sticks(mode: Mode) -> anyhow::Result<()> {
    let mut world = world(mode, 300)?;
    for family in IpFamily::BOTH {
        let first = choices(&world, family)?;
        let used: BTreeSet<&String> = first.values().collect();
        ensure!(used.len() > 1, "all clients go to the same pod: {used:?}");
        for _ in 0..5 {
            ensure!(choices(&world, family)? == first, "a client changed its pod");
        }
        // By Service, not by frontend.
        for (client, pod) in &first {
            let other = ask(&world, *client, world.node_port(1, family))?;
            ensure!(other == *pod, "{client} goes to {pod} and {other}");
        }
        world.stop()?;
        world.start()?;
        ensure!(choices(&world, family)? == first, "a client changed its pod with a restart");
    }
    Ok(())
}

/// Whichever frontend a client uses first, it goes to the same pod at all others.
pub(super) fn one_session(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 300)?;
    let service = Svc::new("all", 2).load_balancer().external_ips().affinity(300);
    world.serve(&service, &PODS)?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let frontends = [
            cluster_address(2, family),
            world.node_port(2, family),
            SocketAddr::new(vip(2, family), 80),
            SocketAddr::new(external_ip(2, family), 80),
        ];
        let mut used = BTreeSet::new();
        for (index, client) in clients(family).into_iter().enumerate() {
            let from = index % frontends.len();
            let all = frontends[from..].iter().chain(&frontends[..from]);
            let pods =
                all.map(|to| ask(&world, client, *to)).collect::<Result<BTreeSet<_>, _>>()?;
            ensure!(pods.len() == 1, "{client} goes to {pods:?}");
            used.extend(pods);
        }
        ensure!(used.len() > 1, "all clients go to the same pod: {used:?}");
    }
    Ok(())
}

/// Connections that come sooner than the timeout keep the choice, for longer than the timeout.
pub(super) fn refreshed(mode: Mode) -> anyhow::Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let world = world(mode, 2)?;
    for family in IpFamily::BOTH {
        let to = cluster_address(1, family);
        let mut last: BTreeMap<IpAddr, (Instant, String)> = BTreeMap::new();
        let mut compared = 0;
        let begin = Instant::now();
        while begin.elapsed() < 3 * TIMEOUT || (compared <= 50 && begin.elapsed() < GUARD) {
            for client in clients(family) {
                let pod = ask(&world, client, to)?;
                if let Some((when, before)) = last.get(&client)
                    // On a busy machine the pause may have been too long.
                    && when.elapsed() < TIMEOUT * 3 / 4
                {
                    ensure!(pod == *before, "{client}: {before}, then {pod}");
                    compared += 1;
                }
                last.insert(client, (Instant::now(), pod));
            }
            sleep(TIMEOUT / 5);
        }
        ensure!(compared > 50, "only {compared} connections came in time");
    }
    Ok(())
}

pub(super) fn expires(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 1)?;
    let mut first = Vec::new();
    for family in IpFamily::BOTH {
        first.push(choices(&world, family)?);
    }
    // The kernel's clock may count full seconds.
    sleep(Duration::from_millis(2_500));
    for (family, first) in IpFamily::BOTH.into_iter().zip(first) {
        ensure!(choices(&world, family)? != first, "{family}: no client changed its pod");
    }
    Ok(())
}

/// Under ipvs a session ends when its timeout is over and the kernel has forgotten the flows under it.
///
/// Those of UDP are forgotten after `--ipvs-udp-timeout`. A TCP connection that has ended stays in `TIME_WAIT` for two minutes, which
/// `--ipvs-tcpfin-timeout` does not change, and keeps its session.
pub(crate) fn ipvs_sessions(mode: Mode) -> anyhow::Result<()> {
    let flags = ["--masquerade-all", "--ipvs-udp-timeout=1s", "--ipvs-tcpfin-timeout=1s"];
    let world = World::with_flags(mode, &flags)?;
    world.serve(&Svc::new("web", 1).affinity(2), &PODS)?;
    world.serve(&Svc::new("dns", 2).udp().affinity(4), &PODS)?;
    world.settle()?;
    for family in IpFamily::BOTH {
        for client in clients(family) {
            world.cluster.client().add_address(client)?;
        }
        let to = cluster_address(2, family);
        let udp = || -> anyhow::Result<Vec<String>> {
            let ask = |client| Ok(world.probe(From::Outside).source(client).udp(to).answer()?.pod);
            clients(family).into_iter().map(ask).collect()
        };
        let (tcp_first, udp_first) = (choices(&world, family)?, udp()?);
        let connections = || world.on_node("cat", &["/proc/net/ip_vs_conn"]);
        eventually(GUARD, || {
            let left = connections()?;
            ensure!(!left.lines().any(|line| line.starts_with("UDP")), "still there:\n{left}");
            Ok(())
        });
        ensure!(udp()? != udp_first, "{family}: no client changed its pod");
        let left = connections()?;
        let ended = left.lines().filter(|line| line.contains(" TIME_WAIT ")).count();
        ensure!(ended >= usize::from(CLIENTS), "{ended} connections ended:\n{left}");
        ensure!(choices(&world, family)? == tcp_first, "{family}: a client changed its pod");
    }
    Ok(())
}

/// The clients of an endpoint that goes choose again, the others stay.
pub(super) fn endpoint_removed(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 300)?;
    for family in IpFamily::BOTH {
        let first = choices(&world, family)?;
        world.serve(&Svc::new("web", 1).node_port().affinity(300), &["local-2", "remote-1"])?;
        world.settle()?;
        let second = choices(&world, family)?;
        for (client, pod) in &second {
            let before = &first[client];
            if before == "local-1" {
                ensure!(pod != "local-1", "{client} still goes to local-1");
            } else {
                ensure!(pod == before, "{client} changed from {before} to {pod}");
            }
        }
        ensure!(choices(&world, family)? == second, "a client changed its pod again");
        world.serve(&Svc::new("web", 1).node_port().affinity(300), &PODS)?;
        world.settle()?;
    }
    Ok(())
}

pub(super) fn switched_off(mode: Mode) -> anyhow::Result<()> {
    let world = world(mode, 300)?;
    for family in IpFamily::BOTH {
        choices(&world, family)?;
    }
    world.apply([Svc::new("web", 1).node_port().object()])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        world.check_pods(From::Outside, cluster_address(1, family), &PODS)?;
    }
    world.apply([Svc::new("web", 1).node_port().affinity(300).object()])?;
    world.settle()?;
    for family in IpFamily::BOTH {
        let first = choices(&world, family)?;
        ensure!(choices(&world, family)? == first, "a client changed its pod");
    }
    Ok(())
}
