//! Measures syncs of many services into the network namespace it is started in.
//!
//! ```text
//! unshare --net --mount sh -c 'mount -t tmpfs none /run; target/quick-release/examples/iptables_scale legacy 10000 10'
//! ```
//!
//! Never start it outside a namespace of its own: it writes rules and leaves them.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use futures::executor::block_on;
use kube_proxy_core::endpoint::{NodeHint, Place};
use kube_proxy_core::{
    Changes, Conditions, Endpoint, IpFamily, LocalTrafficDetector, NodePortAddresses, ObjectName,
    Port, Protocol, ProxyBackend, Scope, Service, ServiceEntry, Snapshot, SyncReport, topology,
};
use kube_proxy_iptables::{Config, IptablesBackend, Variant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let variant = match arguments.next().as_deref() {
        Some("legacy") => Variant::Legacy,
        Some("nft") => Variant::Nft,
        _ => return Err("usage: scale legacy|nft SERVICES ENDPOINTS".into()),
    };
    let mut number = || -> Result<u32, Box<dyn Error>> {
        Ok(arguments.next().ok_or("a number is missing")?.parse::<u32>()?)
    };
    let (services, endpoints) = (number()?, number()?);
    let mut snapshot = snapshot(services, endpoints)?;

    let stopwatch = Stopwatch::start()?;
    let mut backend = IptablesBackend::new(config(variant))?;
    stopwatch.print("start", None)?;

    let stopwatch = Stopwatch::start()?;
    let report = block_on(backend.sync(&snapshot, Scope::Full))?;
    stopwatch.print("full sync, nothing there", Some(&report))?;

    for round in 0..5 {
        let changes = change_one_endpoint(&mut snapshot, services / 2, round)?;
        let stopwatch = Stopwatch::start()?;
        let report = block_on(backend.sync(&snapshot, Scope::Partial(&changes)))?;
        stopwatch.print("one endpoint", Some(&report))?;
    }
    let stopwatch = Stopwatch::start()?;
    block_on(backend.sync(&snapshot, Scope::Partial(&Changes::default())))?;
    stopwatch.print("nothing changed", None)?;

    let stopwatch = Stopwatch::start()?;
    let intact = block_on(backend.intact())?;
    stopwatch.print(if intact { "intact" } else { "not intact" }, None)?;

    let stopwatch = Stopwatch::start()?;
    let report = block_on(backend.sync(&snapshot, Scope::Full))?;
    stopwatch.print("full sync, all there", Some(&report))?;

    let status = std::fs::read_to_string("/proc/self/status")?;
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
    {
        out(line);
    }
    Ok(())
}

/// Measures time passed, and processor time of this process and of the programs it ran.
struct Stopwatch {
    start: Instant,
    own: f64,
    programs: f64,
}

impl Stopwatch {
    fn start() -> Result<Self, Box<dyn Error>> {
        let (own, programs) = processor_seconds()?;
        let start = Instant::now();
        Ok(Self { start, own, programs })
    }

    fn print(&self, what: &str, report: Option<&SyncReport>) -> Result<(), Box<dyn Error>> {
        let elapsed = self.start.elapsed();
        let (own, programs) = processor_seconds()?;
        let counts: Vec<String> = report
            .into_iter()
            .flat_map(|report| &report.counts)
            .map(|count| format!("{} {} of {}", count.kind, count.written, count.total))
            .collect();
        out(&format!(
            "{what:<25} {elapsed:>10.1?}   processor: own {:.2} s, programs {:.2} s   {}",
            own - self.own,
            programs - self.programs,
            counts.join(", ")
        ));
        Ok(())
    }
}

/// Of this process, and of its children that have ended; `proc_pid_stat(5)` counts in hundredths of a second.
fn processor_seconds() -> Result<(f64, f64), Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("/proc/self/stat has no name in it")?;
    let times: Vec<f64> =
        fields.split(' ').skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    match times[..] {
        [user, system, programs_user, programs_system] => {
            Ok(((user + system) / 100.0, (programs_user + programs_system) / 100.0))
        }
        _ => Err("/proc/self/stat is too short".into()),
    }
}

#[expect(clippy::print_stdout, reason = "this program is there to print")]
fn out(line: &str) {
    println!("{line}");
}

fn config(variant: Variant) -> Config {
    Config {
        family: IpFamily::V4,
        masquerade_all: false,
        masquerade_mark: 0x4000,
        local_traffic: LocalTrafficDetector::Cidr("10.0.0.0/8".parse().expect("this is a network")),
        node_ports: NodePortAddresses::All,
        localhost_node_ports: false,
        drop_invalid: true,
        variant,
    }
}

fn snapshot(services: u32, endpoints: u32) -> Result<Snapshot, Box<dyn Error>> {
    let mut snapshot = Snapshot::new(IpFamily::V4);
    let port = NonZeroU16::new(80).ok_or("0 is no port")?;
    for number in 0..services {
        let mut service = Service::new(ObjectName::new("scale", format!("service-{number}")));
        let cluster_ip = Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 1).to_bits() + number * 5);
        service.cluster_ips.v4 = Some(IpAddr::V4(cluster_ip));
        service.ports.push(Port {
            name: Arc::from("http"),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        });
        for (name, port) in service.service_ports(IpFamily::V4) {
            let all: Arc<[Endpoint]> =
                (0..endpoints).map(|index| endpoint(number * endpoints + index)).collect();
            let choice = topology::choose(&port, &all, None);
            snapshot.endpoint_count += all.len();
            let entry = ServiceEntry { port, endpoints: all, choice };
            snapshot.services.insert(name, Arc::new(entry));
        }
    }
    Ok(snapshot)
}

fn endpoint(number: u32) -> Endpoint {
    Endpoint {
        ip: IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + number)),
        port: NonZeroU16::MIN.saturating_add(8079),
        conditions: Conditions::default(),
        place: if number.is_multiple_of(1000) { Place::ThisNode } else { Place::OtherNode },
        node_hint: NodeHint::Absent,
        steering: None,
    }
}

/// Replaces the first endpoint of one service.
fn change_one_endpoint(
    snapshot: &mut Snapshot,
    service: u32,
    round: u32,
) -> Result<Changes, Box<dyn Error>> {
    let wanted = format!("service-{service}");
    let (name, entry) = snapshot
        .services
        .iter_mut()
        .find(|(name, _)| *name.service.name == *wanted)
        .ok_or("there is no such service")?;
    let mut endpoints = entry.endpoints.to_vec();
    if let Some(first) = endpoints.first_mut() {
        first.ip = IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(10, 255, 0, 1).to_bits() + round));
    }
    let entry = Arc::make_mut(entry);
    entry.endpoints = endpoints.into();
    entry.choice = topology::choose(&entry.port, &entry.endpoints, None);
    let mut changes = Changes::default();
    changes.services.insert(name.clone());
    Ok(changes)
}
