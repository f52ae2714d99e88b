//! Bytes and datagrams on their way.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::executor::block_on;
use kube_proxy_core::{Protocol, ProxyBackend as _};
use kube_proxy_testkit::eventually::eventually;

use crate::Test;
use crate::world::{GUARD, Options, World, address, service};

pub(crate) const TESTS: &[Test] = &[
    ("dial-retry", dial_retry),
    ("resting-endpoints", resting),
    ("half-close", half_close),
    ("bulk-copied", || bulk(false)),
    ("bulk-spliced", || bulk(true)),
    ("reset", reset),
    ("proxy-protocol", proxy_protocol),
    ("churn-under-load", churn),
    ("removed-service-keeps-connections", removed),
    ("udp-idle", udp_idle),
    ("udp-refused", udp_refused),
    ("traffic", traffic),
];

/// Says its number and ends.
fn greeter(number: u8) -> impl Fn(TcpStream) + Send + Sync + 'static {
    move |mut stream| drop(stream.write_all(&[number]))
}

fn ask(world: &World, to: SocketAddr) -> anyhow::Result<u8> {
    let mut answer = [0];
    world.connect(to)?.read_exact(&mut answer).context("no answer")?;
    Ok(answer[0])
}

/// An endpoint that refuses and one that is silent cost no connection while another one answers.
fn dial_retry() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let live = world.serve(1, greeter(1))?;
    let silent = SocketAddr::from(([192, 0, 2, 1], 8080));
    world.set(&web, &[live, address(2), silent]);
    world.sync()?;
    for _ in 0..6 {
        ensure!(ask(&world, to)? == 1, "another endpoint answered");
    }
    let failures = world.failures()["test/s-1"];
    ensure!((4..=12).contains(&failures), "{failures} failures");
    // With no endpoint left the client is told so by a reset.
    world.set(&web, &[address(2)]);
    world.sync()?;
    let mut end = Vec::new();
    if let Some(mut client) = world.connect_or_reset(to)? {
        let result = client.read_to_end(&mut end).map_err(|error| error.kind());
        ensure!(result == Err(std::io::ErrorKind::ConnectionReset) && end.is_empty(), "{result:?}");
    }
    Ok(())
}

/// If asked for, an endpoint that refuses is not asked again for a while.
fn resting() -> anyhow::Result<()> {
    let mut world = World::new(Options { rest: GUARD * 10, ..Options::default() })?;
    let (web, to) = service(1, Protocol::Tcp);
    let live = world.serve(1, greeter(1))?;
    world.set(&web, &[live, address(2)]);
    world.sync()?;
    for _ in 0..10 {
        ensure!(ask(&world, to)? == 1, "another endpoint answered");
    }
    ensure!(world.failures()["test/s-1"] == 1, "{:?}", world.failures());
    Ok(())
}

/// One side's end reaches the other, which continues talking.
fn half_close() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let counter = world.serve(1, |mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            let _ = stream.write_all(format!("{} bytes", all.len()).as_bytes());
        }
    })?;
    let (other, to_other) = service(2, Protocol::Tcp);
    let first = world.serve(2, |mut stream| {
        let _ = stream.write_all(b"that is all");
        let _ = stream.shutdown(Shutdown::Write);
        let mut all = Vec::new();
        // Reads on after its own end; what comes is the proof, kept open until the client has ended.
        if stream.read_to_end(&mut all).is_ok() {
            HEARD.store(all.len() as u64, Ordering::SeqCst);
        }
    })?;
    world.set(&web, &[counter]);
    world.set(&other, &[first]);
    world.sync()?;
    let mut client = world.connect(to)?;
    client.write_all(&[7; 1000])?;
    client.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    ensure!(answer == "1000 bytes", "{answer}");
    let mut client = world.connect(to_other)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    ensure!(answer == "that is all", "{answer}");
    client.write_all(&[7; 5000])?;
    client.shutdown(Shutdown::Write)?;
    eventually(GUARD, || {
        let heard = HEARD.load(Ordering::SeqCst);
        ensure!(heard == 5000, "the server heard {heard} bytes after its end");
        Ok(())
    });
    eventually(GUARD, || {
        ensure!(world.open() == 0, "{} connections are open", world.open());
        Ok(())
    });
    Ok(())
}

static HEARD: AtomicU64 = AtomicU64::new(0);

const BULK: usize = 48 << 20;

