//! One log line for each cause of trouble, not for each attempt.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube_proxy_core::Kind;

/// A cause that lasts is logged again after this time.
const REPEAT: Duration = Duration::from_mins(10);
/// A cause that comes back within this time after all was well is not logged again.
const FLAP: Duration = Duration::from_mins(1);
/// Most causes that are remembered.
const MAX_CAUSES: usize = 32;

/// Which kinds cannot be listed or watched at present, and what was logged about it.
#[derive(Debug)]
pub(super) struct Outages {
    server: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Since when each kind fails.
    failing: HashMap<Kind, Instant>,
    /// When each cause was last logged. Numbers in it do not make a cause another one.
    logged: HashMap<String, Instant>,
    announced: bool,
}

impl Outages {
    pub(super) fn new(server: String) -> Self {
        Self { server, inner: Mutex::default() }
    }

    /// A list or watch of a kind failed, which was `listed` completely before or not. `true` if that was logged as news.
    pub(super) fn failed(&self, kind: Kind, cause: &str, listed: bool, delay: Duration) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.failing.entry(kind).or_insert(now);
        let meanwhile = if listed {
            "the last known state is kept".to_owned()
        } else {
            format!("waiting for the first list of {kind}s")
        };
        let key: String = cause.chars().filter(|c| !c.is_ascii_digit()).collect();
        let known = inner.logged.get(&key);
        if known.is_some_and(|logged| now - *logged < REPEAT) {
            tracing::debug!(%kind, ?delay, "Kubernetes API {}: {cause}; retrying", self.server);
            return false;
        }
        if inner.logged.len() >= MAX_CAUSES {
            inner.logged.clear();
        }
        inner.logged.insert(key, now);
        inner.announced = true;
        tracing::warn!(
            %kind,
            "Kubernetes API {}: {cause}; {meanwhile}, retrying",
            self.server
        );
        true
    }

    /// A kind is listed or watched again. `true` if that was logged as news.
    pub(super) fn recovered(&self, kind: Kind) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        let Some(since) = inner.failing.remove(&kind) else {
            return false;
        };
        if !inner.failing.is_empty() || !std::mem::take(&mut inner.announced) {
            return false;
        }
        inner.logged.retain(|_, logged| now - *logged < FLAP);
        let seconds = (now - since).as_secs();
        tracing::info!("Kubernetes API {} answers again after {seconds} s", self.server);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
