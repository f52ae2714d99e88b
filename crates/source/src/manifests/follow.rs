//! Noticing that files changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::FollowTiming;

/// Files that never stop changing are read after this many quiet times that did not come.
const MAX_DEBOUNCES: u32 = 20;

/// Waits for changes in directories.
pub(super) struct Changes {
    timing: FollowTiming,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    noticed: Arc<Notify>,
}

impl Changes {
    /// `path` is what the directories belong to.
    pub(super) fn new(timing: FollowTiming, path: &Path) -> Self {
        let neighbours = Neighbours::of(path);
        let noticed = Arc::new(Notify::new());
        let notifier = noticed.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            let matters = event.map_or(true, |event| {
                is_change(event.kind) && !event.paths.iter().all(|path| neighbours.contain(path))
            });
            if matters {
                notifier.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler);
        let watcher = watcher.map_err(|e| {
            let seconds = timing.poll.as_secs_f32();
            tracing::warn!("manifests are only looked at every {seconds} s: {e}");
        });
        Self { timing, watcher: watcher.ok(), watched: BTreeSet::new(), noticed }
    }

    /// Watches these directories and no others.
    pub(super) fn watch(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for gone in self.watched.difference(directories) {
            // A directory that was removed is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        // Known ones are watched again too: another directory may stand at the same path by now.
        let mut watch = |directory: &PathBuf| {
            let watching = watcher.watch(directory, RecursiveMode::NonRecursive);
            watching.is_ok()
        };
        let directories = directories.iter();
        self.watched = directories.filter(|d| watch(d)).cloned().collect();
    }

    /// Waits until something changed and it is quiet again, or it is time to look anyway.
    pub(super) async fn wait(&mut self) {
        if timeout(self.timing.poll, self.noticed.notified()).await.is_err() {
            return;
        }
        let debounce = self.timing.debounce;
        let deadline = Instant::now() + debounce.saturating_mul(MAX_DEBOUNCES);
        while Instant::now() < deadline && self.is_noticed_within(debounce).await {}
    }

    async fn is_noticed_within(&self, time: Duration) -> bool {
        timeout_at(Instant::now() + time, self.noticed.notified()).await.is_ok()
    }
}

/// What stands beside a directory of manifests: its parent is only watched because the directory itself may be replaced.
struct Neighbours(Option<(PathBuf, OsString)>);

impl Neighbours {
    fn of(path: &Path) -> Self {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let name = path.file_name().filter(|_| path.is_dir());
        Self(name.map(|name| (parent.to_owned(), name.to_owned())))
    }

    fn contain(&self, changed: &Path) -> bool {
        self.0.as_ref().is_some_and(|(parent, own)| {
            changed.parent() == Some(parent) && changed.file_name() != Some(own)
        })
    }
}

/// Reading a file, as this source does, is no change.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests;
