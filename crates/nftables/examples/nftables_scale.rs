//! Measures the backend on the running kernel, in a network namespace of its own:
//!
//! ```text
//! cargo run --profile quick-release -p kube-proxy-nftables --example nftables_scale -- 10000 10
//! ```
//!
//! The numbers are those of Services and of endpoints of each; the name of an algorithm may follow.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::executor::block_on;
use kube_proxy_core::{
    Algorithm, CheckWaker, EndpointSlice, Event, IpFamily, Kind, LocalTrafficDetector,
    NodePortAddresses, ObjectName, Port, Protocol, ProxyBackend as _, Scope, Service,
    SliceEndpoint, SlicePort, Tracker, TrackerOptions,
};
use kube_proxy_nftables::{Config, NftablesBackend};
use kube_proxy_testkit::sandbox;

#[expect(clippy::print_stdout, reason = "the measurements are the output")]
fn main() -> anyhow::Result<()> {
    sandbox::enter_or_reexec();
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let services = numbers.next().unwrap_or(Ok(10_000)).context("number of Services")?;
    let endpoints = numbers.next().unwrap_or(Ok(10)).context("number of endpoints")?;
    let algorithm = std::env::args().nth(3).map(|name| name.parse::<Algorithm>());
    let algorithm = algorithm.transpose().map_err(anyhow::Error::msg)?;
    println!("{services} Services, {endpoints} endpoints each, IPv4");

    let mut tracker = tracker(services, endpoints, algorithm);
    tracker.fold();
    println!("before the backend: {} resident now", status("VmRSS")?);

    let (mut backend, took) = timed(|| NftablesBackend::new(config()));
    let backend = backend.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
    println!("probe of the kernel: {took:?}");
    backend.set_waker(CheckWaker::new(|| {}));
    tracker.offer_algorithms(backend.algorithms());
    tracker.fold();

    let (result, took) = timed(|| block_on(backend.sync(tracker.snapshot(), Scope::Full)));
    result?;
    println!("first sync: {took:?}, {:?}", backend.last_sync());
    println!("after it: {} resident now, {} at most", status("VmRSS")?, status("VmHWM")?);

    let replaced =
        rounds(backend, &mut tracker, |round| slice(round * 97 % services, endpoints, round + 1))?;
    println!("one endpoint replaced: {replaced}");
    let more =
        rounds(backend, &mut tracker, |round| slice(round * 89 % services, endpoints + 1, 0))?;
    println!("one endpoint more: {more}");
    println!("a step of slow start: {}", steps(backend, &mut tracker, services, endpoints)?);

    let (intact, took) = timed(|| block_on(backend.intact()));
    println!("check that nothing changed: {took:?}, {}", intact?);

    let mut again = NftablesBackend::new(config())?;
    let (result, took) = timed(|| block_on(again.sync(tracker.snapshot(), Scope::Full)));
    result?;
    println!("restart: {took:?}, {:?}", again.last_sync());
    println!("after it: {} resident now, {} at most", status("VmRSS")?, status("VmHWM")?);

    let (result, took) = timed(|| kube_proxy_nftables::remove(IpFamily::V4));
    result?;
    println!("removed: {took:?}");
    Ok(())
}

fn config() -> Config {
    Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::InterfacePrefix("veth".into()),
        node_ports: NodePortAddresses::All,
        refused_on_loopback: Vec::new(),
        offload_after: None,
        count_refused: true,
        fast_path_choice: true,
    }
}

/// Syncs after each of a hundred changes.
fn rounds(
    backend: &mut NftablesBackend,
    tracker: &mut Tracker,
    change: impl Fn(u32) -> Event,
) -> anyhow::Result<String> {
    let mut all = Vec::new();
    for round in 0..100 {
        tracker.apply(change(round));
        all.push(sync(backend, tracker)?);
    }
    Ok(summary(all, backend))
}

