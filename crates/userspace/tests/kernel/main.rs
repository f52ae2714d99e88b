//! The backend on a real kernel: connections through rules, listening ports and copies, in namespaces of their own.
//!
//! The tests run one after the other: some count descriptors or bytes on the heap of this process.

mod data;
mod limits;
mod world;

use std::process::ExitCode;

use kube_proxy_testkit::sandbox;
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn main() -> ExitCode {
    sandbox::enter_or_reexec();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let tests = [data::TESTS, limits::TESTS].concat();
    let trials = tests.into_iter().map(|(name, test)| {
        Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

type Test = (&'static str, fn() -> anyhow::Result<()>);
