//! The answer of `/debug/check`: wanted against actual.

use serde::{Deserialize, Serialize};

use crate::family::check::FamilyCheck;

/// What on this node differs from what the last syncs wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Check {
    /// The name of the node.
    pub node: String,
    /// The proxy mode, as in `--proxy-mode`.
    pub mode: String,
    /// The version of the program.
    pub version: String,
    /// For how long, in seconds, the API server has been silent; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_server_silent_seconds: Option<f64>,
    /// Each IP family that the proxy serves.
    pub families: Vec<FamilyCheck>,
}
