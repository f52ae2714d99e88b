//! The steps of `cargo xtask test`.
//!
//! All of them select the whole workspace, also to run few tests of it: cargo then enables the same
//! features in all steps and compiles nothing twice.

use std::fs::File;

use super::built::{own, rootless, run_tests};
use super::ipvs;
use crate::{public, workspace};
use kube_proxy_testkit::iptables::Variant;

/// Name of the step that checks and completes the host.
pub(super) const HOST: &str = "host";

/// Name of the step that compiles what the later ones run.
pub(super) const BUILD: &str = "build";

/// One check.
pub(super) struct Step {
    /// Short name, for `--only`.
    pub(super) name: &'static str,
    /// What is checked.
    pub(super) what: &'static str,
    /// What must be so before.
    pub(super) needs: &'static [Needs],
    /// Does it.
    pub(super) run: Run,
}

/// How a step is run.
#[derive(Clone, Copy, Debug)]
pub(super) enum Run {
    /// In its turn, with its output as it comes.
    InTurn(fn() -> anyhow::Result<()>),
    /// From the end of the build on, beside other steps; its output goes to this file, and is shown in its turn.
    Beside(fn(&File) -> anyhow::Result<()>),
}

/// What a step needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Programs and kernel of the host, see [`HOST`].
    Host,
    /// The binaries, see [`BUILD`].
    Build,
    /// A kernel with `ip_vs`; in CI its absence is a failure.
    IpVs,
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
            run: Run::InTurn(|| own(&["check-host"], false)),
        },
        Step {
            name: "fmt",
            what: "formatting",
            needs: &[],
            run: Run::InTurn(|| cargo(&["fmt", "--all", "--", "--check", "-l"])),
        },
        Step {
            name: "clippy",
            what: "lints, warnings denied",
            needs: &[],
            run: Run::InTurn(|| {
                let workspace = ["clippy", "--workspace", "--all-targets"];
                cargo(&[&workspace[..], &["--", "--deny", "warnings"]].concat())
            }),
        },
        Step {
            name: BUILD,
            what: "the binary and all tests",
            needs: &[],
            run: Run::InTurn(|| {
                cargo(&["build", "--workspace", "--bins", "--tests", "--examples"])
            }),
        },
        Step {
            name: "test",
            what: "unit, property, golden, kernel, tidy and end-to-end tests",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(|| run_tests(&["test", "--workspace", "--no-fail-fast"], false)),
        },
        Step {
            name: "rootless",
            what: "the end-to-end tests again, in a user namespace",
            needs: &[Needs::Host, Needs::Build, Needs::Root],
            run: Run::InTurn(rootless),
        },
        Step {
            name: "doc",
            what: "documentation, warnings denied; what is public is what the listing says",
            needs: &[],
            run: Run::InTurn(|| {
                let mut command = workspace::cargo(&["doc", "--workspace", "--no-deps"]);
                workspace::run(command.env("RUSTDOCFLAGS", "--deny warnings"))?;
                public::check()
            }),
        },
        Step {
            name: "e2e-local",
            what: "the checks of a cluster, with the command line and the ConfigMap of kubeadm",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(|| own(&["e2e", "--local"], true)),
        },
        Step {
            name: "demo-nft",
            what: "cargo xtask demo on iptables-nft",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(|| demo(Variant::Nft)),
        },
        Step {
            name: "demo-legacy",
            what: "cargo xtask demo on iptables-legacy",
            needs: &[Needs::Host, Needs::Build],
            run: Run::InTurn(|| demo(Variant::Legacy)),
        },
        Step {
            name: "uml",
            what: "the ipvs end-to-end tests in user-mode Linux, if this kernel has no ip_vs",
            needs: &[Needs::Host, Needs::Build, Needs::IpVs],
            run: Run::Beside(ipvs::run),
        },
    ]
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    workspace::run(&mut workspace::cargo(arguments))
}

fn demo(variant: Variant) -> anyhow::Result<()> {
    own(&["demo", "--variant", variant.name()], true)
}