/// Much more than buffers hold, both ways at once, arrives whole although the readers are slow to begin.
fn bulk(splice: bool) -> anyhow::Result<()> {
    let mut world = World::new(Options { splice, ..Options::default() })?;
    let (web, to) = service(1, Protocol::Tcp);
    let echo = world.serve(1, |mut stream| {
        let mut buffer = vec![0; 1 << 18];
        std::thread::sleep(Duration::from_millis(200));
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    })?;
    world.set(&web, &[echo]);
    world.sync()?;
    let client = world.connect(to)?;
    let mut writer = client.try_clone()?;
    let sent = std::thread::spawn(move || -> std::io::Result<()> {
        for block in 0..BULK / BLOCK {
            writer.write_all(&pattern(block))?;
        }
        writer.shutdown(Shutdown::Write)
    });
    let mut reader = client;
    let mut buffer = vec![0; BLOCK];
    for block in 0..BULK / BLOCK {
        reader.read_exact(&mut buffer).with_context(|| format!("block {block}"))?;
        ensure!(buffer == pattern(block), "block {block} differs");
    }
    ensure!(reader.read(&mut buffer)? == 0, "more than was sent");
    sent.join().expect("the writer does not panic")?;
    let traffic = block_on(world.backend.traffic())?;
    let bytes = traffic[0].bytes.context("bytes are counted")?;
    ensure!(bytes.sent == BULK as u64 && bytes.received == BULK as u64, "{bytes:?}");
    Ok(())
}

const BLOCK: usize = 1 << 16;

fn pattern(block: usize) -> Vec<u8> {
    (0..BLOCK)
        .map(|at| (at.wrapping_mul(31).wrapping_add(block * 7) >> 3).to_le_bytes()[0])
        .collect()
}

/// A connection that breaks on one side breaks on the other.
fn reset() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let rude = world.serve(1, |mut stream| {
        // Closing with something unread resets.
        let _ = stream.peek(&mut [0]);
        let _ = stream.write_all(b"x");
    })?;
    world.set(&web, &[rude]);
    world.sync()?;
    let mut client = world.connect(to)?;
    client.write_all(b"unread")?;
    let mut buffer = [0; 1];
    client.read_exact(&mut buffer)?;
    let end = client.read(&mut buffer);
    ensure!(end.is_err(), "ended in order: {end:?}");
    Ok(())
}

/// The endpoint learns who the client is and where it connected to.
fn proxy_protocol() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (mut web, to) = service(1, Protocol::Tcp);
    let echo = world.serve(1, |mut stream| {
        let mut buffer = [0; 200];
        if let Ok(length) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..length]);
        }
    })?;
    let annotation = ("kube-proxy.io/userspace-proxy-protocol".into(), "v1".into());
    web.policy.annotations.extend([annotation]);
    world.set(&web, &[echo]);
    world.sync()?;
    let mut client = world.connect(to)?;
    let own = client.local_addr()?;
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    let expected = format!("PROXY TCP4 {} {} {} {}\r\n", own.ip(), to.ip(), own.port(), to.port());
    ensure!(said == expected, "{said:?}, not {expected:?}");
    Ok(())
}

/// Endpoints come and go; no connection fails while those that it may go to are there.
fn churn() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let mut endpoints = Vec::new();
    for number in 1..=4 {
        endpoints.push(world.serve(number, greeter(number))?);
    }
    world.set(&web, &endpoints);
    world.sync()?;
    let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let World { netns, .. } = &world;
    let probe = || -> anyhow::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect_timeout(&to, GUARD).context("connect")?;
            stream.set_read_timeout(Some(GUARD))?;
            stream.read_exact(&mut [0]).context("no answer")?;
            asked.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    // The world is changed while its namespace is used by others.
    let netns_path = netns.path();
    let file = std::fs::File::open(netns_path)?;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
                    probe()
                })
            })
            .collect();
        let mut round = 0_usize;
        let mut change = || -> anyhow::Result<()> {
            for _ in 0..30 {
                round += 1;
                let kept: Vec<_> = endpoints
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| {
                        *at != round % 4 && (!round.is_multiple_of(3) || at.is_multiple_of(2))
                    })
                    .map(|(_, endpoint)| *endpoint)
                    .collect();
                let before = asked.load(Ordering::Relaxed);
                world.set(&web, &kept);
                world.sync()?;
                eventually(GUARD, || {
                    ensure!(asked.load(Ordering::Relaxed) > before + 5, "no traffic");
                    Ok(())
                });
            }
            Ok(())
        };
        let result = change();
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.join().expect("no panic")?;
        }
        result
    })
}

