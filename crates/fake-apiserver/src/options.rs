//! Settings of the server.

use std::time::Duration;

/// Settings that hold for as long as a server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version at `/version`.
    pub version: String,
    /// How many changes of one resource the history holds; older resourceVersions give 410.
    pub history_window: usize,
    /// How often watches that allow them get bookmarks.
    pub bookmark_interval: Duration,
    /// How long a watch lives that does not say `timeoutSeconds`.
    pub watch_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: "v1.36.0".to_owned(),
            history_window: 65_536,
            bookmark_interval: Duration::from_mins(1),
            watch_timeout: Duration::from_mins(30),
        }
    }
}
