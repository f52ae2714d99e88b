//! Services without endpoints.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context as _, ensure};
use kube_proxy_core::{IpFamily, Protocol};
use kube_proxy_testkit::eventually::eventually;

use crate::Test;
use crate::world::{GUARD, Options, World, address_of, node_ip, service, service_address};

pub(crate) const TESTS: &[Test] = &[("refused/tcp", || both(tcp)), ("refused/udp", || both(udp))];

fn both(test: fn(IpFamily) -> anyhow::Result<()>) -> anyhow::Result<()> {
    IpFamily::BOTH
        .into_iter()
        .try_for_each(|family| test(family).with_context(|| family.to_string()))
}

/// A node with a way to its services that is not loopback, over which the kernel reports no errors.
fn world(family: IpFamily) -> anyhow::Result<World> {
    let world = World::new(Options { family, udp_idle: GUARD, ..Options::default() })?;
    world.netns.ip("route replace 10.96.0.0/16 via 192.0.2.1\n\
         neighbour add 2001:db8::1 lladdr 02:00:00:00:00:01 dev silent\n\
         route replace fd00:10:96::/112 via 2001:db8::1 dev silent")?;
    Ok(world)
}

fn refused(world: &World, to: SocketAddr) -> anyhow::Result<()> {
    let kind = world.netns.run(|| TcpStream::connect_timeout(&to, GUARD)).map_err(|e| e.kind());
    ensure!(matches!(kind, Err(ErrorKind::ConnectionRefused)), "{to}: {kind:?}");
    Ok(())
}

/// Refused while there are none, served with the first, and connections outlive the last.
fn tcp(family: IpFamily) -> anyhow::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut world = world(family)?;
    let (mut web, _) = service(1, Protocol::Tcp);
    web.ports[0].node_port = std::num::NonZeroU16::new(30_001);
    let frontends = [service_address(1, family), SocketAddr::new(node_ip(family), 30_001)];
    let echo = world.serve(1, |mut stream| {
        let mut buffer = [0];
        while let Ok(1) = stream.read(&mut buffer) {
            if stream.write_all(&buffer).is_err() {
                return;
            }
        }
    })?;
    let ping = |stream: &mut TcpStream| -> anyhow::Result<()> {
        stream.write_all(b"x")?;
        Ok(stream.read_exact(&mut [0])?)
    };
    let mut old = Vec::new();
    for _ in 0..2 {
        world.set(&web, &[]);
        world.sync()?;
        for to in frontends {
            refused(&world, to)?;
        }
        for stream in &mut old {
            ping(stream).context("a connection of before")?;
        }
        world.set(&web, &[echo]);
        world.sync()?;
        for to in frontends {
            let mut stream = world.connect(to)?;
            ping(&mut stream)?;
            old.push(stream);
        }
    }
    Ok(())
}

/// The same client socket is refused and served in turn: no flow of before stays.
fn udp(family: IpFamily) -> anyhow::Result<()> {
    let mut world = world(family)?;
    let (mut dns, _) = service(1, Protocol::Udp);
    dns.ports[0].node_port = std::num::NonZeroU16::new(30_001);
    let endpoint = address_of(1, family);
    let server = world.netns.run(|| UdpSocket::bind(endpoint))?;
    std::thread::spawn(move || {
        while let Ok((_, from)) = server.recv_from(&mut [0; 8]) {
            let _ = server.send_to(b"!", from);
        }
    });
    for to in [service_address(1, family), SocketAddr::new(node_ip(family), 30_001)] {
        let client = world.netns.run(|| -> std::io::Result<_> {
            let socket = UdpSocket::bind(SocketAddr::new(
                if to.is_ipv4() { "0.0.0.0" } else { "::" }.parse().expect("an address"),
                0,
            ))?;
            socket.connect(to)?;
            socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
            Ok(socket)
        })?;
        let ask = || -> std::io::Result<usize> {
            client.send(b"?")?;
            client.recv(&mut [0; 8])
        };
        for _ in 0..2 {
            world.set(&dns, &[]);
            world.sync()?;
            eventually(GUARD, || match ask() {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{to}: {other:?}")),
            });
            world.set(&dns, &[endpoint]);
            world.sync()?;
            eventually(GUARD, ask);
        }
    }
    Ok(())
}
