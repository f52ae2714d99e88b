//! End-to-end tests: the real binary in a node's namespace, packets from pods, nodes and an outside client.
//!
//! `KUBE_PROXY_BIN` names the binary; `cargo xtask test` builds it and sets the variable.

use std::process::ExitCode;

use kube_proxy_testkit::output::complain;
use kube_proxy_testkit::{harness, sandbox};
use libtest_mimic::Arguments;

/// Most tests wait most of the time, so processors have several; a single one, such as that of user-mode Linux, is busy with one.
fn threads() -> usize {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => 1,
        processors => 3 * processors,
    }
}

fn main() -> ExitCode {
    let sandbox = sandbox::enter_or_reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads());
    let trials = match kube_proxy_tests::chosen(sandbox.rootless) {
        Ok(trials) => trials,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let code = harness::run(&arguments, trials);
    kube_proxy_tests::report_slowest();
    code
}
