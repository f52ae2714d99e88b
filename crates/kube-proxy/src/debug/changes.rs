//! The answer of `/debug/changes`: the last changes of Services and endpoints that reached the node.

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::services::Family;

/// The last changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Changes {
    /// The name of the node.
    pub node: String,
    /// The proxy mode, as in `--proxy-mode`.
    pub mode: String,
    /// The state of each IP family that the proxy serves; `changesSince` says how far back the changes are complete.
    pub families: Vec<Family>,
    /// The changes of all families, the last first.
    pub changes: Vec<Change>,
}
