//! The command line: every flag of the Go kube-proxy, and a few of our own.
//!
//! Flags keep the conventions of Go's pflag: `--flag=value` and `--flag value`, booleans as `--flag` or `--flag=false`,
//! `_` for `-` in names, and the last of several wins (lists and maps gather).

#[expect(clippy::doc_markdown, reason = "the comments are the text of --help")]
mod groups;
mod safety;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};

pub use groups::{
    ConntrackFlags, DeprecatedFlags, GeneralFlags, HealthFlags, IptablesFlags, IpvsFlags,
    KubernetesFlags, LoggingFlags, NftablesFlags, NodeFlags, UserspaceFlags,
};
pub use safety::SafetyFlags;
pub use values::{CompletionShell, IptablesVariant, VersionFormat};

/// What the environment variables that stand for flags start with.
pub const ENV_PREFIX: &str = "KUBE_PROXY_";

const BOOL: &str = "BOOL";

/// Flags that print something and exit: no variable stands for them.
const PRINTING: [&str; 4] = ["help", "version", "completion", "man"];

/// All flags. `None` and empty lists are flags that were not given.
#[derive(Clone, Debug, Default, PartialEq, Parser)]
#[command(
    name = "kube-proxy",
    about = "The Kubernetes network proxy: makes Services reachable from this node.",
    after_help = "nftables: --masquerade-all and the --iptables-sync-period pair apply to it, \
        --iptables-masquerade-bit does not.\n\nEvery flag but --help, --version, --completion and --man can also be set by an environment variable: --proxy-mode by \
        KUBE_PROXY_PROXY_MODE, and so on. Flags win over the environment, and the environment over \
        the configuration file. With --config, flags for what the \
        file holds do not count, except the logging flags and --hostname-override.",
    max_term_width = 100,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
#[expect(missing_docs, reason = "the groups are documented where they are defined")]
pub struct Flags {
    #[command(flatten, next_help_heading = "General")]
    pub general: GeneralFlags,
    #[command(flatten, next_help_heading = "Kubernetes API")]
    pub kubernetes: KubernetesFlags,
    #[command(flatten, next_help_heading = "Node ports and local traffic")]
    pub node: NodeFlags,
    #[command(flatten, next_help_heading = "Safety")]
    pub safety: SafetyFlags,
    #[command(flatten, next_help_heading = "iptables")]
    pub iptables: IptablesFlags,
    #[command(flatten, next_help_heading = "ipvs")]
    pub ipvs: IpvsFlags,
    #[command(flatten, next_help_heading = "nftables")]
    pub nftables: NftablesFlags,
    #[command(flatten, next_help_heading = "userspace")]
    pub userspace: UserspaceFlags,
    #[command(flatten, next_help_heading = "conntrack")]
    pub conntrack: ConntrackFlags,
    #[command(flatten, next_help_heading = "Health and metrics")]
    pub health: HealthFlags,
    #[command(flatten, next_help_heading = "Logging")]
    pub logging: LoggingFlags,
    #[command(flatten, next_help_heading = "Deprecated")]
    pub deprecated: DeprecatedFlags,
    /// kube-proxy takes no arguments; caught here for a clear message.
    #[arg(hide = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// The command with the conventions of pflag applied to every flag.
pub(crate) fn command() -> Command {
    Flags::command().mut_args(|arg| {
        if arg.is_positional() || !arg.get_action().takes_values() {
            arg
        } else if is_boolean(&arg) {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg.allow_hyphen_values(true)
        }
    })
}

/// Booleans, and `--version`, may stand alone; a value needs the equals sign.
fn is_boolean(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| name.starts_with(BOOL)))
}

/// Parses a command line; the first argument is the program's name.
///
/// # Errors
/// Those of clap, which include the request for `--help`.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Flags, clap::Error> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "kube-proxy".into());
    let normalized = args.map(normalize);
    let mut matches = command().try_get_matches_from(std::iter::once(program).chain(normalized))?;
    let flags = Flags::from_arg_matches_mut(&mut matches)?;
    match flags.arguments.iter().find(|argument| !argument.is_empty()) {
        None => Ok(flags),
        Some(argument) => Err(command().error(
            clap::error::ErrorKind::UnknownArgument,
            format!("unexpected argument {argument:?}: kube-proxy takes flags only"),
        )),
    }
}

