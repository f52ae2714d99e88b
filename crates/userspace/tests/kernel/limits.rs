//! Many connections, many services, and things that run out.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::ensure;
use kube_proxy_core::Protocol;
use kube_proxy_testkit::eventually::eventually;
use kube_proxy_xtables::Variant;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::Test;
use crate::world::{GUARD, Options, World, address, service};

pub(crate) const TESTS: &[Test] = &[
    ("idle-connections", idle),
    ("services-come-and-go", thousand_services),
    ("many-services-removed", many_removed),
    ("port-exhaustion", ports_run_out),
    ("descriptor-exhaustion", descriptors_run_out),
];

/// What 10,000 idle connections may hold on the heap, each, in bytes.
const PER_CONNECTION: usize = 3 * 1024;

static IDLE: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());

/// Idle connections hold little; counted on the heap, not on a clock.
fn idle() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let listener = world.netns.run(|| std::net::TcpListener::bind(address(1)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            IDLE.lock().expect("no panic").push(stream);
        }
    });
    world.set(&web, &[address(1)]);
    world.sync()?;
    // Four descriptors each in this process, of which the proxy has two. Without privileges the limit stays as it is.
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let count = usize::try_from((limit.saturating_sub(500) / 4).max(limit / 16))?.min(10_000);
    IDLE.lock().expect("no panic").reserve(count + 1);
    let mut clients = Vec::with_capacity(count);
    clients.push(world.connect(to)?);
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get().curr_bytes;
    world.netns.run(|| -> std::io::Result<()> {
        for _ in 1..count {
            clients.push(TcpStream::connect(to)?);
        }
        Ok(())
    })?;
    eventually(GUARD, || {
        ensure!(world.open() == count as u64, "{} of {count} are open", world.open());
        Ok(())
    });
    let after = dhat::HeapStats::get().curr_bytes;
    let each = after.saturating_sub(before) / count;
    ensure!(each <= PER_CONNECTION, "{each} bytes for each of {count} connections");
    drop(clients);
    IDLE.lock().expect("no panic").clear();
    eventually(GUARD, || {
        ensure!(world.open() == 0, "{} are open", world.open());
        Ok(())
    });
    Ok(())
}

pub(crate) fn descriptors() -> anyhow::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// 1,000 services leave no descriptor behind.
fn thousand_services() -> anyhow::Result<()> {
    // Without privileges the kernel takes no transaction of that size from the nft programs.
    let mut world = World::new(Options { variant: Variant::Legacy, ..Options::default() })?;
    world.sync()?;
    let before = descriptors()?;
    for number in 1..=1000 {
        let protocol = if number % 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
        world.set(&service(number, protocol).0, &[address(1)]);
    }
    let report = world.sync()?;
    ensure!(report.refused == 0, "{report:?}");
    let during = descriptors()?;
    ensure!(during >= before + 1000, "{before} descriptors, then {during}");
    world.snapshot.services.clear();
    world.sync()?;
    eventually(GUARD, || {
        let after = descriptors()?;
        ensure!(after <= before, "{before} descriptors before, {after} after");
        Ok(())
    });
    Ok(())
}

