//! File descriptors: each connection takes two, each UDP client one, each listening port one.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the limit is raised to unless an administrator raised it further.
const WANTED: u64 = 1 << 16;

/// What everything but the data path may need.
const SPARE: u64 = 128;

/// The most that one service port may hold, however many there are.
const MOST: u64 = 1 << 16;

/// How many descriptors the data paths of this process may take together.
static BUDGET: AtomicU64 = AtomicU64::new(0);

/// How many they have taken.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Descriptors that are accounted for until dropped.
#[derive(Debug)]
pub(crate) struct Descriptors(u64);

impl Descriptors {
    pub(crate) fn take(count: u64) -> Self {
        TAKEN.fetch_add(count, Relaxed);
        Self(count)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Relaxed);
    }
}

/// How many descriptors one service port may hold now: as many as are free.
/// With one port that takes all it can get half are free, with two a third: there are always some for the others.
pub(crate) fn share() -> u64 {
    BUDGET.load(Relaxed).saturating_sub(TAKEN.load(Relaxed)).min(MOST)
}

/// Raises the limit of open files as far as this process may.
pub(crate) fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.max(WANTED);
    // Above the hard limit it takes CAP_SYS_RESOURCE.
    let raised = [(wanted, wanted), (hard, hard)]
        .into_iter()
        .find(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, *soft, *hard).is_ok());
    match raised {
        Some((now, _)) if now > soft => tracing::info!("open files: limit raised to {now}"),
        _ => {}
    }
    let limit = raised.map_or(soft, |(limit, _)| limit);
    BUDGET.store(limit.saturating_sub(SPARE), Relaxed);
}

/// Errors of one kind that come in crowds: the first is logged, and again the first after things went well.
#[derive(Debug, Default)]
pub(crate) struct LogOnce(AtomicBool);

impl LogOnce {
    /// Runs `tell` unless that was done since the last success.
    pub(crate) fn once(&self, tell: impl FnOnce()) {
        if !self.0.swap(true, Relaxed) {
            tell();
        }
    }

    /// It went well.
    pub(crate) fn over(&self) {
        if self.0.load(Relaxed) {
            self.0.store(false, Relaxed);
        }
    }
}

/// Whether there is no descriptor, memory or local port left for one more socket.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL)
    )
}
