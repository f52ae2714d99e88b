//! Endpoints that lead back to this proxy.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::executor::block_on;
use kube_proxy_core::{IpFamily, Protocol, ProxyBackend as _};
use kube_proxy_testkit::eventually::eventually;

use crate::Test;
use crate::limits::descriptors;
use crate::world::{GUARD, Options, World, node_ip, service, service_address};

pub(crate) const TESTS: &[Test] = &[
    ("loops/tcp", || both(tcp)),
    ("loops/udp", || both(udp)),
    ("loops/tcp-over-two-nodes", || both(tcp_over_two_nodes)),
    ("loops/udp-over-two-nodes", || both(udp_over_two_nodes)),
];

fn both(test: fn(IpFamily) -> anyhow::Result<()>) -> anyhow::Result<()> {
    IpFamily::BOTH
        .into_iter()
        .try_for_each(|family| test(family).with_context(|| family.to_string()))
}

const NODE_PORT: u16 = 30_001;

/// Services that lead to their own node port, to each other's cluster IP, and to any listening port; and one that is right.
fn circles(family: IpFamily, protocol: Protocol) -> anyhow::Result<World> {
    let range = Some(20_000..=20_009);
    let mut world = World::new(Options { family, range, ..Options::default() })?;
    let node = |port| SocketAddr::new(node_ip(family), port);
    let (mut first, _) = service(1, protocol);
    first.ports[0].node_port = NonZeroU16::new(NODE_PORT);
    world.set(&first, &[node(NODE_PORT)]);
    world.set(&service(2, protocol).0, &[service_address(3, family)]);
    world.set(&service(3, protocol).0, &[service_address(2, family)]);
    let listening: Vec<_> = (20_000..=20_009).map(node).collect();
    world.set(&service(4, protocol).0, &listening);
    let right = greeter(&world, 1)?;
    world.set(&service(5, Protocol::Tcp).0, &[right]);
    world.sync()?;
    Ok(world)
}

fn greeter(world: &World, number: u8) -> anyhow::Result<SocketAddr> {
    world.serve(number, |mut stream| {
        let _ = std::io::Write::write_all(&mut stream, b"x");
    })
}

fn is_served(world: &World, family: IpFamily) -> anyhow::Result<()> {
    let mut stream = world.connect(service_address(5, family))?;
    stream.read_exact(&mut [0]).context("another service is not served")
}

fn entrances(family: IpFamily) -> Vec<SocketAddr> {
    let services = (1..=4).map(|number| service_address(number, family));
    services.chain([SocketAddr::new(node_ip(family), NODE_PORT)]).collect()
}

/// A client costs the attempts to reach its endpoint, and nothing that others wait for.
fn tcp(family: IpFamily) -> anyhow::Result<()> {
    let mut world = circles(family, Protocol::Tcp)?;
    let before = descriptors()?;
    let clients: Vec<Option<TcpStream>> = entrances(family)
        .into_iter()
        .flat_map(|to| [to; 10])
        .map(|to| world.connect_or_reset(to))
        .collect::<anyhow::Result<_>>()?;
    is_served(&world, family)?;
    for mut client in clients.iter().flatten() {
        let mut end = Vec::new();
        // The proxy closes it, in order or not; it never hangs.
        let result = client.read_to_end(&mut end);
        let waited = result.as_ref().err().is_some_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        });
        ensure!(end.is_empty() && !waited, "{result:?}");
    }
    is_served(&world, family)?;
    let failures: u64 = world.failures().values().sum();
    // Four attempts each. In a circle each attempt would be a client of its own.
    ensure!(failures <= 4 * clients.len() as u64, "{failures} failures");
    drop(clients);
    world.snapshot.services.clear();
    world.sync()?;
    eventually(GUARD, || {
        let now = descriptors()?;
        ensure!(now <= before, "{before} descriptors before, {now} after");
        Ok(())
    });
    Ok(())
}

fn udp_socket(family: IpFamily) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match family {
        IpFamily::V4 => [0; 4].into(),
        IpFamily::V6 => [0; 16].into(),
    };
    UdpSocket::bind((any, 0))
}

fn udp_sessions(world: &mut World) -> anyhow::Result<u64> {
    let traffic = block_on(world.backend.traffic())?;
    let udp = traffic.iter().filter(|one| one.service.protocol == Protocol::Udp);
    Ok(udp.filter(|one| one.endpoint.is_none()).map(|one| one.connections).sum())
}