/// The completion script of a shell.
pub(crate) fn completion(shell: CompletionShell) -> String {
    let shell = match shell {
        CompletionShell::Bash => clap_complete::Shell::Bash,
        CompletionShell::Zsh => clap_complete::Shell::Zsh,
        CompletionShell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut documented(), "kube-proxy", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, as roff.
///
/// # Errors
/// None that is known: it is written to memory.
pub(crate) fn manual() -> std::io::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(documented()).render(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The command as people are told of it: without the place where stray arguments are caught, and without hidden flags.
fn documented() -> Command {
    let whole = command();
    let shown = whole.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_hide_set());
    let named = Command::new("kube-proxy").version(env!("CARGO_PKG_VERSION"));
    let about = whole.get_about().cloned().unwrap_or_default();
    let more = whole.get_after_help().cloned().unwrap_or_default();
    named
        .about(about)
        .after_help(more)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(shown)
}

/// The flags of a command line that parsed, with their values as they were written, commas between several.
pub(crate) fn given(args: impl IntoIterator<Item = OsString>) -> BTreeMap<String, String> {
    let mut args = args.into_iter();
    let program = args.next().unwrap_or_else(|| "kube-proxy".into());
    let command = command();
    let line = std::iter::once(program).chain(args.map(normalize));
    let Ok(matches) = command.clone().try_get_matches_from(line) else { return BTreeMap::new() };
    let text = |arg: &Arg| {
        let values = matches.get_raw(arg.get_id().as_str())?;
        let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        Some((arg.get_long()?.to_owned(), values.join(",")))
    };
    command.get_arguments().filter_map(text).collect()
}

/// Every flag that `--help` shows or hides, with the flag's value name and its help text.
pub fn definitions() -> Vec<Definition> {
    let mut command = command();
    command.build();
    let described = |arg: &Arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let (text, default) = match help.rsplit_once(" [default: ") {
            Some((text, default)) => (text, default.trim_end_matches(']')),
            None => (help.as_str(), ""),
        };
        Some(Definition {
            name: arg.get_long()?.to_owned(),
            boolean: is_boolean(arg),
            hidden: arg.is_hide_set(),
            help: text.to_owned(),
            default: default.to_owned(),
        })
    };
    command.get_arguments().filter_map(described).collect()
}

/// One flag, for pages that list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name, without dashes.
    pub name: String,
    /// It may stand without a value.
    pub boolean: bool,
    /// `--help` does not show it.
    pub hidden: bool,
    /// What it does, in one line.
    pub help: String,
    /// What it is when it is not given, as `--help` says.
    pub default: String,
}

/// Turns `--proxy_mode` into `--proxy-mode`.
fn normalize(arg: OsString) -> OsString {
    match arg.to_str() {
        Some(text) if text.starts_with("--") && text.contains('_') => {
            let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
            format!("{}{value}", name.replace('_', "-")).into()
        }
        _ => arg,
    }
}

/// The environment variable that stands for a flag.
pub(crate) fn variable(flag: &str) -> String {
    format!("{ENV_PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// A variable with a value its flag does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {reason}")]
pub struct InvalidVariable {
    /// Its name.
    pub variable: String,
    /// What is wrong with the value.
    pub reason: String,
}

/// The flags that are set by environment variables; other variables are none of our business.
///
/// # Errors
/// The first variable whose value is invalid.
pub fn parse_environment(
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Flags, InvalidVariable> {
    let mut all = vec![OsString::from("kube-proxy")];
    for arg in command().get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| !PRINTING.contains(flag)) else { continue };
        let variable = variable(flag);
        let Some(value) = lookup(&variable) else { continue };
        let arg = OsString::from(format!("--{flag}={value}"));
        if let Err(error) = parse(["kube-proxy".into(), arg.clone()]) {
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ").to_owned();
            return Err(InvalidVariable { variable, reason });
        }
        all.push(arg);
    }
    parse(all).map_err(|error| InvalidVariable {
        variable: format!("{ENV_PREFIX}*"),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;
