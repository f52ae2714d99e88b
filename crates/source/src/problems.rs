//! Which objects have problems now, each logged once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube_proxy_core::Kind;

use crate::problem::{Problem, Subject, kind_text};

/// Most objects whose problems are kept; what is beyond is only counted.
const MAX_SUBJECTS: usize = 1000;

/// The register of problems. Cloning gives another handle to the same register.
///
/// A problem is logged when it appears, when it changes and when it comes back after it was repaired; never because an object was
/// listed again. Problems leave with the object that has them.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    inner: Arc<Mutex<Inner>>,
}

/// Numbers for metrics, of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InvalidCount {
    /// Objects that have problems now.
    pub current: u64,
    /// How often an object was found with a problem that it did not have before.
    pub total: u64,
}

#[derive(Debug, Default)]
struct Inner {
    subjects: HashMap<Subject, Entry>,
    lists: HashMap<&'static str, u64>,
    totals: BTreeMap<&'static str, u64>,
    overflow_logged: bool,
}

#[derive(Debug)]
struct Entry {
    problems: Vec<Problem>,
    list: u64,
}

impl Problems {
    /// An empty register.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what is wrong with an object now; nothing means that it is all right.
    pub fn set(&self, subject: &Subject, problems: Vec<Problem>) {
        let mut inner = self.lock();
        if problems.is_empty() {
            if let Some(entry) = inner.subjects.remove(subject) {
                tracing::info!(problems = entry.problems.len(), "{subject}: no problem any more");
            }
        } else {
            inner.keep(subject, problems);
        }
    }

    /// The object is gone, and its problems with it.
    pub fn forget(&self, subject: &Subject) {
        self.lock().subjects.remove(subject);
    }

    /// A list of a kind begins; objects that are not [`set`](Self::set) until [`list_done`](Self::list_done) are gone then.
    pub fn list_started(&self, kind: Kind) {
        *self.lock().lists.entry(kind_text(kind)).or_default() += 1;
    }

    /// A list of a kind is complete.
    pub fn list_done(&self, kind: Kind) {
        self.sweep(kind_text(kind));
    }

    /// What holds now, in no particular order. At most a fixed number of objects is kept.
    pub fn current(&self) -> Vec<Problem> {
        let inner = self.lock();
        let all = inner.subjects.values();
        all.flat_map(|entry| entry.problems.iter().cloned()).collect()
    }

    /// Numbers for metrics by kind: `Service`, `EndpointSlice`, `Node`, `ServiceCIDR` and, for manifests, `document`.
    pub fn counts(&self) -> BTreeMap<&'static str, InvalidCount> {
        let inner = self.lock();
        let mut counts: BTreeMap<&'static str, InvalidCount> = BTreeMap::new();
        for (kind, total) in &inner.totals {
            counts.entry(kind).or_default().total = *total;
        }
        for subject in inner.subjects.keys() {
            counts.entry(subject.kind()).or_default().current += 1;
        }
        counts
    }

    /// Starts a list of documents, like [`list_started`](Self::list_started).
    pub(crate) fn documents_started(&self) {
        *self.lock().lists.entry("document").or_default() += 1;
    }

    /// Ends a list of documents.
    pub(crate) fn documents_done(&self) {
        self.sweep("document");
    }

    fn sweep(&self, kind: &'static str) {
        let mut inner = self.lock();
        let list = inner.list_of(kind);
        inner.subjects.retain(|subject, entry| subject.kind() != kind || entry.list == list);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn list_of(&self, kind: &'static str) -> u64 {
        self.lists.get(kind).copied().unwrap_or_default()
    }

    fn keep(&mut self, subject: &Subject, problems: Vec<Problem>) {
        let list = self.list_of(subject.kind());
        let full = self.subjects.len() >= MAX_SUBJECTS;
        if !full {
            self.overflow_logged = false;
        }
        match self.subjects.get_mut(subject) {
            Some(entry) => {
                entry.list = list;
                if same(&entry.problems, &problems) {
                    entry.problems = problems;
                    return;
                }
                log(&problems, &entry.problems);
                entry.problems = problems;
            }
            None if full => {
                if !std::mem::replace(&mut self.overflow_logged, true) {
                    tracing::warn!(
                        "more than {MAX_SUBJECTS} objects have problems; further ones are only counted"
                    );
                }
            }
            None => {
                log(&problems, &[]);
                let entry = Entry { problems, list };
                self.subjects.insert(subject.clone(), entry);
            }
        }
        *self.totals.entry(subject.kind()).or_default() += 1;
    }
}

/// Whether two lists of problems say the same. Where a problem is written does not matter: lines move.
fn same(old: &[Problem], new: &[Problem]) -> bool {
    old.len() == new.len() && new.iter().all(|problem| known(old, problem))
}

fn known(old: &[Problem], new: &Problem) -> bool {
    old.iter().any(|p| p.field == new.field && p.value == new.value && p.reason == new.reason)
}

fn log(problems: &[Problem], old: &[Problem]) {
    for problem in problems.iter().filter(|problem| !known(old, problem)) {
        tracing::warn!("{problem}");
    }
}

#[cfg(test)]
mod tests;
