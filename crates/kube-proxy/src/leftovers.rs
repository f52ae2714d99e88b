//! What other modes left on the node, and removing it: after a change of mode, and with `--cleanup`.
//!
//! After a change of mode, nothing is removed before the first sync of the new mode has succeeded. Until then the old rules serve.
//! From then on both are there, and either leads to ready endpoints. Established connections notice neither: their translation is in
//! conntrack, which keeps it as long as anything on the node does NAT, and the new mode does.
//! Those of the ipvs mode need more, which stays until they end.
//! That is also why the removal is not part of a sync and has a thread of its own: a large ruleset takes long to remove.

use std::thread;
use std::time::Duration;

use kube_proxy_core::{IpFamily, Removed, SyncError};

use crate::backends::{self, ModeEntry, Running};
use crate::config::Effective;

/// Longest time between two looks whether connections have ended.
const LONGEST: Duration = Duration::from_secs(15);

/// What to remove from one family once its new mode serves.
#[derive(Clone, Debug)]
pub struct Leftovers {
    /// The family.
    pub family: IpFamily,
    /// What is not to be touched.
    pub running: Running,
    /// How long to wait before another try at what could not be removed.
    pub retry: Duration,
}

impl Leftovers {
    /// Starts to remove, and goes on until nothing is left.
    pub fn start(self) {
        let name = format!("leftovers-{}", self.family);
        let started = thread::Builder::new().name(name).spawn(move || {
            let mut open: Vec<_> =
                backends::modes().map(|entry| Open { entry, told: Told::Nothing }).collect();
            loop {
                open.retain_mut(|open| !self.is_gone(open));
                if open.is_empty() {
                    return;
                }
                let waits = open.iter().any(|open| open.told == Told::Waiting);
                thread::sleep(if waits { self.retry.min(LONGEST) } else { self.retry });
            }
        });
        if let Err(error) = started {
            tracing::warn!("what other modes left stays: cannot start a thread: {error}");
        }
    }

    /// Tries to remove it. The same is told once, in spite of many tries.
    fn is_gone(&self, open: &mut Open) -> bool {
        let (mode, family) = (open.entry.mode, self.family);
        match open.entry.remove(family, &self.running) {
            Ok(Removed::All) => tracing::info!(%family, "removed what mode {mode} had left"),
            Ok(Removed::Nothing) => tracing::debug!(%family, "mode {mode} had left nothing"),
            Ok(Removed::Waiting { connections }) => {
                if open.told == Told::Waiting {
                    tracing::debug!(%family, "{connections} connections of mode {mode} go on");
                } else {
                    tracing::info!(
                        %family,
                        "removed what mode {mode} had left, but for what {connections} connections need that go on"
                    );
                }
                open.told = Told::Waiting;
                return false;
            }
            Err(SyncError::Unsupported(reason)) => {
                tracing::debug!(%family, "not looking for what mode {mode} may have left: {reason}");
            }
            Err(error) => {
                let reason = error.to_string();
                let told = Told::Failure(reason.clone());
                if open.told != told {
                    tracing::warn!(
                        %family,
                        "cannot remove what mode {mode} left, trying again every {:.0?}: {reason}",
                        self.retry
                    );
                }
                open.told = told;
                return false;
            }
        }
        true
    }
}

/// A mode of which something may be left.
struct Open {
    entry: &'static ModeEntry,
    told: Told,
}

/// What the log says of it already.
#[derive(PartialEq)]
enum Told {
    Nothing,
    Waiting,
    Failure(String),
}

/// Removes everything of all modes, from both families. What could not be removed, in words.
pub fn remove_all(config: &Effective) -> Vec<String> {
    let nothing = Running::of(config);
    let mut failed = Vec::new();
    for entry in backends::modes() {
        for family in IpFamily::BOTH.into_iter().filter(|family| backends::host_has(*family)) {
            failed.extend(remove(entry, family, &nothing).err());
        }
    }
    failed
}

fn remove(entry: &ModeEntry, family: IpFamily, nothing: &Running) -> Result<(), String> {
    let mode = entry.mode;
    match entry.remove(family, nothing) {
        Ok(Removed::All) => tracing::info!("removed what mode {mode} had for {family}"),
        Ok(Removed::Nothing) => tracing::info!("there is nothing of mode {mode} for {family}"),
        Ok(Removed::Waiting { connections }) => {
            return Err(format!("mode {mode}, {family}: {connections} connections go on"));
        }
        Err(SyncError::Unsupported(reason)) => {
            tracing::warn!("nothing to remove of mode {mode}, {family}: {reason}");
        }
        Err(error) => return Err(format!("mode {mode}, {family}: {error}")),
    }
    Ok(())
}
