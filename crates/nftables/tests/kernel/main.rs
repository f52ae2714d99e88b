//! The backend against the running kernel: real packets, and what `nft` lists.
//!
//! Everything happens in network namespaces that the program makes for itself.

mod affinity;
mod compare;
mod fast_path;
mod fast_path_choice;
mod handback;
mod intervals;
mod large;
mod listing;
mod notices;
mod refusals;
mod refused;
mod repair;
mod takeover;
mod traffic;
mod world;

use std::process::ExitCode;

use kube_proxy_testkit::{harness, sandbox};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let trials = [
        traffic::trials(),
        affinity::trials(),
        repair::trials(),
        compare::trials(),
        notices::trials(),
        fast_path::trials(),
        fast_path_choice::trials(),
        takeover::trials(),
        intervals::trials(),
        handback::trials(),
        refusals::trials(),
        refused::trials(),
        large::trials(),
        listing::trials(),
    ];
    let arguments = Arguments::from_args();
    harness::run(&arguments, trials.into_iter().flatten().collect())
}

/// A test that may fail with any error.
fn trial(name: &str, body: fn() -> anyhow::Result<()>) -> Trial {
    harness::trial(name, body)
}