/// A connection lives on when its service goes; new ones are not taken.
fn removed() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let echo = world.serve(1, |mut stream| {
        let mut buffer = [0; 8];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    })?;
    world.set(&web, &[echo]);
    world.sync()?;
    let mut client = world.connect(to)?;
    let mut ping = |text: &[u8; 4]| -> anyhow::Result<()> {
        client.write_all(text)?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer)?;
        ensure!(answer == *text, "{answer:?}");
        Ok(())
    };
    ping(b"one.")?;
    world.snapshot.services.clear();
    world.sync()?;
    ping(b"two.")?;
    let late = world.netns.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)));
    ensure!(late.is_err(), "a new connection to a service that is gone");
    ping(b"more")
}

fn udp_echo(world: &World, number: u8) -> anyhow::Result<SocketAddr> {
    let socket = world.netns.run(|| UdpSocket::bind(address(number)))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&[number], from);
        }
    });
    Ok(address(number))
}

fn udp_client(world: &World, to: SocketAddr, wait: Duration) -> anyhow::Result<UdpSocket> {
    let socket = world.netns.run(|| -> std::io::Result<_> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        Ok(socket)
    })?;
    socket.set_read_timeout(Some(wait))?;
    Ok(socket)
}

fn datagram(socket: &UdpSocket) -> anyhow::Result<u8> {
    socket.send(b"?")?;
    let mut answer = [0];
    socket.recv(&mut answer)?;
    Ok(answer[0])
}

/// A client stays with its endpoint while it talks, and is forgotten when it falls silent.
fn udp_idle() -> anyhow::Result<()> {
    let mut world = World::new(Options { udp_idle: Duration::from_secs(5), ..Options::default() })?;
    let (dns, to) = service(1, Protocol::Udp);
    let endpoints = [udp_echo(&world, 1)?, udp_echo(&world, 2)?];
    world.set(&dns, &endpoints);
    world.sync()?;
    let client = udp_client(&world, to, GUARD)?;
    let first = datagram(&client)?;
    for _ in 0..10 {
        ensure!(datagram(&client)? == first, "a session changed its endpoint");
    }
    ensure!(world.open() == 1, "{} sessions", world.open());
    eventually(GUARD, || {
        ensure!(world.open() == 0, "{} sessions", world.open());
        Ok(())
    });
    ensure!(datagram(&client)? != first, "the next in turn is the other one");
    // A session with an endpoint that goes is broken.
    let second = datagram(&client)?;
    world.set(&dns, &[address(3 - second)]);
    world.sync()?;
    ensure!(datagram(&client)? == first, "the endpoint that is left");
    Ok(())
}

/// An endpoint without that port costs one datagram, not the session.
fn udp_refused() -> anyhow::Result<()> {
    let mut world = World::new(Options { udp_idle: GUARD, ..Options::default() })?;
    let (dns, to) = service(1, Protocol::Udp);
    world.set(&dns, &[udp_echo(&world, 1)?, address(2)]);
    world.sync()?;
    for _ in 0..4 {
        // A datagram that an endpoint refuses has no answer.
        let client = udp_client(&world, to, Duration::from_secs(1))?;
        eventually(GUARD, || {
            ensure!(datagram(&client)? == 1, "another endpoint answered");
            Ok(())
        });
    }
    Ok(())
}

/// Connections and bytes are told by service port and by endpoint.
fn traffic() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let endpoints = [world.serve(1, greeter(1))?, world.serve(2, greeter(2))?];
    world.set(&web, &endpoints);
    world.sync()?;
    for _ in 0..6 {
        ask(&world, to)?;
    }
    let traffic = block_on(world.backend.traffic())?;
    let of = |endpoint: Option<SocketAddr>| {
        let found = traffic.iter().find(|traffic| traffic.endpoint == endpoint);
        found.map(|traffic| (traffic.connections, traffic.bytes.unwrap_or_default().received))
    };
    ensure!(of(None) == Some((6, 6)), "{traffic:?}");
    for endpoint in endpoints {
        ensure!(of(Some(endpoint)) == Some((3, 3)), "{traffic:?}");
    }
    Ok(())
}
