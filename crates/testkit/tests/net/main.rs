//! The namespace cluster itself: real links, real packets, real rules, on no network of the host.
//!
//! Runs as root or not; `TESTKIT_ROOTLESS=1` asks for the form without root in any case.

mod host;
mod rules;
mod servers;
mod topology;

use std::process::ExitCode;

use kube_proxy_testkit::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(host::CHILD) {
        return host::child(&arguments.next().unwrap_or_default());
    }
    let trials = [topology::trials(), rules::trials(), servers::trials(), host::trials()];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// A test that may fail with any error.
fn trial(
    name: impl Into<String>,
    body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> Trial {
    Trial::test(name, move || body().map_err(|error| Failed::from(format!("{error:#}"))))
}
