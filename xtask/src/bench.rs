//! `cargo xtask bench`: builds what is measured and what measures it, and starts the latter.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;
use clap::Args;
use kube_proxy_testkit::{kube_proxy, say};

use crate::{host, workspace};

/// Package and program that measure.
const PROGRAM: &str = "kube-proxy-bench";

/// What to measure; `--help` lists it.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// `micro [NAME]` runs the pure parts by themselves, with criterion; all else is for `crates/bench`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "BENCHMARK")]
    words: Vec<String>,
}

/// Runs a benchmark.
pub(crate) fn run(Arguments { words }: &Arguments) -> anyhow::Result<()> {
    let what = words.first().map(String::as_str);
    if what == Some("micro") {
        let mut command = workspace::cargo(&["bench", "--workspace", "--benches"]);
        return workspace::run(command.args(&words[1..]));
    }
    host::install_missing()?;
    if what == Some("userspace") {
        host::install(&[("haproxy", "haproxy")])?;
    }
    let profile = profile(words);
    say!("Building kube-proxy and {PROGRAM} with the profile {profile} ...");
    let mut build = workspace::cargo(&["build", "--profile", profile, "--package", PROGRAM]);
    if std::env::var_os(kube_proxy::VARIABLE).is_none() {
        build.args(["--package", "kube-proxy"]);
    }
    workspace::run(&mut build)?;
    let program = workspace::programs(profile)?.join(PROGRAM);
    let error = Command::new(&program).args(words).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// The cargo profile asked for; the load comes from the program that measures, so it has the same.
fn profile(words: &[String]) -> &str {
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        // What measures nothing need not be fast.
        return "dev";
    }
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word.strip_prefix("--profile") {
            Some("") => return words.next().unwrap_or("release"),
            Some(rest) if rest.starts_with('=') => return &rest[1..],
            _ => {}
        }
    }
    "release"
}

#[cfg(test)]
mod tests;