/// Half of the services go in one partial sync: what is left are exactly the rules of the others, and they are served.
fn many_removed() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let greeter = world.serve(1, |mut stream| {
        use std::io::Write as _;
        let _ = stream.write_all(b"x");
    })?;
    for number in 1..=60 {
        let (mut service, _) = service(number, Protocol::Tcp);
        service.ports[0].node_port = std::num::NonZeroU16::new(30_000 + number);
        world.set(&service, &[greeter]);
    }
    world.sync()?;
    let gone: std::collections::BTreeSet<_> =
        world.snapshot.services.keys().skip(30).cloned().collect();
    world.snapshot.services.retain(|name, _| !gone.contains(name));
    let report = world.sync_only(gone)?;
    let rules = |world: &World| -> anyhow::Result<Vec<String>> {
        let all = world.netns.output("iptables-nft-save", &[])?;
        let ours = all.lines().filter(|line| line.starts_with("-A KUBE-")).map(str::to_owned);
        let mut ours: Vec<_> = ours.collect();
        ours.sort_unstable();
        Ok(ours)
    };
    let after = rules(&world)?;
    // Two for each address and two for each node port, and one that lets in what was redirected.
    ensure!(after.len() == 30 * 5, "{} rules", after.len());
    let written: usize = report.counts.iter().map(|count| count.written).sum();
    ensure!(written == after.len(), "{written} rules were written, each once");
    world.sync()?;
    ensure!(rules(&world)? == after, "a full sync writes something else");
    for number in 1..=60 {
        let (service, to) = service(number, Protocol::Tcp);
        let (name, _) = service.service_ports(kube_proxy_core::IpFamily::V4).remove(0);
        if world.snapshot.services.contains_key(&name) {
            world.connect(to)?.read_exact(&mut [0])?;
        } else {
            ensure!(closed(&world, to), "{name} is still served");
        }
    }
    Ok(())
}

fn closed(world: &World, to: SocketAddr) -> bool {
    // Accepted by no listener: not even a connection.
    let limit = Duration::from_millis(300);
    world.netns.run(|| TcpStream::connect_timeout(&to, limit)).is_err()
}

/// Services without a port are said to be refused, and get one when one is free.
fn ports_run_out() -> anyhow::Result<()> {
    let mut world = World::new(Options { range: Some(20_000..=20_002), ..Options::default() })?;
    let echo = world.serve(1, |_| ())?;
    let services: Vec<_> = (1..=5).map(|number| service(number, Protocol::Tcp)).collect();
    for (service, _) in &services {
        world.set(service, &[echo]);
    }
    let report = world.sync()?;
    ensure!(report.refused == 2, "{report:?}");
    ensure!(world.is_intact()?, "nothing would get better");
    let served = |world: &World| services.iter().filter(|(_, to)| !closed(world, *to)).count();
    ensure!(served(&world) == 3, "{} are served", served(&world));
    // The first by name have a port.
    let gone = world.snapshot.services.keys().next().cloned();
    world.snapshot.services.remove(&gone.expect("there are some"));
    // Its port is free only once connections on their way had their time.
    world.sync()?;
    eventually(GUARD, || {
        if !world.is_intact()? {
            world.sync()?;
        }
        ensure!(served(&world) == 3, "{} are served", served(&world));
        Ok(())
    });
    let report = world.sync()?;
    ensure!(report.refused == 1, "{report:?}");
    Ok(())
}

/// Without descriptors clients wait, and are served when there are some again.
fn descriptors_run_out() -> anyhow::Result<()> {
    let mut world = World::new(Options::default())?;
    let (web, to) = service(1, Protocol::Tcp);
    let greeter = world.serve(1, |mut stream| {
        use std::io::Write as _;
        let _ = stream.write_all(b"x");
    })?;
    world.set(&web, &[greeter]);
    world.sync()?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let mut client = world.connect(to)?;
    client.read_exact(&mut [0])?;
    drop(client);
    eventually(GUARD, || {
        ensure!(world.open() == 0, "{} are open", world.open());
        Ok(())
    });
    // The client's own socket is made before the limit falls below what is in use.
    let mut waiting = world.netns.run(|| Socket::new(Domain::IPV4, Type::STREAM, None))?;
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard)?;
    let connected = waiting.connect(&to.into());
    let early = waiting
        .set_read_timeout(Some(Duration::from_millis(300)))
        .and_then(|()| waiting.read(&mut [0]));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    connected?;
    ensure!(early.is_err(), "served without a descriptor: {early:?}");
    waiting.set_read_timeout(Some(GUARD))?;
    ensure!(waiting.read(&mut [0])? == 1, "not served afterwards");
    Ok(())
}
