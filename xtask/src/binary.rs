//! Building the kube-proxy that the demo and the tests run.

use std::env;

use kube_proxy_testkit::kube_proxy::VARIABLE;
use kube_proxy_testkit::say;

use crate::workspace;

/// Builds the binary with this cargo profile, unless [`VARIABLE`] names one.
pub(crate) fn build(profile: &str) -> anyhow::Result<()> {
    if env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    say!("Building kube-proxy ...");
    workspace::run(&mut workspace::cargo(&[
        "build",
        "--package",
        "kube-proxy",
        "--profile",
        profile,
    ]))
}
