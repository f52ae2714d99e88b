//! The command line: every flag of the Go kube-proxy, and a few of our own.
//!
//! Flags keep the conventions of Go's pflag: `--flag=value` and `--flag value`, booleans as `--flag` or `--flag=false`,
//! `_` for `-` in names, and the last of several wins (lists and maps gather).

#[expect(clippy::doc_markdown, reason = "the comments are the text of --help")]
mod groups;
mod values;

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};

pub use groups::{
    ConntrackFlags, DeprecatedFlags, GeneralFlags, HealthFlags, IptablesFlags, IpvsFlags,
    KubernetesFlags, LoggingFlags, NftablesFlags, NodeFlags, UserspaceFlags,
};
pub use values::{IptablesVariant, VersionFormat};

/// What the environment variables that stand for flags start with.
pub const ENV_PREFIX: &str = "KUBE_PROXY_";

const BOOL: &str = "BOOL";

/// All flags. `None` and empty lists are flags that were not given.
#[derive(Clone, Debug, Default, PartialEq, Parser)]
#[command(
    name = "kube-proxy",
    about = "The Kubernetes network proxy: makes Services reachable from this node.",
    after_help = "nftables: this mode has no flags of its own. --masquerade-all and the \
        --iptables-sync-period pair apply to it, --iptables-masquerade-bit does not.\n\nEvery flag but --help and --version can also be set by an environment variable: --proxy-mode by \
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
        let Some(flag) = arg.get_long().filter(|flag| !matches!(*flag, "help" | "version")) else {
            continue;
        };
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
