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
pub(super) mod usage;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use kube_proxy_testkit::sandbox::{self, Entry};

use self::contender::Contender;
use self::rules::Dataplane;
use crate::output::say;
use crate::{binary, host, kernel, workspace};

/// Set in the copy of this program that was built with the profile asked for.
const BUILT_VARIABLE: &str = "XTASK_BENCH_BUILT";

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
    /// Another kube-proxy to compare with, measured in turn; may be repeated
    #[arg(long, value_name = "PATH")]
    peer: Vec<PathBuf>,
    /// How often each is measured [default: 1, with --peer 2]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Changes of one endpoint, for the latency of a change
    #[arg(long, value_name = "N", default_value_t = 50)]
    changes: u32,
    /// A further argument for each kube-proxy; may be repeated
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    further: Vec<String>,
    /// Cargo profile of the binary: release, quick-release or dev
    #[arg(long, value_name = "PROFILE", default_value = "release")]
    profile: String,
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

/// Builds outside, then measures inside the sandbox.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        host::install_missing()?;
        build(&arguments.profile)?;
    }
    match sandbox::enter()? {
        Entry::Finished(0) => Ok(()),
        Entry::Finished(_) => bail!("the benchmark did not finish, see above"),
        Entry::Inside(_) => {
            if let Some(variant) = arguments.variant.iptables() {
                kernel::check_iptables(variant)?;
            }
            measure_all(arguments)
        }
    }
}

/// Builds the binary and this program with the profile asked for, and goes on as that.
///
/// The API server and the probes are in this program; unoptimised they would be measured as well.
pub(super) fn build(profile: &str) -> anyhow::Result<()> {
    if std::env::var_os(BUILT_VARIABLE).is_some() {
        return Ok(());
    }
    if profile == "dev" {
        return binary::build(profile);
    }
    say!("Building kube-proxy and xtask with the profile {profile} ...");
    let mut packages = vec!["build", "--profile", profile, "--package", "xtask"];
    if std::env::var_os(binary::VARIABLE).is_none() {
        packages.extend(["--package", "kube-proxy"]);
    }
    workspace::run(&mut workspace::cargo(&packages))?;
    let program = workspace::programs(profile)?.join("xtask");
    let error = std::process::Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env(BUILT_VARIABLE, "1")
        .exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Measures everything in turn: for each size A B A B, so that a drift of the machine hits all.
fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
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
                report::write_json(arguments, &runs)?;
            }
        }
    }
    let names: Vec<_> = contenders.iter().map(|contender| contender.name.as_str()).collect();
    report::print(arguments, &runs, &names);
    let chart = chart::draw(arguments, &runs, &names);
    report::write(arguments, "svg", &chart)?;
    Ok(())
}
