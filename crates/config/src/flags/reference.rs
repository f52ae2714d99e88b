//! What is made from the declarations: completion scripts, the manual page, and lists for other pages.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory as _};

use super::{CompletionShell, Entry, Flags, Target, command, entries, is_boolean, normalize};

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
    let command = Flags::command();
    let described = |entry: &Entry| {
        let arg = command.get_arguments().find(|arg| arg.get_id() == entry.id)?;
        Some(Definition {
            name: entry.name(),
            boolean: is_boolean(arg),
            hidden: arg.is_hide_set(),
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            default: entry.default.unwrap_or_default().to_owned(),
            target: entry.target,
            added: entry.added,
        })
    };
    entries().filter_map(described).collect()
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
    /// Where its value goes.
    pub target: Target,
    /// The Go kube-proxy does not have it.
    pub added: bool,
}
