//! Manifest files as a source: Services, EndpointSlices, Nodes and ServiceCIDRs without a cluster.
//!
//! A file or a directory of YAML and JSON is read, and read again whenever it changes. As long as a document of a file cannot be read,
//! the objects that the file had before stay, except those that its other documents define again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube_proxy_core::{Event, Trust};

use crate::Sink;
use crate::context::Context;
use crate::problem::Problem;
use crate::problems::Problems;

mod document;
mod files;
mod fill;
mod follow;
mod place;
mod state;
mod yaml;

use follow::Changes;
use state::State;

/// Reads manifests and follows their changes.
pub struct ManifestSource {
    state: State,
    problems: Problems,
    timing: FollowTiming,
}

/// How changes to manifests are noticed.
#[derive(Clone, Copy, Debug)]
pub struct FollowTiming {
    /// After the first notice of a change, the quiet time that is waited for: editors write in several steps.
    pub debounce: Duration,
    /// Without any notice the files are looked at this often.
    pub poll: Duration,
}

impl Default for FollowTiming {
    fn default() -> Self {
        Self { debounce: Duration::from_millis(30), poll: Duration::from_secs(5) }
    }
}

/// The manifests cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// There is nothing at the path, or it cannot be read.
    #[error("manifests {path}: {source}")]
    Path {
        /// The path that was given.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
}

impl ManifestSource {
    /// A source for a file, or for a directory and everything in it that ends in `.yaml`, `.yml` or `.json`.
    ///
    /// # Errors
    /// There is nothing at the path, or it cannot be read. What is wrong in a file is a [`Problem`] and no error.
    pub fn new(
        path: impl Into<PathBuf>,
        node_name: impl Into<String>,
        problems: Problems,
    ) -> Result<Self, ManifestError> {
        let path = path.into();
        if let Err(source) = files::check(&path) {
            return Err(ManifestError::Path { path, source });
        }
        Ok(Self {
            state: State::new(path, node_name.into(), Context::default()),
            problems,
            timing: FollowTiming::default(),
        })
    }

    /// Changes which addresses objects may name.
    #[must_use]
    pub fn with_trust(mut self, trust: Trust) -> Self {
        self.state.set_context(Context::new(trust));
        self
    }

    /// Changes how changes are noticed.
    #[must_use]
    pub fn with_timing(mut self, timing: FollowTiming) -> Self {
        self.timing = timing;
        self
    }

    /// Reads everything and follows its changes until the future is dropped; it never ends by itself.
    ///
    /// Has to be awaited on a tokio runtime with time. Files are read on a thread for blocking work.
    pub async fn run(self, sink: Sink) {
        let Self { mut state, problems, timing } = self;
        let mut changes = Changes::new(timing, state.path());
        loop {
            // Watches come first, so that no change falls between watching and reading.
            let watched = state.directories();
            changes.watch(&watched);
            let reading = tokio::task::spawn_blocking(move || {
                let outcome = state.reload();
                (state, outcome)
            });
            let (read, outcome) = match reading.await {
                Ok(read) => read,
                // To continue with half of what is needed helps no client.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime ends.
                Err(_) => return std::future::pending().await,
            };
            state = read;
            if let Some(outcome) = outcome {
                state::report(&outcome, &problems);
                outcome.events.into_iter().for_each(|event| sink(event));
            }
            if state.directories() == watched {
                changes.wait().await;
            }
            // Else there are new directories: they are read again once they are watched.
        }
    }
}

/// Reads manifests once: the events that a list of every kind consists of, and what is wrong.
pub fn load(path: &Path, node_name: &str) -> (Vec<Event>, Vec<Problem>) {
    let mut state = State::new(path.to_owned(), node_name.to_owned(), Context::default());
    match state.reload() {
        Some(outcome) => (outcome.events, outcome.problems),
        None => (Vec::new(), Vec::new()),
    }
}

/// Reads the text of a file: how many objects it has, and how many problems.
#[cfg(feature = "fuzzing")]
pub(crate) fn parse(text: &str) -> (usize, usize) {
    let file = std::sync::Arc::from(Path::new("manifest.yaml"));
    let parsed = document::parse(&file, text, "node", &Context::default());
    (parsed.objects.len(), parsed.problems.len())
}

#[cfg(test)]
mod tests;
