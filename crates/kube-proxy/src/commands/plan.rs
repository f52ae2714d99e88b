//! `kube-proxy plan`: what another proxy mode would mean for this node, before anything is changed.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use kube_proxy_config::{Effective, Mode};
use kube_proxy_core::IpFamily;
use kube_proxy_core::explain::NodeFacts as PacketFacts;
use serde::{Deserialize, Serialize};

use super::answering::Answering;
use super::check::listed;
use super::offline::{Started, families};
use super::output::Style;
use super::print;
use crate::debug::findings::facts::{self, Meant};
use crate::debug::findings::surroundings::surroundings;
use crate::debug::{Check, Finding, Severity};
use crate::listing::Listing;
use crate::modes::{host_has, packet_facts};

mod behavior;
mod node;
mod trial;

use trial::{Rules, Written};

/// Says what another proxy mode would mean for this node, and changes nothing
///
/// It tries the mode in an empty network namespace, with the kernel and the programs of this node and the Services of now.
/// The exit code is 1 if the mode cannot work here.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The mode to change to: iptables, ipvs, nftables or userspace
    #[arg(long, value_name = "MODE")]
    proxy_mode: String,
    /// Also print the rules that would be written, as the programs of this node list them
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    answering: Answering,
}

/// The whole answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plan {
    /// The name of the node.
    node: String,
    /// The mode of the proxy that runs, or that is meant.
    from: String,
    /// The mode that was asked about.
    to: String,
    /// The mode can work here.
    ok: bool,
    /// What stands in the way, and what would be different; the worst first.
    findings: Vec<Finding>,
    /// What was written into the empty network namespace.
    written: Vec<Written>,
    /// The rules; with `--print` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<Rules>,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { proxy_mode, print: with_rules, answering } = arguments;
    let Answering { output, server, offline } = answering;
    let started = if offline.is_given() {
        offline.started()
    } else {
        Started::of_running(server).await.context("how the proxy is started")?
    };
    let old = started.load()?.effective;
    let mut planned = started;
    planned.set("proxy-mode", proxy_mode);
    let new = planned.load()?.effective;
    let listing = Listing::read(&old).await?;
    let check = server.get::<Check>("/debug/check", &[]).await;
    let mut findings = surroundings_of(&new, &old, &listing, check)?;
    findings.extend(node::findings(&old, &new, &listing));
    for family in IpFamily::BOTH.into_iter().filter(|family| host_has(*family)) {
        let tracker = listing.tracker(&old, family);
        let facts = |config| -> anyhow::Result<PacketFacts> {
            Ok(packet_facts::of_node(config, family, &listing.node)?)
        };
        findings.extend(behavior::findings(&tracker, &facts(&old)?, &facts(&new)?));
    }
    // From here on this process is elsewhere.
    let trial = trial::run(&new, &listing, *with_rules).await;
    findings.extend(trial.findings);
    findings.sort_by_key(|finding| finding.severity);
    let plan = Plan {
        node: old.node_name.clone(),
        from: old.mode.name().to_owned(),
        to: new.mode.name().to_owned(),
        ok: findings.iter().all(|finding| finding.severity != Severity::Problem),
        findings,
        written: trial.written,
        rules: trial.rules,
    };
    let text = match output.for_programs(&plan)? {
        Some(text) => text,
        None => text(&plan, Style::of_stdout()),
    };
    let printed = print(&text);
    Ok(if plan.ok { printed } else { ExitCode::FAILURE })
}

/// What `kube-proxy check` would say of what surrounds a proxy of the new mode, and does not say of the old one.
/// The rules of the old mode are no leftovers yet.
fn surroundings_of(
    new: &Effective,
    old: &Effective,
    listing: &Listing,
    check: anyhow::Result<Check>,
) -> anyhow::Result<Vec<Finding>> {
    let check = check.map_err(|error| format!("{error:#}"));
    let mut facts = facts::gather(check, super::is_command);
    let families = families(old, listing)?;
    let mut around = |mode| {
        facts.meant = Some(Meant::of(mode, &families));
        surroundings(&facts)
    };
    let known = around(old.mode);
    let is_new = |finding: &Finding| finding.id != "leftovers" && !known.contains(finding);
    Ok(around(new.mode).into_iter().filter(is_new).collect())
}

fn text(plan: &Plan, style: Style) -> String {
    let Plan { node, from, to, .. } = plan;
    let mut text = style.strong(&format!("{node}: from {from} to {to} mode")) + "\n";
    for family in &plan.written {
        let counts: Vec<_> = family
            .objects
            .iter()
            .map(|object| format!("{} {}", object.count, object.kind))
            .collect();
        let counts = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
        // Writing into a string does not fail.
        let _ = writeln!(text, "{}: would write {counts}", family.family);
    }
    text += &listed(&plan.findings, style);
    let end = if !plan.ok {
        "the mode cannot work here as the node is"
    } else if plan.findings.is_empty() {
        "nothing stands in the way, and nothing would be different for clients"
    } else {
        "nothing stands in the way"
    };
    let _ = writeln!(text, "\n{end}");
    for rules in &plan.rules {
        let _ = write!(text, "\n{}\n{}", style.strong(&rules.program), rules.text);
    }
    text
}

/// What becomes of the open connections of the mode before.
fn open_connections(old: Mode, new: Mode) -> Option<Finding> {
    if old == new {
        return None;
    }
    let (what, remedy) = if packet_facts::copies(old) {
        (
            "connections that the kube-proxy process copies now end with it",
            "Change the mode when clients can connect again.",
        )
    } else {
        (
            "open connections continue where they are",
            "Nothing. New connections follow the new mode from its first sync.",
        )
    };
    let meaning = "The rules of the old mode are removed after the first sync of the new one.";
    Some(Finding::new(Severity::Note, "open-connections", what, meaning, remedy))
}
