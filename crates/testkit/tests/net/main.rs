//! The namespace cluster itself: real links, real packets, real rules, on no network of the host.
//!
//! Runs as root or not; `TESTKIT_ROOTLESS=1` asks for the form without root in any case.

mod host;
mod rules;
mod servers;
mod topology;

use std::process::ExitCode;

use kube_proxy_testkit::{harness, sandbox};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(host::CHILD) {
        return host::child(&arguments.next().unwrap_or_default());
    }
    let trials = [topology::trials(), rules::trials(), servers::trials(), host::trials()];
    harness::run(&Arguments::from_args(), trials.into_iter().flatten().collect())
}

/// A test that may fail with any error.
fn trial(
    name: impl Into<String>,
    body: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static,
) -> Trial {
    harness::trial(name, body)
}
