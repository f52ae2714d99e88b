//! What the proxies of many nodes cost the API server: bytes and processor time, in each encoding.

mod client;
mod program;
mod relay;
mod server;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use kube_proxy_testkit::generate::Scale;
use serde_json::{Value, json};

use client::{Clients, Settings};
use program::Program;
use server::Server;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";

/// What is measured, and of what.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Number of Services
    #[arg(long, default_value_t = 10_000)]
    services: usize,
    /// Endpoints of each Service
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// How many proxies start at once; each is the list and watch of one, without rules
    #[arg(long, default_value_t = 4)]
    clients: usize,
    /// How many endpoints are changed, one after the other
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// A kube-apiserver to measure in place of the one for tests; needs etcd, openssl and curl on the path
    #[arg(long, value_name = "PATH")]
    apiserver: Option<PathBuf>,
    /// A whole kube-proxy to measure as well, alone, in nftables mode; may be repeated
    #[arg(long, value_name = "PATH")]
    program: Vec<PathBuf>,
}

/// One row of the table.
struct Row {
    name: &'static str,
    content_type: &'static str,
    compression: bool,
}

/// What one row costs.
struct Costs {
    start_bytes: u64,
    start_time: Duration,
    change_bytes: u64,
    change_time: Duration,
}

/// Lists that are watches are never compressed, so there is one row less.
const STREAMING: &[Row] = &[
    Row { name: "JSON", content_type: JSON, compression: true },
    Row { name: "protobuf", content_type: PROTOBUF, compression: true },
];

const PAGES: &[Row] = &[
    Row { name: "JSON", content_type: JSON, compression: false },
    Row { name: "JSON, gzip", content_type: JSON, compression: true },
    Row { name: "protobuf", content_type: PROTOBUF, compression: false },
    Row { name: "protobuf, gzip", content_type: PROTOBUF, compression: true },
];

/// Measures all of them and prints a table.
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.clients > 0 && arguments.changes > 0, "there is nothing to measure");
    println!(
        "| lists | encoding | bytes at start | API server, a start | bytes of a change | API server, a change |"
    );
    println!("|---|---|---|---|---|---|");
    for (how, streaming, rows) in [("streaming", true, STREAMING), ("pages", false, PAGES)] {
        let scale = Scale::new(arguments.services, arguments.endpoints);
        let server = Server::start(arguments.apiserver.as_deref(), &scale, streaming)?;
        for row in rows {
            print(how, row.name, &measure(arguments, &server, &scale, row)?);
        }
        for path in &arguments.program {
            let costs = measure_program(arguments, &server, &scale, path)?;
            print(how, &path.display().to_string(), &costs);
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn print(how: &str, name: &str, costs: &Costs) {
    println!(
        "| {how} | {name} | {:.2} MB | {:.0} ms | {} B | {:.2} ms |",
        megabytes(costs.start_bytes),
        milliseconds(costs.start_time),
        costs.change_bytes,
        milliseconds(costs.change_time),
    );
}

fn measure(
    arguments: &Arguments,
    server: &Server,
    scale: &Scale,
    row: &Row,
) -> anyhow::Result<Costs> {
    let settings = Settings {
        kubeconfig: server.kubeconfig(row.compression)?,
        content_type: row.content_type,
    };
    // One start beforehand: the server for tests encodes each object once and keeps that.
    drop(Clients::start(&settings, 1)?);
    let (bytes, time) = (server.bytes_sent(), server.processor_time()?);
    let clients = Clients::start(&settings, arguments.clients)?;
    let start_bytes = server.bytes_sent() - bytes;
    let start_time = server.processor_time()?.saturating_sub(time);
    let (bytes, time, seen) = (server.bytes_sent(), server.processor_time()?, clients.slices());
    for change in 0..arguments.changes {
        server.patch_slice(
            &scale.slices(change % arguments.services)[0],
            &endpoints(scale, change),
        )?;
    }
    clients.wait_for_slices(seen + arguments.changes * arguments.clients)?;
    let each = (arguments.clients * arguments.changes) as u64;
    let all = u32::try_from(arguments.changes)?;
    Ok(Costs {
        start_bytes: start_bytes / arguments.clients as u64,
        start_time: start_time / u32::try_from(arguments.clients)?,
        change_bytes: (server.bytes_sent() - bytes) / each,
        change_time: server.processor_time()?.saturating_sub(time) / all,
    })
}

/// As many starts as there are clients, one after the other; the last one sees the changes.
fn measure_program(
    arguments: &Arguments,
    server: &Server,
    scale: &Scale,
    path: &Path,
) -> anyhow::Result<Costs> {
    // One start beforehand, as for the others.
    drop(Program::start(path, server)?);
    let (mut start_bytes, mut start_time) = (0, Duration::ZERO);
    for _ in 1..arguments.clients {
        let (program, (bytes, time)) = Program::start(path, server)?;
        drop(program);
        start_bytes += bytes;
        start_time += time;
    }
    let (mut program, (bytes, time)) = Program::start(path, server)?;
    let mark = program.mark()?;
    for change in 0..arguments.changes {
        let slice = &scale.slices(change % arguments.services)[0];
        server.patch_slice(slice, &endpoints(scale, change))?;
    }
    let (change_bytes, change_time) = program.until_quiet(mark)?;
    Ok(Costs {
        start_bytes: (start_bytes + bytes) / arguments.clients as u64,
        start_time: (start_time + time) / u32::try_from(arguments.clients)?,
        change_bytes: change_bytes / arguments.changes as u64,
        change_time: change_time / u32::try_from(arguments.changes)?,
    })
}

/// The endpoints of a Service, the first in another state than before.
fn endpoints(scale: &Scale, change: usize) -> Value {
    let mut endpoints = scale.slices(change % scale.services)[0]["endpoints"].clone();
    let round = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() % 65_521);
    endpoints[0]["targetRef"]["uid"] = json!(format!("00000000-0000-0000-0000-{round:012}"));
    json!({"endpoints": endpoints})
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
