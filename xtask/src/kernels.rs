//! `cargo xtask kernels`: the nftables and ipvs modes on kernels of Debian, booted under emulation with any model of processor.
//!
//! Kernels come from Debian's package archive, by way of apt, and the tests are the programs that cargo builds.
//! An initramfs holds the modules, the tests and the few programs they start.

mod boot;
mod fetch;
mod image;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::test::Programs;
use crate::{host, workspace};
use kube_proxy_testkit::say;

/// A kernel to test on.
struct Kernel {
    /// Its version, as people know it.
    name: &'static str,
    /// The Debian release that has it.
    release: &'static str,
    /// The package that depends on the newest build of it.
    package: &'static str,
}

/// All of them, oldest first.
const KERNELS: [Kernel; 3] = [
    Kernel { name: "5.10", release: "bullseye", package: "linux-image-cloud-amd64" },
    Kernel { name: "6.1", release: "bookworm", package: "linux-image-cloud-amd64" },
    Kernel { name: "6.12", release: "bookworm", package: "linux-image-6.12-cloud-amd64" },
];

/// A test program, and which of its tests are run.
struct Suite {
    name: &'static str,
    /// Directory of its package.
    package: &'static str,
    test: &'static str,
    arguments: &'static str,
}

const SUITES: [Suite; 3] = [
    Suite { name: "kernel", package: "crates/nftables", test: "kernel", arguments: "" },
    Suite { name: "e2e", package: "tests", test: "e2e", arguments: "nftables/" },
    // These kernels have ip_vs: where cargo xtask test takes user-mode Linux, this is another way.
    Suite { name: "ipvs", package: "tests", test: "e2e", arguments: "ipvs/" },
];

/// What to boot.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this kernel, such as 6.1; may be repeated
    #[arg(long = "kernel", value_name = "VERSION")]
    kernels: Vec<String>,
    /// What is run: kernel (the nftables backend against the kernel), e2e (the end-to-end tests of that mode) or ipvs (those of that
    /// mode); emulation may be too slow for the latter two; may be repeated
    #[arg(long = "suite", value_name = "NAME", default_value = "kernel")]
    suites: Vec<String>,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// The processor that is emulated; `qemu-system-x86_64 -cpu help` lists the models
    #[arg(long, value_name = "MODEL", default_value = "max")]
    cpu: String,
    /// Longest time for all tests on one kernel, in minutes
    #[arg(long, value_name = "N", default_value_t = 40)]
    minutes: u64,
}

/// Boots each kernel, and prints which tests passed on which.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    host::install(&host::EMULATION)?;
    let kernels = chosen(&KERNELS, &arguments.kernels, |kernel| kernel.name)?;
    let suites = chosen(&SUITES, &arguments.suites, |suite| suite.name)?;
    let programs = programs(&suites)?;
    let directory = workspace::programs("dev")?.with_file_name("kernels");
    let mut results = Vec::new();
    for kernel in kernels {
        let files = fetch::kernel(kernel, &directory.join(kernel.name))?;
        say!("\n== {} ({})", kernel.name, files.release);
        let tests: Vec<_> = suites.iter().map(|suite| suite_command(suite, arguments)).collect();
        let initramfs = image::build(&files, &programs, &tests)?;
        let guard = Duration::from_mins(arguments.minutes);
        let outcome = boot::run(&files.image, &initramfs, &arguments.cpu, guard)?;
        results.push((kernel.name, files.release, outcome));
    }
    report(&results)
}

fn chosen<'a, T>(
    all: &'a [T],
    names: &[String],
    name: fn(&T) -> &'static str,
) -> anyhow::Result<Vec<&'a T>> {
    if let Some(unknown) = names.iter().find(|wanted| all.iter().all(|one| name(one) != *wanted)) {
        let known: Vec<_> = all.iter().map(name).collect();
        bail!("there is no {unknown:?}; there are {}", known.join(", "));
    }
    let is_chosen = |one: &&T| names.is_empty() || names.iter().any(|wanted| name(one) == wanted);
    Ok(all.iter().filter(is_chosen).collect())
}

/// A line for the shell inside: the name of the suite, and the command.
fn suite_command(suite: &Suite, arguments: &Arguments) -> String {
    let filter = arguments.filter.as_deref().unwrap_or(suite.arguments);
    format!("{} /tests/{} --test-threads=2 --color=never {filter}", suite.name, suite.name)
}

/// Builds the test programs and the binary: where they are, and their names inside.
fn programs(suites: &[&Suite]) -> anyhow::Result<Vec<(PathBuf, String)>> {
    say!("Building kube-proxy and its tests ...");
    // Of the whole workspace with its tests, also here: cargo then enables the same features as elsewhere and compiles nothing twice.
    let everything = ["build", "--workspace", "--bins", "--tests", "--examples"];
    workspace::run(&mut workspace::cargo(&everything))?;
    let binary = (workspace::programs("dev")?.join("kube-proxy"), "kube-proxy".to_owned());
    let tests = Programs::default();
    let tests = suites.iter().map(|suite| {
        let program = tests.one(suite.package, suite.test)?;
        Ok((program.path.clone(), suite.name.to_owned()))
    });
    std::iter::once(Ok(binary)).chain(tests).collect()
}

fn report(results: &[(&str, String, boot::Outcome)]) -> anyhow::Result<()> {
    say!("\n{:<8}{:<32}result", "kernel", "release");
    for (name, release, outcome) in results {
        for (suite, result) in &outcome.suites {
            say!("{name:<8}{release:<32}{suite}: {result}");
        }
        if !outcome.finished {
            say!("{name:<8}{release:<32}did not come to its end");
        }
    }
    if results.iter().all(|(_, _, outcome)| outcome.is_good()) {
        return Ok(());
    }
    bail!("not all tests passed on all kernels")
}