/// Syncs at each step of the new endpoints of ten Services, the first of which only makes the endpoint known.
fn steps(
    backend: &mut NftablesBackend,
    tracker: &mut Tracker,
    services: u32,
    endpoints: u32,
) -> anyhow::Result<String> {
    let slow = "1h".parse().map_err(anyhow::Error::msg)?;
    let mut now = Instant::now();
    let mut all = Vec::new();
    for round in 0..10 {
        let number = round * 83 % services;
        let mut service = service(number, None);
        service.policy.slow_start = Some(slow);
        tracker.tell_time(now);
        tracker.apply(Event::ServiceApplied(Arc::new(service)));
        tracker.apply(slice(number, endpoints, 0));
        sync(backend, tracker)?;
        tracker.apply(slice(number, endpoints + 1, 0));
        sync(backend, tracker)?;
        while let Some(due) = tracker.step_due() {
            now = due;
            tracker.tell_time(now);
            all.push(sync(backend, tracker)?);
        }
    }
    Ok(summary(all, backend))
}

/// How long the sync of all changes takes.
fn sync(backend: &mut NftablesBackend, tracker: &mut Tracker) -> anyhow::Result<Duration> {
    let changes = tracker.fold();
    let (result, took) =
        timed(|| block_on(backend.sync(tracker.snapshot(), Scope::Partial(&changes))));
    result?;
    Ok(took)
}

fn summary(mut all: Vec<Duration>, backend: &NftablesBackend) -> String {
    all.sort_unstable();
    let at = |index: usize| all.get(index).copied().unwrap_or_default();
    let (median, worst) = (at(all.len() / 2), at(all.len().saturating_sub(1)));
    format!(
        "{} times, median {median:?}, worst {worst:?}, last {:?}",
        all.len(),
        backend.last_sync()
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A line of `/proc/self/status`.
fn status(key: &str) -> anyhow::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.context("no such line in /proc/self/status")?.trim().to_owned())
}

fn tracker(services: u32, endpoints: u32, algorithm: Option<Algorithm>) -> Tracker {
    let mut tracker = Tracker::new(TrackerOptions {
        family: IpFamily::V4,
        node_name: "node-0".into(),
        node_ip: None,
        allow_external_ips: true,
        no_local_endpoints: kube_proxy_core::NoLocalEndpoints::Drop,
        zone_spill: kube_proxy_core::ZoneSpill::default(),
    });
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListStarted(kind));
    }
    for number in 0..services {
        tracker.apply(Event::ServiceApplied(Arc::new(service(number, algorithm))));
        tracker.apply(slice(number, endpoints, 0));
    }
    for kind in [Kind::Service, Kind::EndpointSlice] {
        tracker.apply(Event::ListDone(kind));
    }
    tracker
}

fn service(number: u32, algorithm: Option<Algorithm>) -> Service {
    let mut service = Service::new(name(number));
    service.cluster_ips.v4 = Some(ip(Ipv4Addr::new(10, 96, 1, 0), number));
    service.ports = vec![Port {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: port(80),
        node_port: None,
    }];
    service.policy.algorithm = algorithm;
    service
}

/// The endpoints of a Service; in another round the first of them is another one.
fn slice(service: u32, endpoints: u32, round: u32) -> Event {
    let addresses = (0..endpoints).map(|endpoint| {
        let fresh = if endpoint == 0 && round > 0 { 0x40_0000 + round } else { 0 };
        ip(Ipv4Addr::new(10, 128, 0, 0), (service * 61 + endpoint) % 0x40_0000 + fresh)
    });
    let nodes = |number: usize| Some(format!("node-{}", number % 100).into());
    let ready = addresses.enumerate();
    let endpoints = ready
        .map(|(number, ip)| SliceEndpoint { node: nodes(number), ..SliceEndpoint::ready(ip) })
        .collect();
    Event::EndpointSliceApplied(EndpointSlice {
        name: ObjectName::new("scale", format!("svc-{service:05}-1")),
        service: name(service).name,
        family: IpFamily::V4,
        ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: port(8080) }],
        endpoints,
        trigger_time: None,
    })
}

fn name(service: u32) -> ObjectName {
    ObjectName::new("scale", format!("svc-{service:05}"))
}

fn ip(base: Ipv4Addr, offset: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(base) + offset).into()
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("not zero")
}
