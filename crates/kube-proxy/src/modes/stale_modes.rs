//! What other modes left on the node, and removing it: after a change of mode, and with `--cleanup`.
//!
//! After a change of mode, nothing is removed before the first sync of the new mode has succeeded. Until then the old rules serve.
//! From then on both are there, and either leads to ready endpoints. Established connections notice neither: their translation is in
//! conntrack, which keeps it as long as anything on the node does NAT, and the new mode does.
//! Those of the ipvs mode need more, which stays until they end.
//! That is also why the removal is not part of a sync and has a thread of its own: a large ruleset takes long to remove.

use std::thread;
use std::time::Duration;

use kube_proxy_core::{Frontend, IpFamily, Removed, SyncError};

use crate::modes::{self, ModeEntry, Running};
use crate::tasks;
use kube_proxy_config::Effective;

/// Longest time between two checks whether connections have ended.
const LONGEST: Duration = Duration::from_secs(15);

/// What to remove from one family once its new mode serves.
#[derive(Clone, Debug)]
pub struct StaleModeCleanup {
    /// The family.
    pub family: IpFamily,
    /// What is not to be touched.
    pub running: Running,
    /// How long to wait before another try at what could not be removed.
    pub retry: Duration,
}

impl StaleModeCleanup {
    /// Starts to remove, and continues until nothing is left. `removed_udp` is called with the UDP frontends that another mode had:
    /// their flows may still lead to its endpoints.
    pub fn start(self, removed_udp: impl Fn(Vec<Frontend>) + Send + 'static) {
        let name = format!("leftovers-{}", self.family);
        let started = tasks::thread(name, move || {
            let mut open: Vec<_> = modes::all()
                .map(|entry| Open { entry, told: Told::Nothing, udp: Vec::new() })
                .collect();
            loop {
                open.retain_mut(|open| {
                    if open.told == Told::Nothing {
                        open.udp = open.entry.udp_frontends(self.family, &self.running);
                    }
                    let is_gone = self.is_gone(open);
                    let udp = std::mem::take(&mut open.udp);
                    if !udp.is_empty() {
                        removed_udp(udp);
                    }
                    !is_gone
                });
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
            Ok(Removed::Referenced { chains }) => tracing::info!(
                %family,
                chains,
                "removed what mode {mode} had left, but for empty chains that rules of others lead to"
            ),
            Ok(Removed::Nothing) => tracing::debug!(%family, "mode {mode} had left nothing"),
            Ok(Removed::Waiting { connections }) => {
                if open.told == Told::Waiting {
                    tracing::debug!(%family, "mode {mode} still has {connections} open connections");
                } else {
                    tracing::info!(
                        %family,
                        "removed what mode {mode} had left, except what {connections} open connections need"
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
    /// The UDP frontends that it had before anything was removed.
    udp: Vec<Frontend>,
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
    for entry in modes::all() {
        for family in IpFamily::BOTH.into_iter().filter(|family| modes::host_has(*family)) {
            failed.extend(remove(entry, family, &nothing).err());
        }
    }
    failed
}

fn remove(entry: &ModeEntry, family: IpFamily, nothing: &Running) -> Result<(), String> {
    let mode = entry.mode;
    match entry.remove(family, nothing) {
        Ok(Removed::All) => tracing::info!("removed what mode {mode} had for {family}"),
        Ok(Removed::Referenced { chains }) => tracing::info!(
            chains,
            "removed what mode {mode} had for {family}, but for empty chains that rules of others lead to"
        ),
        Ok(Removed::Nothing) => tracing::info!("there is nothing of mode {mode} for {family}"),
        Ok(Removed::Waiting { connections }) => {
            return Err(format!("mode {mode}, {family}: {connections} connections are open"));
        }
        Err(SyncError::Unsupported(reason)) => {
            tracing::warn!("nothing to remove of mode {mode}, {family}: {reason}");
        }
        Err(error) => return Err(format!("mode {mode}, {family}: {error}")),
    }
    Ok(())
}
