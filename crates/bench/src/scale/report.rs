//! The table for people and the JSON for programs.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;
use kube_proxy_testkit::iptables::Variant;
use kube_proxy_testkit::say;
use serde_json::{Map, Value, json};

use super::Arguments;
use super::figures::{Figure, Run, median_of};

/// Prints one table for each size: medians over the rounds, and ratios to ours.
pub(super) fn print(arguments: &Arguments, runs: &[Run], contenders: &[&str]) {
    for services in arguments.sizes() {
        say!(
            "\n{}, {services} services x {} endpoints, median of {}",
            arguments.variant.label(),
            arguments.endpoints,
            if arguments.rounds() == 1 {
                "1 round".to_owned()
            } else {
                format!("{} rounds", arguments.rounds())
            }
        );
        say!("{}", heading(contenders));
        for figure in figures(runs, services) {
            say!("{}", row(runs, contenders, services, &figure));
        }
    }
}

/// The figures there are for a size, in the order they were measured.
fn figures(runs: &[Run], services: u32) -> Vec<Figure> {
    let mut figures: Vec<Figure> = Vec::new();
    for figure in runs.iter().filter(|run| run.services == services).flat_map(|run| &run.figures) {
        if !figures.iter().any(|known| known.key == figure.key) {
            figures.push(figure.clone());
        }
    }
    figures
}

fn heading(contenders: &[&str]) -> String {
    let mut line = format!("{:<36}", "");
    for (index, name) in contenders.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = write!(line, "{name:>12}");
        if index > 0 {
            let _ = write!(line, "{:>10}", "ratio");
        }
    }
    line
}

fn row(runs: &[Run], contenders: &[&str], services: u32, figure: &Figure) -> String {
    let label = match figure.unit {
        "" => figure.label.to_owned(),
        unit => format!("{} ({unit})", figure.label),
    };
    let mut line = format!("{label:<36}");
    let value = |name: &str| median_of(runs, name, services, figure.key);
    let ours = contenders.first().and_then(|name| value(name));
    for (index, name) in contenders.iter().enumerate() {
        let own = value(name);
        let text = own.map_or_else(|| "-".to_owned(), number);
        // Writing to a string cannot fail.
        let _ = write!(line, "{text:>12}");
        if index > 0 {
            let ratio = own.zip(ours).filter(|(_, ours)| *ours > 0.0);
            let text =
                ratio.map_or_else(|| "-".to_owned(), |(own, ours)| format!("{:.2}x", own / ours));
            let _ = write!(line, "{text:>10}");
        }
    }
    line
}

/// A number with about three digits that say something.
pub(super) fn number(value: f64) -> String {
    if value >= 100.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Writes all runs so far.
pub(super) fn write_json(arguments: &Arguments, profile: &str, runs: &[Run]) -> anyhow::Result<()> {
    let runs: Vec<Value> = runs.iter().map(of_run).collect();
    let document = json!({
        "benchmark": "scale",
        "mode": arguments.variant.mode(),
        "variant": arguments.variant.iptables().map(Variant::name),
        "endpoints": arguments.endpoints,
        "dual_stack": arguments.dual_stack,
        "local": arguments.local,
        "annotations": arguments.annotations,
        "arguments": arguments.further,
        "arguments_of_peers": arguments.of_peer,
        "changes": arguments.changes,
        "profile": profile,
        "host": {
            "cpus": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        },
        "runs": runs,
    });
    let path = arguments.result_file()?.with_extension("json");
    save(&path, &format!("{document:#}\n"))
}

/// Writes a result and says where it is.
pub(super) fn write(arguments: &Arguments, extension: &str, text: &str) -> anyhow::Result<()> {
    let path = arguments.result_file()?;
    save(&path.with_extension(extension), text)?;
    say!("\nwritten: {0}.json and {0}.{extension}", path.display());
    Ok(())
}

fn save(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let directory = path.parent().context("a result file is in a directory")?;
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn of_run(run: &Run) -> Value {
    let figures: Map<String, Value> =
        run.figures.iter().map(|figure| (figure.key.to_owned(), figure.value.into())).collect();
    json!({
        "contender": run.contender,
        "program": run.program,
        "services": run.services,
        "figures": figures,
    })
}
