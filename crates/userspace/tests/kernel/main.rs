//! The backend on a real kernel: connections through rules, listening ports and copies, in namespaces of their own.
//!
//! The tests run one after the other: some count descriptors or bytes on the heap of this process.

mod contested;
mod damage;
mod data;
mod limits;
mod look_up;
mod loops;
mod refused;
mod world;

use std::process::ExitCode;

use kube_proxy_testkit::{harness, sandbox};
use libtest_mimic::Arguments;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tests = [
        contested::TESTS,
        damage::TESTS,
        data::TESTS,
        limits::TESTS,
        look_up::TESTS,
        loops::TESTS,
        refused::TESTS,
    ]
    .concat();
    let trials = tests.into_iter().map(|(name, test)| harness::trial(name, test));
    harness::run(&arguments, trials.collect())
}

type Test = (&'static str, fn() -> anyhow::Result<()>);
