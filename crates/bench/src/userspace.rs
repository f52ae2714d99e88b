//! `cargo xtask bench userspace`: the userspace mode beside `HAProxy` in TCP mode and a direct connection.
//!
//! Everything is in one namespace and shares its cores, so what counts is work for processor time of the proxy.
//! Both proxies get their connections by a redirecting rule, two threads each.

mod load;

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use kube_proxy_core::IpFamily;
use kube_proxy_testkit::kube_proxy::{self, KubeProxy};
use kube_proxy_testkit::netns::Netns;
use kube_proxy_testkit::say;
use tokio::runtime::Runtime;

use crate::usage;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Seconds for each figure
    #[arg(long, value_name = "S", default_value_t = 3)]
    seconds: u64,
    /// Idle connections
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    idle: usize,
}

const SERVER: &str = "10.244.0.1:8080";
const SERVICE: &str = "10.96.0.10:80";
const HAPROXY_SERVICE: &str = "10.96.0.11:80";
const HAPROXY_PORT: u16 = 9000;

const MANIFEST: &str = "\
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports: [{ name: p, port: 80, protocol: TCP }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web, namespace: default, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: p, port: 8080, protocol: TCP }]
endpoints: [{ addresses: [10.244.0.1] }]
";

const HAPROXY: &str = "\
global
  nbthread 2
  maxconn MOST
  maxpipes 128
defaults
  mode tcp
  option splice-request
  option splice-response
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen web
  bind 0.0.0.0:9000
  server a 10.244.0.1:8080
";

/// One of those that are compared.
struct Contender {
    name: &'static str,
    to: &'static str,
    /// Its process.
    pid: Option<u32>,
}

/// The figures of one round.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// MB/s, and MB for each second of processor time of the proxy.
    streams: [[f64; 2]; 2],
    /// Each second, and for each second of processor time of the proxy.
    connections: [f64; 2],
    /// Microseconds: median and 99th percentile.
    latency: [f64; 2],
    /// Bytes of resident memory for each connection.
    idle: f64,
}

/// Runs the benchmark.
///
/// # Errors
/// When a program is missing or a connection fails.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let most = most_connections()?;
    let idle = arguments.idle.min(most);
    if idle < arguments.idle {
        say!("{idle} idle connections: the limit of open files allows no more");
    }
    let netns = Netns::create("bench")?;
    netns.ip("route add 10.96.0.0/16 dev lo\naddress add 10.244.0.1/32 dev lo")?;
    // Connections that have ended do not fill up ports and tables.
    netns.sysctl(&[
        ("ipv4/ip_local_port_range", "10000 65000"),
        ("ipv4/tcp_max_tw_buckets", "1000"),
        ("core/somaxconn", "4096"),
    ])?;
    let directory = tempfile::tempdir()?;
    let (manifest, config) =
        (directory.path().join("web.yaml"), directory.path().join("haproxy.cfg"));
    fs::write(&manifest, MANIFEST)?;
    // More than it has descriptors for it refuses to start with.
    fs::write(&config, HAPROXY.replace("MOST", &most.to_string()))?;
    let proxy = start(&netns, &manifest)?;
    let timeouts = [
        "netfilter/nf_conntrack_tcp_timeout_time_wait",
        "netfilter/nf_conntrack_tcp_timeout_close",
    ];
    netns.sysctl(&timeouts.map(|key| (key, "1")))?;
    let mut haproxy = Haproxy::start(&netns, &config)?;
    let contenders = [
        Contender { name: "direct", to: SERVER, pid: None },
        Contender { name: "HAProxy", to: HAPROXY_SERVICE, pid: Some(haproxy.0.id()) },
        Contender { name: "userspace mode", to: SERVICE, pid: Some(proxy.pid()) },
    ];
    let figures = netns.run(|| -> anyhow::Result<Vec<Vec<Figures>>> {
        // A runtime of two threads inside the namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(SERVER))?;
        runtime.spawn(load::serve(listener));
        let mut all = vec![Vec::new(); contenders.len()];
        for round in 0..arguments.rounds {
            for (contender, figures) in contenders.iter().zip(&mut all) {
                say!("round {}: {}", round + 1, contender.name);
                figures.push(measure(&runtime, contender, arguments, idle)?);
            }
        }
        Ok(all)
    })?;
    haproxy.stop();
    print(&contenders, &figures);
    Ok(())
}

/// Lets this process open as many files as it may, and says how many connections to its own server that allows:
/// both ends of each are in this process, as are two sockets of the proxy in that one.
fn most_connections() -> anyhow::Result<usize> {
    let own = std::process::id().to_string();
    let prlimit = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new("prlimit").args(["--pid", &own]).args(arguments).output();
        let output = output.context("cannot start `prlimit`: install the package util-linux")?;
        Ok(String::from_utf8(output.stdout)?)
    };
    // Above the hard limit it takes CAP_SYS_RESOURCE.
    prlimit(&["--nofile=65536:65536"])?;
    let hard = prlimit(&["--nofile", "--noheadings", "--raw", "--output=HARD"])?;
    prlimit(&[&format!("--nofile={}:{}", hard.trim(), hard.trim())])?;
    let hard: usize = hard.trim().parse().context("the limit of open files")?;
    Ok(hard.saturating_sub(600) / 2)
}

