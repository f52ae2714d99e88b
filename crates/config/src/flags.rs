//! The command line: every flag of the Go kube-proxy, and a few of our own.
//!
//! A flag is declared once, in the file of its section, with the macro of `flags/table.rs`. Help, the completion scripts, the manual page, the
//! environment variable, the layer of the configuration and `docs/flags.md` come from that.
//!
//! Flags keep the conventions of Go's pflag: `--flag=value` and `--flag value`, booleans as `--flag` or `--flag=false`,
//! `_` for `-` in names, and the last of several wins (lists and maps gather).

mod deprecated;
mod environment;
mod general;
mod modes;
mod node;
mod reference;
mod table;
mod values;

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser};

pub use deprecated::DeprecatedFlags;
pub(crate) use environment::variable;
pub use environment::{InvalidVariable, parse_environment};
pub use general::{GeneralFlags, KubernetesFlags, LoggingFlags};
pub use modes::{IptablesFlags, IpvsFlags, NftablesFlags, UserspaceFlags};
pub use node::{ConntrackFlags, HealthFlags, NodeFlags, SafetyFlags};
pub use reference::{Definition, definitions};
pub(crate) use reference::{completion, given, manual};
use table::Group;
pub use table::Target;
pub(crate) use table::{Entry, Given};
pub use values::{CompletionShell, IptablesVariant, VersionFormat};

const BOOL: &str = "BOOL";

/// Puts the sections together.
macro_rules! sections {
    ($(#[$meta:meta])* pub struct $flags:ident { $($section:ident: $group:ty,)+ }) => {
        $(#[$meta])*
        pub struct $flags {
            $(#[command(flatten)] #[expect(missing_docs, reason = "documented where it is defined")] pub $section: $group,)+
            /// kube-proxy takes no arguments; caught here for a clear message.
            #[arg(hide = true, value_name = "ARGUMENT")]
            pub arguments: Vec<String>,
        }

        impl $flags {
            /// These flags, and where one is not given, that of `below`.
            pub(crate) fn over(&self, below: &Self) -> Self {
                let arguments = self.arguments.clone();
                Self { $($section: self.$section.over(&below.$section),)+ arguments }
            }

            /// Those given that set a field of the configuration.
            pub(crate) fn given(&self) -> Vec<Given> {
                [$(self.$section.given()),+].into_iter().flatten().collect()
            }
        }

        /// Every flag, in the order of `--help`.
        pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
            [$(<$group as Group>::ENTRIES),+].into_iter().flatten()
        }
    };
}

sections! {
    /// All flags. `None` and empty lists are flags that were not given.
    #[derive(Clone, Debug, Default, PartialEq, Parser)]
    #[command(
        name = "kube-proxy",
        about = "The Kubernetes network proxy: makes Services reachable from this node.",
        after_help = "Questions to a running kube-proxy, such as kube-proxy services, are listed by kube-proxy help.\n\nnftables: --masquerade-all and the --iptables-sync-period pair apply to it, \
            --iptables-masquerade-bit does not.\n\nEvery flag but --help, --version, --completion and --man can also be set by an environment variable: --proxy-mode by \
            KUBE_PROXY_PROXY_MODE, and so on. Flags win over the environment, and the environment over \
            the configuration file. With --config, flags for what the \
            file holds do not count, except the logging flags and --hostname-override.",
        max_term_width = 100,
        args_override_self = true,
        disable_help_flag = true,
        disable_version_flag = true
    )]
    pub struct Flags {
        general: GeneralFlags,
        kubernetes: KubernetesFlags,
        node: NodeFlags,
        safety: SafetyFlags,
        iptables: IptablesFlags,
        ipvs: IpvsFlags,
        nftables: NftablesFlags,
        userspace: UserspaceFlags,
        conntrack: ConntrackFlags,
        health: HealthFlags,
        logging: LoggingFlags,
        deprecated: DeprecatedFlags,
    }
}

/// The command with the conventions of pflag applied to every flag, and the defaults shown.
pub(crate) fn command() -> Command {
    Flags::command().mut_args(|arg| {
        let entry = entries().find(|entry| arg.get_id() == entry.id);
        let arg = match (entry.and_then(|entry| entry.default), arg.get_help()) {
            (Some(default), Some(help)) => {
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        };
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

#[cfg(test)]
mod tests;
