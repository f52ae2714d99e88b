//! A kernel without `nf_tables` for IPv4 and IPv6, as user-mode Linux is: the iptables that works is found, and what cannot be had is named.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use kube_proxy_core::IpFamily;
use libtest_mimic::Trial;

use crate::flags::run;
use crate::mode::start_with;
use crate::objects::Svc;
use crate::servers::found;
use crate::world::{Mode, World, binary};

type Test = (&'static str, fn() -> anyhow::Result<()>);

const TESTS: [Test; 3] = [
    ("iptables-is-legacy", iptables),
    ("auto-is-iptables", auto),
    ("nftables-is-refused", nftables),
];

/// Among the tests of ipvs mode, because these run on such a kernel.
pub(crate) fn trials() -> Vec<Trial> {
    let trials = TESTS.map(|(name, test)| crate::trial(&format!("ipvs/no-nf-tables/{name}"), test));
    trials.into_iter().map(|trial| trial.with_ignored_flag(has_nf_tables())).collect()
}

/// Whether the kernel of this machine has it. It may have the core without any family: then it lists no tables, and takes none.
fn has_nf_tables() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let output = Command::new("nft")
            .args(["--check", "add table ip probe; add table ip6 probe"])
            .output();
        output.is_ok_and(|output| output.status.success())
    })
}

/// A search path on which the plain names are programs of the nft variant, as Debian's alternatives have it by default.
fn plain_is_nft() -> anyhow::Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    for base in ["iptables", "ip6tables"] {
        for suffix in ["", "-save", "-restore"] {
            for variant in ["", "-nft", "-legacy"] {
                let real = if variant.is_empty() { "-nft" } else { variant };
                let program = fs::canonicalize(found(&format!("{base}{real}{suffix}"))?)?;
                symlink(program, directory.path().join(format!("{base}{variant}{suffix}")))?;
            }
        }
    }
    Ok(directory)
}

/// Starts without a word about the variant, and without a hint of a kubelet; then a Service answers. Returns what was said.
fn serve(programs: &Path, mode: &str) -> anyhow::Result<(World, String)> {
    let mut world = World::without_proxy(Mode::IptablesLegacy, &[])?;
    world.serve(&Svc::new("web", 1), &["local-1"])?;
    let mut command = Command::new(binary()?);
    command.arg(mode).env("PATH", programs);
    let chosen = start_with(&mut world, command)?;
    ensure!(chosen == "iptables", "{chosen}");
    let lines = world.proxy().lines().join("\n");
    ensure!(!lines.contains(" ERROR "), "{lines}");
    Ok((world, lines))
}

/// The variant that the kernel has, although the plain names are the other one.
fn iptables() -> anyhow::Result<()> {
    let programs = plain_is_nft()?;
    let (world, lines) = serve(programs.path(), "--proxy-mode=iptables")?;
    let said = lines.lines().filter(|line| line.contains("iptables-legacy")).count();
    ensure!(said > 0, "the choice is not in the log:\n{lines}");
    for family in IpFamily::BOTH {
        let rules = world.rules(Mode::IptablesLegacy, family)?;
        ensure!(rules.iter().any(|rule| rule.contains("KUBE-SVC-")), "{family}: {rules:#?}");
    }
    Ok(())
}

/// The only mode of the two that such a kernel can have, and why.
fn auto() -> anyhow::Result<()> {
    let programs = plain_is_nft()?;
    let (_world, lines) = serve(programs.path(), "--proxy-mode=auto")?;
    let said: Vec<_> = lines.lines().filter(|line| line.contains("chose the proxy mode")).collect();
    let [said] = said[..] else { anyhow::bail!("said {said:?}:\n{lines}") };
    ensure!(said.contains("nf_tables"), "{said}");
    Ok(())
}

/// One sentence that names what the kernel lacks, and an end.
fn nftables() -> anyhow::Result<()> {
    let manifests = tempfile::tempdir()?;
    let manifests = format!("--manifests={}", manifests.path().display());
    let arguments = ["--proxy-mode=nftables", &manifests, "--hostname-override=node"];
    run(&arguments, &[])?.fails_with("nf_tables").context("nftables mode")
}
