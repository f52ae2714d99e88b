//! `cargo xtask soak`: random changes for minutes, and then a comparison with a fresh build.

use clap::Args;

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
    /// Only this mode: nftables, iptables-nft or iptables-legacy
    #[arg(long, value_name = "MODE", default_value = "")]
    mode: String,
}

/// Builds what is needed and runs the test of that name for so long.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    host::install_missing()?;
    binary::build("dev")?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    say!("Random changes with seed {seed} ...");
    let filter = format!("{}/soak/", arguments.mode);
    let mut command = workspace::cargo(&["test", "--package", "kube-proxy-tests", "--test", "e2e"]);
    command
        .args(["--", filter.as_str()])
        .env("SOAK_SECONDS", arguments.seconds.to_string())
        .env("SOAK_SEED", seed.to_string());
    if std::env::var_os(kube_proxy::VARIABLE).is_none() {
        command.env(kube_proxy::VARIABLE, workspace::programs("dev")?.join("kube-proxy"));
    }
    workspace::run(&mut command)
}
