//! The steps of `cargo xtask test --nightly`: what takes longer than a change should wait.
//!
//! Miri has no step: it runs no functions of C and no machine code, and all of our `unsafe` code needs one of them.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::Context as _;

use super::programs::Programs;
use super::steps::{Needs, Run, Step};
use super::{built, ipvs};
use crate::{apt, workspace};
use kube_proxy_testkit::{kube_proxy, say};

/// How long each fuzz target runs, in seconds.
const FUZZ: u64 = 120;
/// How long each mode takes random changes, in seconds; the forge gives each an hour in a job of its own.
const SOAK: u64 = 300;
/// The release of Debian whose user-mode Linux is 5.10.
const OLD_RELEASE: &str = "bullseye";
/// The time that was asked for instead of both.
static SECONDS: OnceLock<u64> = OnceLock::new();

/// Has the steps that look for something at random do so for this time, in seconds.
pub(super) fn set_seconds(seconds: u64) {
    // It is set once, from the command line.
    let _ = SECONDS.set(seconds);
}

fn seconds(usual: u64) -> String {
    SECONDS.get().unwrap_or(&usual).to_string()
}

/// All of them, in their order.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step {
            name: "fuzz",
            what: "libFuzzer on everything that reads bytes",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Alone(|| own(&["fuzz", "--seconds", &seconds(FUZZ)])),
        },
        Step {
            name: "soak",
            what: "random changes in every mode, memory and descriptors watched",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Alone(|| own(&["soak", "--seconds", &seconds(SOAK)])),
        },
        Step {
            name: "ipvs-5.10",
            what: "the ipvs end-to-end tests on Linux 5.10, in user-mode Linux",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Jobs(|programs| ipvs::jobs_on(programs, OLD_RELEASE)),
        },
        Step {
            name: "release",
            what: "the files of a release for x86-64 and aarch64, made twice and compared",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Alone(release),
        },
        Step {
            name: "sanitizer",
            what: "the packet tests with a binary that checks each access to memory",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Alone(sanitizer),
        },
    ]
}

/// Runs another command of this program.
fn own(arguments: &[&str]) -> anyhow::Result<()> {
    workspace::run(&mut built::own(arguments, true)?)
}

/// The targets that a release is made for wherever rustup or Debian has a standard library of them.
fn release() -> anyhow::Result<()> {
    let targets = ["--target", "x86_64-unknown-linux-gnu", "--target", "aarch64-unknown-linux-gnu"];
    let mut arguments = vec!["release", "--dry-run", "--twice"];
    arguments.extend(targets);
    // Elsewhere the compiler has them, and an image is made for this kind of machine alone.
    arguments.extend(apt::has_debian().then_some("--from-debian"));
    own(&arguments)
}

/// The end-to-end packet tests with the address sanitizer.
fn sanitizer() -> anyhow::Result<()> {
    let compiler = Compiler::of_this_host();
    say!("compiled by {}", compiler.describe());
    let host = workspace::host_triple()?;
    // Build scripts look at the compiler: beside the others, each build would undo the one before.
    let target = workspace::target_directory()?.join("sanitizer");
    let mut build = compiler.cargo();
    build.args(["build", "--package", "kube-proxy", "--target", &host, "--target-dir"]);
    build.arg(&target);
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Zsanitizer=address").env("CARGO_INCREMENTAL", "0");
    workspace::run(&mut build)?;
    let mut tests = Programs::default().end_to_end()?.command()?;
    tests.arg("/packets/").env(kube_proxy::VARIABLE, target.join(host).join("debug/kube-proxy"));
    workspace::run(&mut tests).context("with the address sanitizer")
}

/// A compiler that builds a sanitizer in, which is an unstable option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    /// The nightly one, where it is installed.
    Nightly,
    /// The one of this workspace: it comes with the same runtime of the sanitizer, and a variable has it accept unstable options.
    Stable,
}

impl Compiler {
    fn of_this_host() -> Self {
        let mut probe = Self::Nightly.cargo();
        // Nothing is installed to answer the question.
        probe.arg("--version").env("RUSTUP_AUTO_INSTALL", "0");
        let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_ok_and(|status| status.success()) { Self::Nightly } else { Self::Stable }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Nightly => "the nightly compiler",
            Self::Stable => {
                "the stable compiler with RUSTC_BOOTSTRAP=1, as there is no nightly one"
            }
        }
    }

    fn cargo(self) -> Command {
        match self {
            Self::Nightly => {
                let mut command = workspace::cargo(&["+nightly"]);
                // This program was started by the cargo of another toolchain, which passes its own on.
                command.env_remove("RUSTUP_TOOLCHAIN");
                command
            }
            Self::Stable => {
                let mut command = workspace::cargo(&[]);
                command.env("RUSTC_BOOTSTRAP", "1");
                command
            }
        }
    }
}
