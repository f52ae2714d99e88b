//! `cargo xtask fuzz`: libFuzzer on what reads bytes that others wrote.
//!
//! The compiler instruments our crates with flags that every stable version has; only libFuzzer itself is C++.
//! What is found beside the committed corpus stays below the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::workspace;
use kube_proxy_testkit::say;

/// Which targets, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The target; all of them, if none is named
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Longest input in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    longest: u32,
    /// Lists the targets and does nothing
    #[arg(long)]
    list: bool,
}

/// The program between cargo and the compiler that has our own crates instrumented.
const INSTRUMENT: &str = "fuzz/instrument.sh";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let known = targets()?;
    if arguments.list {
        for name in &known {
            say!("{name}");
        }
        return Ok(());
    }
    let chosen: Vec<&String> =
        match &arguments.target {
            None => known.iter().collect(),
            Some(name) => vec![known.iter().find(|known| *known == name).with_context(|| {
                format!("there is no target {name:?}, only: {}", known.join(", "))
            })?],
        };
    let program = build()?;
    let mut broken = Vec::new();
    for name in chosen {
        say!("\n=== {name}, {} s", arguments.seconds);
        if let Err(error) = run_target(&program, name, arguments) {
            say!("{error:#}");
            broken.push(name.as_str());
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!("inputs were found that break {}", broken.join(", "))
}

/// Names of the targets: those of the directories of the corpus, which a test compares with the targets.
pub(crate) fn targets() -> anyhow::Result<Vec<String>> {
    let corpus = corpus();
    let entries = std::fs::read_dir(&corpus).with_context(|| corpus.display().to_string())?;
    let mut names: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn corpus() -> PathBuf {
    workspace::root().join("fuzz/corpus")
}

/// Builds the fuzzer, and returns its path.
///
/// Dependencies are those of the usual build. They are not instrumented, and what is compiled again is our own crates.
fn build() -> anyhow::Result<PathBuf> {
    let mut command = workspace::cargo(&["build", "--workspace", "--example", "fuzz"]);
    command.args(["--features", "kube-proxy-fuzz/libfuzzer"]).env("CARGO_INCREMENTAL", "0");
    command.env("RUSTC_WORKSPACE_WRAPPER", workspace::root().join(INSTRUMENT));
    workspace::run(&mut command).context("the fuzzer needs a compiler for C++")?;
    Ok(workspace::programs("dev")?.join("examples/fuzz"))
}

fn run_target(program: &Path, name: &str, arguments: &Arguments) -> anyhow::Result<()> {
    let found = workspace::target_directory()?.join("fuzz-corpus").join(name);
    let broken = workspace::target_directory()?.join("fuzz-broken").join(name);
    for directory in [&found, &broken] {
        std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let mut command = Command::new(program);
    command
        .env("FUZZ_TARGET", name)
        .arg(format!("-max_total_time={}", arguments.seconds))
        .arg(format!("-max_len={}", arguments.longest))
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .args(["-print_final_stats=1", "-verbosity=1"])
        // What is new goes to the first.
        .args([found, corpus().join(name)]);
    workspace::run(&mut command).with_context(|| {
        let regression = format!("fuzz/corpus/{name}/");
        format!("mend the reader, and copy the input from {} to {regression}", broken.display())
    })
}
