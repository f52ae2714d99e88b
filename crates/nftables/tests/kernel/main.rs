//! The backend against the running kernel: real packets, and what `nft` lists.
//!
//! Everything happens in network namespaces that the program makes for itself.

mod affinity;
mod fast_path;
mod large;
mod listing;
mod notices;
mod repair;
mod takeover;
mod traffic;
mod world;

use std::process::ExitCode;

use kube_proxy_testkit::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let trials = [
        traffic::trials(),
        affinity::trials(),
        repair::trials(),
        notices::trials(),
        fast_path::trials(),
        takeover::trials(),
        large::trials(),
        listing::trials(),
    ];
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}

/// A test that may fail with any error.
fn trial(name: &str, body: fn() -> anyhow::Result<()>) -> Trial {
    Trial::test(name, move || body().map_err(|error| Failed::from(format!("{error:#}"))))
}
