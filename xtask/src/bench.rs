//! `cargo xtask bench`: measurements.

mod scale;
mod userspace;

use clap::{Args, Subcommand};

use crate::workspace;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A node with thousands of services: load time, latency of a change, CPU and memory
    Scale(scale::Arguments),
    /// The userspace mode beside `HAProxy` and a direct connection: throughput, connections, latency, memory
    Userspace(userspace::Arguments),
    /// The pure parts by themselves, with criterion
    Micro(Micro),
}

#[derive(Debug, Args)]
struct Micro {
    /// Only benchmarks whose name contains this
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs a benchmark.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.what {
        What::Scale(arguments) => scale::run(arguments),
        What::Userspace(arguments) => userspace::run(arguments),
        What::Micro(Micro { name }) => {
            let mut command = workspace::cargo(&["bench", "--workspace", "--benches"]);
            command.args(name);
            workspace::run(&mut command)
        }
    }
}
