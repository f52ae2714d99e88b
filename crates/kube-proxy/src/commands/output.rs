//! How an answer is written: as a table, or as JSON or YAML for programs.

use std::io::IsTerminal as _;

use serde::Serialize;

/// The formats of a command that prints a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Columns that fit a terminal.
    #[default]
    Table,
    /// More columns, as wide as they are.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// The option that chooses one.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Output {
    /// How to print the answer
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Output {
    /// The answer in a format for programs; `None` where a person reads it.
    pub(super) fn for_programs(self, answer: &impl Serialize) -> anyhow::Result<Option<String>> {
        Ok(match self.output {
            Format::Json => Some(serde_json::to_string_pretty(answer)? + "\n"),
            Format::Yaml => Some(serde_saphyr::to_string(answer)?),
            Format::Table | Format::Wide => None,
        })
    }

    /// Whether everything is to be shown.
    pub(super) fn is_wide(self) -> bool {
        self.output == Format::Wide
    }
}

/// Colours, on a terminal only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    on: bool,
}

impl Style {
    /// With colours if standard output is a terminal, and neither `NO_COLOR` nor `TERM=dumb` speaks against them.
    pub(super) fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        Self { on: std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && !dumb }
    }

    /// Without colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { on: false }
    }

    /// A heading.
    pub(super) fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
