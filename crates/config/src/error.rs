//! What can go wrong before the program starts its work.

use std::io;
use std::path::PathBuf;

use super::flags::InvalidVariable;
use super::validate::FieldError;

/// The configuration cannot be used; the process ends with exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The command line is wrong. The text is complete, with the usage.
    #[error("{0}")]
    Usage(String),
    /// An environment variable is wrong.
    #[error("failed complete: {0}")]
    Variable(#[from] InvalidVariable),
    /// The file cannot be read.
    #[error("failed complete: failed to read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("failed complete: failed to decode {}{}{}: {reason}", path.display(), place(*at), named(field))]
    Decode {
        /// The file.
        path: PathBuf,
        /// Line and column, where known.
        at: Option<(u64, u64)>,
        /// The field, empty for the whole document.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// Values break rules; all of them are listed.
    #[error("failed validate: {}", list(.0))]
    Invalid(Vec<FieldError>),
    /// The host name is needed and cannot be found out.
    #[error("failed complete: failed to get the host name: {0}; set --hostname-override")]
    HostName(#[source] io::Error),
    /// The configuration cannot be written as YAML.
    #[error("failed to encode the configuration: {0}")]
    Encode(String),
    /// The configuration cannot be written to a file.
    #[error("failed to write the configuration to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn place(at: Option<(u64, u64)>) -> String {
    at.map(|(line, column)| format!(" line {line} column {column}")).unwrap_or_default()
}

fn named(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(": {field}") }
}

/// One error as it is, several in brackets.
fn list(errors: &[FieldError]) -> String {
    match errors {
        [only] => only.to_string(),
        many => {
            let all: Vec<_> = many.iter().map(ToString::to_string).collect();
            format!("[{}]", all.join(", "))
        }
    }
}
