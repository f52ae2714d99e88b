//! End-to-end tests: the real binary in a node's namespace, packets from pods, nodes and an outside client.
//!
//! `KUBE_PROXY_BIN` names the binary; `cargo xtask test` builds it and sets the variable.

use std::process::ExitCode;

use kube_proxy_testkit::sandbox;
use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let sandbox = sandbox::enter_or_reexec();
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, kube_proxy_tests::trials(sandbox.rootless)).exit_code()
}
