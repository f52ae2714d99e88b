//! One copy of every string that many objects repeat.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many strings are kept before unused ones are looked for.
const MIN_LIMIT: usize = 1024;

/// Hands out shared strings, so that namespaces, service names, port names and zones exist once in memory.
///
/// Strings that nothing uses any more are dropped when the number of strings has doubled, so it stays in proportion to what is in use.
/// Cloning gives another handle to the same strings.
#[derive(Clone, Debug, Default)]
pub struct Names {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashSet<Arc<str>>,
    limit: usize,
}

impl Names {
    /// The shared copy of a string.
    pub fn get(&self, text: &str) -> Arc<str> {
        let mut inner = self.lock();
        if let Some(known) = inner.known.get(text) {
            return known.clone();
        }
        if inner.known.len() >= inner.limit.max(MIN_LIMIT) {
            inner.known.retain(|name| Arc::strong_count(name) > 1);
            inner.limit = inner.known.len() * 2;
        }
        let new: Arc<str> = text.into();
        inner.known.insert(new.clone());
        new
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().known.len()
    }
}

#[cfg(test)]
mod tests;
