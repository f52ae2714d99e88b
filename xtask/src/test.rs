//! `cargo xtask test`: every check of this workspace, step by step.

mod beside;
mod built;
mod ipvs;
mod nightly;
mod report;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use self::beside::Beside;
pub(crate) use self::built::test_program;
use self::steps::{Needs, Run, Step};
use crate::host;
use crate::uml::Way;
use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::say;

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this step, and what it needs; may be repeated
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// After the usual steps also those that take longer than a change should wait
    #[arg(long)]
    nightly: bool,
    /// How long each fuzz target and each mode of the soak run, in seconds, instead of 120 and 300
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Lists the steps and does nothing
    #[arg(long)]
    list: bool,
}

/// How a step ended.
enum Ending {
    Passed(Duration),
    Failed(Duration),
    Skipped(&'static str),
}

/// Runs the steps, all of them even when one fails, and says how each ended.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.list {
        for step in steps::all() {
            say!("{:<12} {}", step.name, step.what);
        }
        for step in nightly::steps() {
            say!("{:<12} with --nightly: {}", step.name, step.what);
        }
        return Ok(());
    }
    if let Some(seconds) = arguments.seconds {
        nightly::set_seconds(seconds);
    }
    let chosen = choose(&arguments.only, arguments.nightly)?;
    say!("the ipvs tests run {}", Way::of_this_host());
    report::begin()?;
    let mut endings: Vec<(&str, Ending)> = Vec::new();
    let mut beside = Beside::default();
    for step in &chosen {
        let ending = attempt(step, &endings, &mut beside);
        endings.push((step.name, ending));
        if step.name == steps::BUILD {
            beside.start(chosen.iter().filter(|step| reason_to_skip(step, &endings).is_none()))?;
        }
    }
    let result = summarise(&endings);
    report::show()?;
    result
}

/// The steps to run, in their order, with the build where one needs it.
fn choose(only: &[String], nightly: bool) -> anyhow::Result<Vec<Step>> {
    let mut steps = steps::all();
    // Steps that are named need no flag.
    if nightly || !only.is_empty() {
        steps.extend(nightly::steps());
    }
    if only.is_empty() {
        return Ok(steps);
    }
    for name in only {
        let known = steps.iter().any(|step| step.name == name);
        known.then_some(()).with_context(|| {
            let names: Vec<_> = steps.iter().map(|step| step.name).collect();
            format!("there is no step {name:?}, only: {}", names.join(", "))
        })?;
    }
    let wanted = |step: &Step| only.iter().any(|name| name == step.name);
    let build = steps.iter().any(|step| wanted(step) && step.needs.contains(&Needs::Build));
    steps.retain(|step| wanted(step) || (build && step.name == steps::BUILD));
    Ok(steps)
}

fn attempt(step: &Step, before: &[(&str, Ending)], beside: &mut Beside) -> Ending {
    say!("\n=== {}: {}", step.name, step.what);
    if let Some(reason) = reason_to_skip(step, before) {
        say!("--- {}: skipped, {reason}", step.name);
        return Ending::Skipped(reason);
    }
    let (result, took) = match step.run {
        Run::InTurn(run) => {
            let start = Instant::now();
            (run(), start.elapsed())
        }
        Run::Beside(_) => beside.finish(step.name),
    };
    match result {
        Ok(()) => {
            say!("--- {}: passed after {:.1} s", step.name, took.as_secs_f64());
            Ending::Passed(took)
        }
        Err(error) => {
            complain(&error);
            say!("--- {}: failed after {:.1} s", step.name, took.as_secs_f64());
            say!("    repeat it with: cargo xtask test --only {}", step.name);
            Ending::Failed(took)
        }
    }
}

fn reason_to_skip(step: &Step, before: &[(&str, Ending)]) -> Option<&'static str> {
    let failed = |name: &str| {
        before.iter().any(|(other, ending)| *other == name && !matches!(ending, Ending::Passed(_)))
    };
    step.needs.iter().find_map(|need| match need {
        Needs::Host if failed(steps::HOST) => Some("the host lacks something"),
        Needs::Build if failed(steps::BUILD) => Some("the build failed"),
        Needs::IpVs if !is_ci() && !ipvs::has_kernel() => Some(ipvs::MISSING),
        Needs::Root if !host::is_root() => Some("all tests ran without root already"),
        _ => None,
    })
}

/// Whether this is a run that has to run everything.
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

fn summarise(endings: &[(&str, Ending)]) -> anyhow::Result<()> {
    say!("\n=== summary");
    let mut failed = Vec::new();
    for (name, ending) in endings {
        match ending {
            Ending::Passed(took) => say!("passed  {:>7.1} s  {name}", took.as_secs_f64()),
            Ending::Skipped(reason) => say!("skipped            {name}: {reason}"),
            Ending::Failed(took) => {
                say!(
                    "FAILED  {:>7.1} s  {name}: cargo xtask test --only {name}",
                    took.as_secs_f64()
                );
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("{} of {} steps failed: {}", failed.len(), endings.len(), failed.join(", "))
}
