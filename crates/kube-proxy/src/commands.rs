//! The commands of the binary: `kube-proxy COMMAND`, each in a file of its own. Without a command, the program is the proxy.
//!
//! Commands ask the running proxy over its metrics server, by the types of [`crate::debug`].
//! A new command is a file here, a variant of `Command`, and a row in `docs/commands.md`.

mod answering;
mod changes;
mod check;
mod dump;
mod endpoints;
mod explain;
mod flows;
mod frontends;
mod names;
mod offline;
mod output;
mod plan;
mod server;
mod services;
mod table;
mod trace;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

/// `kube-proxy COMMAND …`.
#[derive(Debug, Parser)]
#[command(
    name = "kube-proxy",
    about = "Questions to the kube-proxy of this node. Without a command, kube-proxy is the proxy: see kube-proxy --help.",
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Explain(explain::Arguments),
    Services(services::Arguments),
    Endpoints(endpoints::Arguments),
    Flows(flows::Arguments),
    Trace(trace::Arguments),
    Check(check::Arguments),
    Plan(plan::Arguments),
    Dump(dump::Arguments),
}

impl Command {
    async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Explain(arguments) => explain::run(&arguments).await,
            Self::Endpoints(arguments) => endpoints::run(&arguments).await,
            Self::Services(arguments) => services::run(&arguments).await,
            Self::Flows(arguments) => flows::run(&arguments).await,
            Self::Trace(arguments) => trace::run(&arguments).await,
            Self::Check(arguments) => check::run(&arguments).await,
            Self::Plan(arguments) => plan::run(&arguments).await,
            Self::Dump(arguments) => dump::run(&arguments).await,
        }
    }
}

/// The commands with their options, for pages that describe them.
pub fn command_line() -> clap::Command {
    CommandLine::command()
}

/// Runs the command that the command line names first; `None` if it names none.
pub fn run(args: &[OsString]) -> Option<ExitCode> {
    let first = args.get(1)?.to_str()?;
    let all = CommandLine::command();
    if first == "help" {
        return Some(print(&all.clone().render_help().to_string()));
    }
    all.get_subcommands().find(|command| command.get_name() == first)?;
    Some(match CommandLine::try_parse_from(args) {
        Ok(line) => execute(line.command),
        Err(error) if error.use_stderr() => {
            complain(error.to_string().trim_end());
            ExitCode::from(2)
        }
        Err(help) => print(&help.to_string()),
    })
}

/// Whether the first argument of a command line is the name of a command.
pub(crate) fn is_command(first: &str) -> bool {
    first == "help" || CommandLine::command().find_subcommand(first).is_some()
}

fn execute(command: Command) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(command.run()),
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        complain(&format!("kube-proxy: {error:#}"));
        ExitCode::FAILURE
    })
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("kube-proxy: cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says something beside the answer.
fn note(text: &str) {
    complain(&format!("kube-proxy: {text}"));
}

fn complain(text: &str) {
    // Nothing is left to do when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests;