/// A datagram begins one session at most.
fn udp(family: IpFamily) -> anyhow::Result<()> {
    let mut world = circles(family, Protocol::Udp)?;
    let client = world.netns.run(|| udp_socket(family))?;
    for to in entrances(family) {
        client.send_to(b"round", to)?;
    }
    eventually(GUARD, || {
        let begun = udp_sessions(&mut world)?;
        ensure!(begun > 0, "no session was begun");
        ensure!(world.open() == 0, "{} sessions are open", world.open());
        Ok(())
    });
    // What circles has gone round often when a TCP client has been served ten times.
    for _ in 0..10 {
        is_served(&world, family)?;
    }
    let begun = udp_sessions(&mut world)?;
    ensure!(begun <= entrances(family).len() as u64, "{begun} sessions: a datagram circles");
    Ok(())
}

/// Two nodes whose services lead to the other's node port.
fn two_nodes(family: IpFamily, protocol: Protocol) -> anyhow::Result<[World; 2]> {
    let world = || World::new(Options { family, ..Options::default() });
    let mut worlds = [world()?, world()?];
    worlds[0].netns.ip(&format!(
        "link add wire type veth peer name wire netns {}\n\
         link set wire up\n\
         address add 198.51.100.1/24 dev wire\n\
         address add 2001:db8:1::1/64 dev wire nodad",
        worlds[1].netns.name()
    ))?;
    worlds[1].netns.ip("link set wire up\n\
         address add 198.51.100.2/24 dev wire\n\
         address add 2001:db8:1::2/64 dev wire nodad")?;
    let node = |number: u8| -> SocketAddr {
        let ip: IpAddr = match family {
            IpFamily::V4 => [198, 51, 100, number].into(),
            IpFamily::V6 => [0x2001, 0xdb8, 1, 0, 0, 0, 0, u16::from(number)].into(),
        };
        SocketAddr::new(ip, NODE_PORT)
    };
    for (world, other) in worlds.iter_mut().zip([2, 1]) {
        let (mut around, _) = service(1, protocol);
        around.ports[0].node_port = NonZeroU16::new(NODE_PORT);
        world.set(&around, &[node(other)]);
        let right = greeter(world, 1)?;
        world.set(&service(5, Protocol::Tcp).0, &[right]);
        world.sync()?;
    }
    Ok(worlds)
}

/// The circle grows until a service port has its share, breaks by itself, and others are served all the while.
fn tcp_over_two_nodes(family: IpFamily) -> anyhow::Result<()> {
    let mut worlds = two_nodes(family, Protocol::Tcp)?;
    let before = descriptors()?;
    let mut client = worlds[0].connect(service_address(1, family))?;
    let mut failures = 0;
    while failures == 0 {
        for world in &worlds {
            is_served(world, family)?;
            failures += world.failures()["test/s-1"];
        }
    }
    ensure!(client.read(&mut [0]).is_err(), "not reset");
    eventually(GUARD, || {
        // First, as a question whether it is served is a connection itself.
        for world in &worlds {
            ensure!(world.open() == 0, "{} connections are open", world.open());
        }
        for world in &worlds {
            is_served(world, family)?;
        }
        Ok::<_, anyhow::Error>(())
    });
    drop(client);
    for world in &mut worlds {
        world.snapshot.services.clear();
        world.sync()?;
    }
    eventually(GUARD, || {
        let now = descriptors()?;
        ensure!(now <= before, "{before} descriptors before, {now} after");
        Ok(())
    });
    Ok(())
}

/// A datagram goes as far as behind routers: its hop limit ends the circle.
fn udp_over_two_nodes(family: IpFamily) -> anyhow::Result<()> {
    let mut worlds = two_nodes(family, Protocol::Udp)?;
    let client = worlds[0].netns.run(|| udp_socket(family))?;
    client.send_to(b"round", service_address(1, family))?;
    eventually(GUARD, || {
        let [first, second] = &mut worlds;
        let begun = udp_sessions(first)? + udp_sessions(second)?;
        ensure!((60..=64).contains(&begun), "{begun} sessions");
        ensure!(first.open() + second.open() == 0, "some are open");
        Ok(())
    });
    std::thread::sleep(Duration::from_millis(300));
    let [first, second] = &mut worlds;
    let begun = udp_sessions(first)? + udp_sessions(second)?;
    ensure!((60..=64).contains(&begun), "{begun} sessions: it still circles");
    Ok(())
}