fn start(netns: &Netns, manifest: &std::path::Path) -> anyhow::Result<KubeProxy> {
    let mut command = Command::new(kube_proxy::binary()?);
    command.args(["--proxy-mode=userspace", "--hostname-override=bench", "--iptables-variant=nft"]);
    command.arg(format!("--manifests={}", manifest.display()));
    let proxy = KubeProxy::start(netns, command)?;
    let guard = Duration::from_mins(1);
    proxy.wait_until_synced(netns, kube_proxy::METRICS, &[IpFamily::V4], guard)?;
    let port = HAPROXY_PORT.to_string();
    let words = "-t nat -A OUTPUT -d 10.96.0.11/32 -p tcp --dport 80 -j REDIRECT --to-ports";
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.push(&port);
    netns.output("iptables-nft", &arguments)?;
    Ok(proxy)
}

/// A running `HAProxy`, killed in the end.
struct Haproxy(Child);

impl Haproxy {
    fn start(netns: &Netns, config: &std::path::Path) -> anyhow::Result<Self> {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config).stdout(Stdio::null());
        let child = netns.run(|| command.spawn()).context("cannot start haproxy")?;
        let haproxy = Self(child);
        let to = SocketAddr::from(([127, 0, 0, 1], HAPROXY_PORT));
        for _ in 0..100 {
            if netns.run(|| std::net::TcpStream::connect(to)).is_ok() {
                return Ok(haproxy);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("haproxy does not listen");
    }

    fn stop(&mut self) {
        // Its end is all that is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        self.stop();
    }
}

fn measure(
    runtime: &Runtime,
    contender: &Contender,
    arguments: &Arguments,
    idle: usize,
) -> anyhow::Result<Figures> {
    let to: SocketAddr = contender.to.parse()?;
    let time = Duration::from_secs(arguments.seconds);
    let mut figures = Figures::default();
    let cpu = || contender.pid.map_or(Ok(Duration::ZERO), usage::cpu);
    for (streams, figure) in [1, 64].into_iter().zip(&mut figures.streams) {
        let before = cpu()?;
        let rate = runtime.block_on(load::throughput(to, streams, time))? / 1e6;
        let used = cpu()?.saturating_sub(before).as_secs_f64();
        // The warm-up counts for both.
        *figure = [rate, rate * time.as_secs_f64() * 1.25 / used];
        std::thread::sleep(Duration::from_millis(300));
    }
    let before = cpu()?;
    let rate = runtime.block_on(load::connections(to, 32, time))?;
    let used = cpu()?.saturating_sub(before).as_secs_f64();
    figures.connections = [rate, rate * time.as_secs_f64() / used];
    let latencies = runtime.block_on(load::latencies(to, 1000, time))?;
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1e6;
    figures.latency = [at(50), at(99)];
    if let Some(pid) = contender.pid {
        let before = resident(pid)?;
        let connections = runtime.block_on(load::idle(to, idle))?;
        let grown = resident(pid)?.saturating_sub(before);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = grown as f64 / connections.len() as f64;
        figures.idle = each;
        drop(connections);
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(figures)
}

/// Resident memory, in bytes.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("/proc/PID/status has no VmRSS")? * 1024)
}

/// A row of the table: what it shows, which figure, and how many decimals.
type Row = (&'static str, fn(&Figures) -> f64);

fn print(contenders: &[Contender; 3], figures: &[Vec<Figures>]) {
    let rows: [Row; 9] = [
        ("1 stream, MB/s", |f| f.streams[0][0]),
        ("1 stream, MB per processor second of the proxy", |f| f.streams[0][1]),
        ("64 streams, MB/s", |f| f.streams[1][0]),
        ("64 streams, MB per processor second of the proxy", |f| f.streams[1][1]),
        ("connections/s, 32 clients", |f| f.connections[0]),
        ("connections per processor second of the proxy", |f| f.connections[1]),
        ("request at 1000/s, median, µs", |f| f.latency[0]),
        ("request at 1000/s, 99th percentile, µs", |f| f.latency[1]),
        ("resident bytes per idle connection, first round", |f| f.idle),
    ];
    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    say!("| median | {} |", names.join(" | "));
    say!("|---|---|---|---|");
    for (what, figure) in rows {
        let first_only = what.ends_with("first round");
        let cells = figures.iter().map(|rounds| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            if !first_only {
                values.sort_by(f64::total_cmp);
            }
            let value = values[if first_only { 0 } else { values.len() / 2 }];
            if value.is_finite() && value > 0.0 { format!("{value:.0}") } else { "-".to_owned() }
        });
        say!("| {what} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
