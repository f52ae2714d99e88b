//! The steps of `cargo xtask test --nightly`: what takes longer than a change should wait.
//!
//! Miri has no step: it runs no system calls and no functions of C, and all of our `unsafe` code is one or the other.

use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::built::{own, test_program};
use super::report;
use super::steps::{Needs, Run, Step};
use crate::{apt, workspace};
use kube_proxy_testkit::{kube_proxy, say};

/// How long each fuzz target runs, in seconds.
const FUZZ: &str = "120";
/// How long each mode takes random changes, in seconds; the forge gives each an hour in a job of its own.
const SOAK: &str = "300";

/// All of them, in their order.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step {
            name: "fuzz",
            what: "libFuzzer on everything that reads bytes",
            needs: &[Needs::Host],
            run: Run::InTurn(|| own(&["fuzz", "--seconds", FUZZ], false)),
        },
        Step {
            name: "soak",
            what: "random changes in every mode, memory and descriptors watched",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(|| own(&["soak", "--seconds", SOAK], true)),
        },
        Step {
            name: "release",
            what: "the files of a release for x86-64 and aarch64, made twice and compared",
            needs: &[Needs::Host],
            run: Run::InTurn(release),
        },
        Step {
            name: "sanitizer",
            what: "the packet tests with a binary that checks each access to memory",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(sanitizer),
        },
    ]
}

/// The targets that a release is made for wherever rustup or Debian has a standard library of them.
fn release() -> anyhow::Result<()> {
    let targets = ["--target", "x86_64-unknown-linux-gnu", "--target", "aarch64-unknown-linux-gnu"];
    let mut arguments = vec!["release", "--dry-run", "--twice"];
    arguments.extend(targets);
    // Elsewhere the compiler has them, and an image is made for this kind of machine alone.
    arguments.extend(apt::has_debian().then_some("--from-debian"));
    own(&arguments, false)
}

/// The end-to-end packet tests with the address sanitizer, which the nightly compiler alone can build in.
fn sanitizer() -> anyhow::Result<()> {
    let mut probe = Command::new("cargo");
    // This program was started by the cargo of another toolchain, which passes its own on.
    probe.args(["+nightly", "--version"]).env_remove("RUSTUP_TOOLCHAIN");
    let found = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        anyhow::ensure!(!super::is_ci(), "no nightly compiler: rustup toolchain install nightly");
        say!("not run: there is no nightly compiler (rustup toolchain install nightly)");
        return Ok(());
    }
    let host = workspace::host_triple()?;
    let mut build = workspace::cargo(&["+nightly", "build", "--package", "kube-proxy"]);
    build.args(["--target", &host]).env_remove("RUSTUP_TOOLCHAIN");
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Zsanitizer=address").env("CARGO_INCREMENTAL", "0");
    workspace::run(&mut build)?;
    let program = workspace::target_directory()?.join(host).join("debug/kube-proxy");
    let mut tests = Command::new(test_program("e2e")?);
    tests.arg("/packets/").env(kube_proxy::VARIABLE, program);
    report::set(&mut tests)?;
    workspace::run(&mut tests).context("with the address sanitizer")
}
