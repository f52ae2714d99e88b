//! `cargo xtask test`: every check of this workspace, step by step.

mod built;
mod ipvs;
mod jobs;
mod nightly;
mod programs;
mod report;
mod steps;

use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

pub(crate) use self::programs::Programs;
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

/// How a step ended, and how long it took; if it consists of jobs, how long they took, one time added to the other.
enum Ending {
    Passed(Duration),
    Failed(Duration),
    Skipped(&'static str),
}

type Endings = Vec<(&'static str, Ending)>;

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
    let start = Instant::now();
    report::begin()?;
    let endings = run_steps(&chosen);
    let result = summarise(&endings, start.elapsed());
    report::show()?;
    result
}

/// Runs the steps; how they ended.
fn run_steps(chosen: &[Step]) -> Endings {
    let (mut endings, programs) = (Endings::new(), Programs::default());
    let is_jobs = |step: &Step| matches!(step.run, Run::Jobs(_));
    thread::scope(|scope| {
        let mut asides = Vec::new();
        for steps in chosen.chunk_by(|a, b| is_jobs(a) && is_jobs(b)) {
            // The build replaces the program that runs aside.
            if steps.iter().any(|step| step.name == steps::BUILD || !step.needs.is_empty()) {
                endings.extend(asides.drain(..).flat_map(ended));
            }
            match steps {
                [Step { name, run: Run::Alone(run), .. }] => {
                    let ending = begin(&steps[0], &endings).map(|()| alone(name, *run));
                    endings.push((name, ending.unwrap_or_else(|skipped| skipped)));
                }
                [Step { run: Run::Aside(_), .. }] => {
                    asides.push(scope.spawn(|| beside(steps, &Programs::default(), &[])));
                }
                _ => endings.extend(beside(steps, &programs, &endings)),
            }
        }
        endings.extend(asides.into_iter().flat_map(ended));
    });
    endings
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

/// Says what begins.
///
/// # Errors
/// With the end of a step that cannot run.
fn begin(step: &Step, before: &[(&'static str, Ending)]) -> Result<(), Ending> {
    say!("\n=== {}: {}", step.name, step.what);
    let Some(reason) = reason_to_skip(step, before) else { return Ok(()) };
    say!("--- {}: skipped, {reason}", step.name);
    Err(Ending::Skipped(reason))
}

/// Runs a step by itself.
fn alone(name: &'static str, run: fn() -> anyhow::Result<()>) -> Ending {
    let start = Instant::now();
    let result = run();
    if let Err(error) = &result {
        complain(error);
    }
    end(name, result.is_ok(), start.elapsed())
}

/// Runs steps that consist of jobs, all at the same time; how they ended, after those before.
fn beside(steps: &[Step], programs: &Programs, before: &[(&'static str, Ending)]) -> Endings {
    let mut endings = Endings::new();
    let mut running = Vec::new();
    for step in steps {
        let (Run::Jobs(jobs) | Run::Aside(jobs)) = step.run else { continue };
        match begin(step, before).map(|()| jobs(programs)) {
            Ok(Ok(jobs)) => running.push((step.name, jobs)),
            Ok(Err(error)) => {
                complain(&error);
                endings.push((step.name, end(step.name, false, Duration::ZERO)));
            }
            Err(skipped) => endings.push((step.name, skipped)),
        }
    }
    let names: Vec<_> = running.iter().map(|(name, _)| *name).collect();
    for (name, outcome) in names.into_iter().zip(jobs::run(running)) {
        endings.push((name, end(name, outcome.passed, outcome.took)));
    }
    endings
}

/// Waits for steps that run aside.
fn ended(aside: ScopedJoinHandle<'_, Endings>) -> Endings {
    // What panics there panics here.
    aside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Says how a step ended.
fn end(name: &str, passed: bool, took: Duration) -> Ending {
    if passed {
        say!("--- {name}: passed after {:.1} s", took.as_secs_f64());
        return Ending::Passed(took);
    }
    say!("--- {name}: failed after {:.1} s", took.as_secs_f64());
    say!("    repeat it with: cargo xtask test --only {name}");
    Ending::Failed(took)
}

fn reason_to_skip(step: &Step, before: &[(&'static str, Ending)]) -> Option<&'static str> {
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

fn summarise(endings: &Endings, took: Duration) -> anyhow::Result<()> {
    say!(
        "\n=== summary, after {:.1} s; of what ran beside other steps, the times of all jobs together",
        took.as_secs_f64()
    );
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

#[cfg(test)]
mod tests;
