//! The steps of `cargo xtask test`.
//!
//! All of them select the whole workspace, also to run few tests of it: cargo then enables the same
//! features in all steps and compiles nothing twice.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use kube_proxy_testkit::sandbox;
use serde_json::Value;

use crate::output::say;
use crate::variant::Variant;
use crate::{binary, host, uml, workspace};

/// Name of the step that checks and completes the host.
pub(super) const HOST: &str = "host";

/// Name of the step that compiles what the later ones run.
pub(super) const BUILD: &str = "build";

/// Package of the end-to-end tests.
const END_TO_END: &str = "kube-proxy-tests";

/// One check.
pub(super) struct Step {
    /// Short name, for `--only`.
    pub(super) name: &'static str,
    /// What is checked.
    pub(super) what: &'static str,
    /// What must be so before.
    pub(super) needs: &'static [Needs],
    /// Does it.
    pub(super) run: fn() -> anyhow::Result<()>,
}

/// What a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Programs and kernel of the host, see [`HOST`].
    Host,
    /// The binaries, see [`BUILD`].
    Build,
    /// A user that is root; for others the step would repeat another one.
    Root,
}

/// All steps in their order.
pub(super) fn all() -> Vec<Step> {
    vec![
        Step {
            name: HOST,
            what: "installs what the host lacks, tries namespaces and iptables",
            needs: &[],
            run: || own(&["check-host"], false),
        },
        Step {
            name: "fmt",
            what: "formatting",
            needs: &[],
            run: || cargo(&["fmt", "--all", "--", "--check", "-l"]),
        },
        Step {
            name: "clippy",
            what: "lints, warnings denied",
            needs: &[],
            run: || {
                let workspace = ["clippy", "--workspace", "--all-targets"];
                cargo(&[&workspace[..], &["--", "--deny", "warnings"]].concat())
            },
        },
        Step {
            name: BUILD,
            what: "the binary and all tests",
            needs: &[],
            run: || cargo(&["build", "--workspace", "--bins", "--tests", "--examples"]),
        },
        Step {
            name: "test",
            what: "unit, property, golden, kernel, tidy and end-to-end tests",
            needs: &[Needs::Host, Needs::Build],
            run: || run_tests(&["test", "--workspace", "--no-fail-fast"], false),
        },
        Step {
            name: "rootless",
            what: "the end-to-end tests again, in a user namespace",
            needs: &[Needs::Host, Needs::Build, Needs::Root],
            run: rootless,
        },
        Step {
            name: "uml",
            what: "the ipvs end-to-end tests in user-mode Linux, if this kernel has no ip_vs",
            needs: &[Needs::Host, Needs::Build],
            run: uml,
        },
        Step {
            name: "doc",
            what: "documentation, warnings denied",
            needs: &[],
            run: || {
                let mut command = workspace::cargo(&["doc", "--workspace", "--no-deps"]);
                workspace::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
            },
        },
        Step {
            name: "e2e-local",
            what: "the checks of a cluster, with the command line and the ConfigMap of kubeadm",
            needs: &[Needs::Host, Needs::Build],
            run: || own(&["e2e", "--local"], true),
        },
        Step {
            name: "demo-nft",
            what: "cargo xtask demo on iptables-nft",
            needs: &[Needs::Host, Needs::Build],
            run: || demo(Variant::Nft),
        },
        Step {
            name: "demo-legacy",
            what: "cargo xtask demo on iptables-legacy",
            needs: &[Needs::Host, Needs::Build],
            run: || demo(Variant::Legacy),
        },
    ]
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    workspace::run(&mut workspace::cargo(arguments))
}

fn demo(variant: Variant) -> anyhow::Result<()> {
    own(&["demo", "--variant", variant.name()], true)
}

/// Runs another command of this program, as it was just built where that matters.
fn own(arguments: &[&str], built: bool) -> anyhow::Result<()> {
    workspace::run(&mut own_command(arguments, built)?)
}

fn own_command(arguments: &[&str], built: bool) -> anyhow::Result<Command> {
    let mut command = if built {
        let mut command = Command::new(workspace::programs("dev")?.join("xtask"));
        command.env(binary::VARIABLE, binary()?);
        command
    } else {
        Command::new(std::env::current_exe().context("cannot find the path of this program")?)
    };
    command.args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Runs tests with the binary that was built.
fn run_tests(arguments: &[&str], rootless: bool) -> anyhow::Result<()> {
    let mut command = workspace::cargo(arguments);
    command.env(binary::VARIABLE, binary()?);
    if rootless {
        command.env(sandbox::ROOTLESS_VARIABLE, "1");
    }
    workspace::run(&mut command)
}

/// Runs the test programs of the end-to-end package in their rootless form.
fn rootless() -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages
        .filter(|package| package["name"] == END_TO_END)
        .flat_map(|package| package["targets"].as_array().into_iter().flatten())
        .filter(|target| target["kind"][0] == "test");
    let names: Vec<&str> = targets.filter_map(|target| target["name"].as_str()).collect();
    if names.is_empty() {
        bail!("the package {END_TO_END} has no tests");
    }
    let mut arguments = vec!["test", "--workspace"];
    for name in names {
        arguments.extend(["--test", name]);
    }
    run_tests(&arguments, true)
}

/// Runs the tests that this kernel cannot run on one that can.
fn uml() -> anyhow::Result<()> {
    if Path::new("/proc/self/net/ip_vs").exists() {
        say!("this kernel has ip_vs: they ran natively");
        return Ok(());
    }
    if !host::is_on_path(uml::PROGRAM) {
        let missing = "the ipvs tests did not run: there is no linux.uml (Debian package user-mode-linux) and no ip_vs";
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            bail!(missing);
        }
        say!("SKIPPED: {missing}");
        return Ok(());
    }
    let tests = test_program()?;
    let packets = ["uml", "--", &tests, "ipvs/packets/", "--color=never"];
    let rest = ["uml", "--", &tests, "ipvs/", "--skip=ipvs/packets/", "--color=never"];
    // User-mode Linux has one processor: two of them use two. What the second says is shown after the first.
    let mut second = own_command(&rest, true)?;
    let second = second.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = second.spawn().with_context(|| workspace::as_typed(second))?;
    let first = own(&packets, true);
    let output = child.wait_with_output().context("cannot wait for user-mode Linux")?;
    say!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    first?;
    if !output.status.success() {
        bail!("`{}` failed: {}", workspace::as_typed(second), output.status);
    }
    Ok(())
}

/// The end-to-end test program that the build step made.
fn test_program() -> anyhow::Result<String> {
    let arguments = ["test", "--workspace", "--test", "e2e", "--no-run", "--message-format=json"];
    let output = workspace::cargo(&arguments).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let program = messages
        .filter(|message| message["target"]["name"] == "e2e")
        .find_map(|message| message["executable"].as_str().map(str::to_owned));
    program.context("cargo named no end-to-end test program")
}

/// The kube-proxy that the build step made.
fn binary() -> anyhow::Result<PathBuf> {
    Ok(workspace::programs("dev")?.join("kube-proxy"))
}
