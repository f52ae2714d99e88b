//! File descriptors: each connection takes two, each UDP client one, each listening port one.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the limit is raised to where nobody raised it further.
const WANTED: u64 = 1 << 16;

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
}

/// Errors of one kind that come in crowds: the first is logged, and again the first after things went well.
#[derive(Debug, Default)]
pub(crate) struct Complaint(AtomicBool);

impl Complaint {
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
