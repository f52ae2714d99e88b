//! Environment variables that stand for flags.

use std::ffi::OsString;

use super::{Flags, Target, entries, parse};

/// What the variables start with.
const PREFIX: &str = "KUBE_PROXY_";

/// The environment variable that stands for a flag.
pub(crate) fn variable(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
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
    for entry in entries().filter(|entry| entry.target != Target::Prints) {
        let flag = entry.name();
        let variable = variable(&flag);
        let Some(value) = lookup(&variable) else { continue };
        let arg = OsString::from(format!("--{flag}={value}"));
        if let Err(error) = parse(["kube-proxy".into(), arg.clone()]) {
            if value.is_empty() {
                // A template writes an empty variable for what is not set. Where empty is a value, it parses.
                continue;
            }
            let text = error.to_string();
            let reason = text.lines().next().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ").to_owned();
            return Err(InvalidVariable { variable, reason });
        }
        all.push(arg);
    }
    parse(all).map_err(|error| InvalidVariable {
        variable: format!("{PREFIX}*"),
        reason: error.to_string(),
    })
}
