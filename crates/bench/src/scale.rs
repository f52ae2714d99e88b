//! `cargo xtask bench scale`: a kube-proxy on a node with many services, measured from outside.
//!
//! An API server in this process serves the objects over HTTP into the node's namespace. A pod on
//! the node opens real connections; every endpoint address leads to one namespace that owns them
//! all, so that any number of them can answer. Each run has a node of its own.

mod changes;
mod chart;
mod connect;
mod contender;
mod figures;
mod measure;
mod metrics;
mod report;
mod restart;
mod rules;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use kube_proxy_testkit::{iptables, say};

use self::rules::Dataplane;

/// How long loading may take; the Go version needs minutes for some sizes.
const LOAD_GUARD: Duration = Duration::from_mins(30);

/// How long a process may be busy after it has loaded.
const IDLE_GUARD: Duration = Duration::from_mins(15);

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What is measured: iptables mode with one of the two iptables, nftables mode or ipvs mode
    #[arg(long, value_enum, value_name = "VARIANT", default_value = "nft")]
    variant: Dataplane,
    /// Number of Services
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: u32,
    /// Several numbers of Services, one after the other, instead of --services
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sizes: Vec<u32>,
    /// Endpoints of each Service
    #[arg(long, value_name = "E", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    endpoints: u32,
    /// Services of both IP families instead of IPv4 alone
    #[arg(long)]
    dual_stack: bool,
    /// Services of type NodePort with `externalTrafficPolicy: Local`, as many as there are node ports
    #[arg(long)]
    local: bool,
    /// An annotation of each Service; may be repeated
    #[arg(long = "annotation", value_name = "KEY=VALUE", value_parser = annotation)]
    annotations: Vec<(String, String)>,
    /// Another kube-proxy to compare with, measured in turn; may be repeated
    #[arg(long, value_name = "PATH")]
    peer: Vec<PathBuf>,
    /// A further argument for the peers alone, to compare two settings of one program; may be repeated
    #[arg(long = "peer-arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    of_peer: Vec<String>,
    /// How often each is measured [default: 1, with --peer 2]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Changes of one endpoint, for the latency of a change
    #[arg(long, value_name = "N", default_value_t = 50)]
    changes: u32,
    /// Seconds without any change, to count wake-ups
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    idle: u32,
    /// A further argument for each kube-proxy; may be repeated
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    further: Vec<String>,
    /// Directory for JSON and SVG [default: beside the build]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Arguments {
    /// Numbers of Services, smallest first.
    fn sizes(&self) -> Vec<u32> {
        let mut sizes =
            if self.sizes.is_empty() { vec![self.services] } else { self.sizes.clone() };
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.peer.is_empty() { 1 } else { 2 })
    }

    /// What is written besides the table, without the ending of its name.
    fn result_file(&self) -> anyhow::Result<PathBuf> {
        let directory = match &self.out {
            Some(directory) => directory.clone(),
            None => std::env::current_exe()
                .context("cannot find the path of this program")?
                .with_file_name("bench"),
        };
        Ok(directory.join(format!("scale-{}", self.variant.label())))
    }
}

fn annotation(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("not of the form KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the benchmark.
pub(crate) fn run(arguments: &Arguments, profile: &str) -> anyhow::Result<()> {
    if let Some(variant) = arguments.variant.iptables() {
        iptables::check(variant)?;
    }
    measure_all(arguments, profile)
}

/// Measures everything in turn: for each size A B A B, so that a drift of the machine hits all.
fn measure_all(arguments: &Arguments, profile: &str) -> anyhow::Result<()> {
    let contenders = contender::all(arguments)?;
    let sizes = arguments.sizes();
    let total = sizes.len() * arguments.rounds() as usize * contenders.len();
    let mut runs = Vec::new();
    for &services in &sizes {
        for round in 1..=arguments.rounds() {
            for contender in &contenders {
                say!(
                    "\n[{} of {total}] {}, {services} services x {} endpoints, round {round}",
                    runs.len() + 1,
                    contender.name,
                    arguments.endpoints
                );
                runs.push(measure::run(arguments, contender, services)?);
                // A run that was cut short still leaves what was measured before it.
                report::write_json(arguments, profile, &runs)?;
            }
        }
    }
    let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    report::print(arguments, &runs, &names);
    let chart = chart::draw(arguments, &runs, &names);
    report::write(arguments, "svg", &chart)?;
    Ok(())
}
