//! What a check reports.

use serde::{Deserialize, Serialize};

/// Something worth saying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// A short name that does not change: `rules-differ`, `ip-forward`.
    pub id: String,
    /// What was found.
    pub what: String,
    /// What it means for Services on this node.
    pub meaning: String,
    /// What to do about it.
    pub remedy: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Some Services do not work, or will not after the next change.
    Problem,
    /// Some may not work.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Problem => "PROBLEM",
            Self::Warning => "Warning",
            Self::Note => "Note",
        }
    }
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        id: &str,
        what: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (what, meaning, remedy) = (what.into(), meaning.into(), remedy.into());
        Self { severity, id: id.to_owned(), what, meaning, remedy }
    }
}
