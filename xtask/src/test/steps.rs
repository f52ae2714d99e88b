//! The steps of `cargo xtask test`.
//!
//! All of them select the whole workspace, also to run few tests of it: cargo then enables the same
//! features in all steps and compiles nothing twice.

use super::jobs::{self, Job, Length};
use super::programs::Programs;
use super::{built, ipvs};
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
    /// By itself but for what runs aside, with its output as it comes.
    Alone(fn() -> anyhow::Result<()>),
    /// As jobs, beside those of the steps before and after that have some too.
    Jobs(MakeJobs),
    /// As jobs, beside all steps that follow up to the build, or the first that needs something. It may need nothing itself.
    Aside(MakeJobs),
}

/// Makes the jobs of a step.
pub(super) type MakeJobs = fn(&Programs) -> anyhow::Result<Vec<Job>>;

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
            run: Run::Aside(|_| {
                let command = built::own(&["check-host"], false)?;
                Ok(vec![Job::of_command("check-host", Length::Medium, command)])
            }),
        },
        Step {
            name: "fmt",
            what: "formatting",
            needs: &[],
            run: Run::Alone(|| cargo(&["fmt", "--all", "--", "--check", "-l"])),
        },
        Step {
            name: "clippy",
            what: "lints, warnings denied",
            needs: &[],
            run: Run::Alone(|| {
                let workspace = ["clippy", "--workspace", "--all-targets"];
                cargo(&[&workspace[..], &["--", "--deny", "warnings"]].concat())
            }),
        },
        Step {
            name: BUILD,
            what: "the binary and all tests",
            needs: &[],
            run: Run::Alone(|| cargo(&["build", "--workspace", "--bins", "--tests", "--examples"])),
        },
        Step {
            name: "test",
            what: "unit, property, golden, kernel, tidy and end-to-end tests",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Jobs(Programs::jobs),
        },
        Step {
            name: "rootless",
            what: "the end-to-end tests again, in a user namespace",
            needs: &[Needs::Host, Needs::Build, Needs::Root],
            run: Run::Jobs(Programs::rootless),
        },
        Step {
            name: "uml",
            what: "the ipvs end-to-end tests in user-mode Linux, if this kernel has no ip_vs",
            needs: &[Needs::Host, Needs::Build, Needs::IpVs],
            run: Run::Jobs(ipvs::jobs),
        },
        Step {
            name: "doc",
            what: "documentation, warnings denied; what is public is what the listing says",
            needs: &[],
            run: Run::Jobs(|_| {
                Ok(vec![Job::new("cargo doc", Length::Medium, |log| {
                    let mut command = workspace::cargo(&["doc", "--workspace", "--no-deps"]);
                    command.env("RUSTDOCFLAGS", "--deny warnings");
                    workspace::run(jobs::print_to(log, &mut command)?)?;
                    public::check()
                })])
            }),
        },
        Step {
            name: "e2e-local",
            what: "the checks of a cluster, with the command line and the ConfigMap of kubeadm",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Jobs(|_| own(&["e2e", "--local"])),
        },
        Step {
            name: "demo-nft",
            what: "cargo xtask demo on iptables-nft",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Jobs(|_| demo(Variant::Nft)),
        },
        Step {
            name: "demo-legacy",
            what: "cargo xtask demo on iptables-legacy",
            needs: &[Needs::Host, Needs::Build],
            run: Run::Jobs(|_| demo(Variant::Legacy)),
        },
    ]
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    workspace::run(&mut workspace::cargo(arguments))
}

fn demo(variant: Variant) -> anyhow::Result<Vec<Job>> {
    own(&["demo", "--variant", variant.name()])
}

/// A job that is another command of this program.
fn own(arguments: &[&str]) -> anyhow::Result<Vec<Job>> {
    let command = built::own(arguments, true)?;
    Ok(vec![Job::of_command(arguments.join(" "), Length::Short, command)])
}
