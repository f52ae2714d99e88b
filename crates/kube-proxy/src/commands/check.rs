//! `kube-proxy check`: wanted against actual, then the surroundings.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::answering::Answering;
use super::offline::families;
use super::output::Style;
use super::print;
use super::table::WIDTH;
use crate::debug::findings::facts::{self, Meant};
use crate::debug::{Check, Finding, Report, Severity};

/// Compares what is on this node with what it should be, and looks at what surrounds kube-proxy
///
/// The exit code is 1 if something differs or keeps Services from working, 0 otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    answering: Answering,
}

pub(super) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Answering { output, server, offline } = &arguments.answering;
    let answer = server.get::<Check>("/debug/check", &[]).await;
    let answer = answer.map_err(|error| format!("{error:#}"));
    let mut facts = facts::gather(answer, super::is_command);
    if facts.check.is_err() && offline.is_given() {
        let (loaded, listing) = offline.read().await?;
        let families = families(&loaded.effective, &listing)?;
        facts.meant = Some(Meant::of(loaded.effective.mode, &families));
    }
    let report = Report::new(facts);
    let text = match output.for_programs(&report)? {
        Some(text) => text,
        None => text(&report, Style::of_stdout()),
    };
    let printed = print(&text);
    Ok(if report.ok { printed } else { ExitCode::FAILURE })
}

/// Problems first, so that they are on the first screen.
fn text(report: &Report, style: Style) -> String {
    let mut text = String::new();
    if let Some(check) = &report.check {
        let line = format!("{} in {} mode, version {}", check.node, check.mode, check.version);
        text += &(style.strong(&line) + "\n");
        for family in check.families.iter().filter(|family| family.compared) {
            if family.total == 0 {
                let name = &family.family;
                let _ = writeln!(text, "{name}: everything is on the node as it should be");
            }
        }
    }
    text += &listed(&report.findings, style);
    if report.findings.is_empty() {
        text += "nothing to complain about\n";
    }
    text
}

/// Findings with what they mean and what to do, as they come.
pub(super) fn listed(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let head = format!("{}: {}", finding.severity.name(), finding.what);
        let is_problem = finding.severity == Severity::Problem;
        let head = if is_problem { style.strong(&head) } else { head };
        // Writing into a string does not fail.
        let _ = writeln!(text, "\n{head}");
        text += &wrapped(&finding.meaning);
        text += &wrapped(&format!("To do: {}", finding.remedy));
    }
    text
}

/// Lines of at most [`WIDTH`] columns, indented.
fn wrapped(words: &str) -> String {
    let mut text = String::from(" ");
    let mut column = 1;
    for word in words.split_whitespace() {
        let length = word.chars().count() + 1;
        if column > 1 && column + length > WIDTH {
            text += "\n ";
            column = 1;
        }
        text.push(' ');
        text += word;
        column += length;
    }
    text + "\n"
}

#[cfg(test)]
mod tests;
