//! `cargo xtask soak`: random changes for minutes or hours, and then comparisons with a fresh process.

use anyhow::ensure;
use clap::Args;

use crate::test::Programs;
use crate::uml::Way;
use crate::{binary, host, workspace};
use kube_proxy_testkit::kube_proxy;
use kube_proxy_testkit::say;

/// How long, where and what.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long each mode takes changes, in seconds
    #[arg(long, value_name = "N", default_value_t = 300)]
    seconds: u64,
    /// Which changes are made; the default is another number each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only this mode: nftables, iptables-nft, iptables-legacy, userspace or ipvs
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
}

/// The modes; all but the last run on every kernel.
const MODES: [&str; 5] = ["nftables", "iptables-nft", "iptables-legacy", "userspace", IPVS];
const IPVS: &str = "ipvs";
/// How much longer than its changes the kernel of user-mode Linux may take, in minutes.
const PATIENCE: u64 = 30;

/// Builds what is needed and runs the tests of that name for so long.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mode = arguments.mode.as_deref();
    ensure!(
        mode.is_none_or(|mode| MODES.contains(&mode)),
        "there is no mode {:?}, only: {}",
        mode.unwrap_or_default(),
        MODES.join(", ")
    );
    host::install_missing()?;
    binary::build("dev")?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    say!("Random changes with seed {seed} ...");
    let in_uml = Way::of_this_host() != Way::Native;
    if mode != Some(IPVS) || !in_uml {
        here(mode, arguments.seconds, seed)?;
    }
    if mode.is_none_or(|mode| mode == IPVS) && in_uml {
        say!("ipvs runs {}", Way::of_this_host());
        in_user_mode_linux(arguments.seconds, seed)?;
    }
    Ok(())
}

/// On this kernel: one mode, or all that it has.
fn here(mode: Option<&str>, seconds: u64, seed: u64) -> anyhow::Result<()> {
    let filter = format!("{}/soak/", mode.unwrap_or_default());
    let mut command = workspace::cargo(&["test", "--workspace", "--test", "e2e", "--"]);
    command.arg(filter);
    run_with(&mut command, seconds, seed)
}

/// The ipvs mode in user-mode Linux.
fn in_user_mode_linux(seconds: u64, seed: u64) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    let guard = (seconds / 60 + PATIENCE).to_string();
    command.args([
        "uml",
        "--guard",
        &guard,
        "--",
        &Programs::default().end_to_end()?.path.display().to_string(),
        "ipvs/soak/",
    ]);
    run_with(command.arg("--color=never"), seconds, seed)
}

fn run_with(command: &mut std::process::Command, seconds: u64, seed: u64) -> anyhow::Result<()> {
    command.env("SOAK_SECONDS", seconds.to_string()).env("SOAK_SEED", seed.to_string());
    if std::env::var_os(kube_proxy::VARIABLE).is_none() {
        command.env(kube_proxy::VARIABLE, workspace::programs("dev")?.join("kube-proxy"));
    }
    workspace::run(command)
}
