//! A change of the configuration file ends the process, so that its supervisor starts it again with the new one.
//!
//! Only a file that loads, and to another configuration, counts: a comment, a `touch` or a ConfigMap that is published again changes nothing,
//! and a file that cannot be used is reported while the proxy continues with what it has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use kube_proxy_config::{self as config, Command, ConfigError, Loaded, Start};

/// After a notice the file is left alone for so long: writers take several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Without any notice the file is looked at this often.
const LOOK: Duration = Duration::from_mins(1);

/// What a look at the file says.
#[derive(Debug)]
enum Look {
    /// The configuration is the one in use.
    Same,
    /// It is another one.
    Other,
    /// It cannot be used.
    Broken(ConfigError),
}

/// Follows the file that `loaded` came from; ends with an error when it holds another configuration. Without a file it never ends.
pub async fn follow(start: &Start<'_>, loaded: &Loaded) -> anyhow::Result<()> {
    let file = loaded.config_file.as_ref();
    // What is no file can be read once only: a pipe, for instance, would be waited for.
    let Some(path) = file.filter(|path| path.is_file()) else {
        return std::future::pending().await;
    };
    let noticed = Arc::new(Notify::new());
    let mut watch = Watch::new(path, &noticed);
    let mut told = None;
    loop {
        // Set up before the look, so that no change falls between.
        watch.renew();
        match look(start, loaded) {
            Look::Same => told = None,
            Look::Other => {
                return Err(anyhow!("{} has changed: restarting", path.display()));
            }
            Look::Broken(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::error!(
                        "the new configuration is not used, the old one stays in use: {error}"
                    );
                }
                told = Some(error);
            }
        }
        if timeout(LOOK, noticed.notified()).await.is_ok() {
            while timeout(QUIET, noticed.notified()).await.is_ok() {
                sleep(QUIET / 10).await;
            }
        }
    }
}

/// Loads the configuration again, as at the start.
fn look(start: &Start<'_>, loaded: &Loaded) -> Look {
    match config::load(start) {
        Ok(Command::Configured(new))
            if (&new.effective, &new.configuration)
                == (&loaded.effective, &loaded.configuration) =>
        {
            Look::Same
        }
        Ok(_) => Look::Other,
        Err(error) => Look::Broken(error),
    }
}

/// Watches a file, and the directories in which it, or what it links to, can be replaced. In the mount of a ConfigMap that is the link
/// `..data` beside it.
struct Watch<'a> {
    path: &'a Path,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl<'a> Watch<'a> {
    fn new(path: &'a Path, noticed: &Arc<Notify>) -> Self {
        let notifier = noticed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_))) {
                notifier.notify_one();
            }
        });
        let watcher = watcher.map_err(|error| {
            let seconds = LOOK.as_secs();
            tracing::warn!("{} is only looked at every {seconds} s: {error}", path.display());
        });
        Self { path, watcher: watcher.ok(), watched: BTreeSet::new() }
    }

    /// Watches what is to be watched now: links lead elsewhere after a change.
    fn renew(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = places(self.path);
        for gone in self.watched.difference(&wanted) {
            // What was removed is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        let mut watch = |place: &PathBuf| watcher.watch(place, RecursiveMode::NonRecursive).is_ok();
        self.watched = wanted.into_iter().filter(|place| watch(place)).collect();
    }
}

fn places(path: &Path) -> BTreeSet<PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut places = BTreeSet::from([parent(path)]);
    if let Ok(real) = std::fs::canonicalize(path) {
        places.insert(parent(&real));
        // A file that is mounted by itself changes without word from any directory.
        places.insert(real);
    }
    places
}

#[cfg(test)]
mod tests;
