//! Measures whole kube-proxies from outside; `cargo xtask bench` builds and starts this.
//!
//! Everything happens in the sandbox of the testkit, so nothing is left on the host.
//! The API server and the load are in this process, which therefore has to be built as optimised as
//! what it measures.

mod api;
mod command;
mod scale;
mod usage;
mod userspace;

use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::sandbox::{self, Entry};

/// Measurements of whole kube-proxies.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Cargo profile of kube-proxy and of this program: release, quick-release or dev
    // `cargo xtask bench` reads it before this program is there.
    #[arg(long, value_name = "PROFILE", default_value = "release", global = true)]
    profile: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A node with thousands of services: load time, latency of a change, CPU and memory
    Scale(scale::Arguments),
    /// The userspace mode beside `HAProxy` and a direct connection: throughput, connections, latency, memory
    Userspace(userspace::Arguments),
    /// Bytes and processor time of the API server, for starts and changes, in each encoding
    Api(api::Arguments),
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Measures inside the sandbox.
fn run(Arguments { what, profile }: &Arguments) -> anyhow::Result<()> {
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(_) => bail!("the benchmark did not finish, see above"),
        Entry::Inside(_) => match what {
            What::Scale(arguments) => scale::run(arguments, profile),
            What::Userspace(arguments) => userspace::run(arguments),
            What::Api(arguments) => api::run(arguments),
        },
    }
}
