//! Waiting for notifications on a socket, until it is stopped.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::Error;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// There may be something to read, or the time is over.
    MayRead,
    /// A [`StopHandle`] was used.
    Stopped,
}

/// Ends a wait from another thread, for good. Dropping all of them does the same.
#[derive(Clone, Debug)]
pub struct StopHandle {
    writer: Arc<Mutex<Option<PipeWriter>>>,
}

impl StopHandle {
    /// Ends the wait now, and every later one.
    pub fn stop(&self) {
        // Closing the pipe is the signal; a poisoned lock holds the same writer.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Waits for a socket that other code reads.
#[derive(Debug)]
pub struct Waiter {
    socket: OwnedFd,
    stop: PipeReader,
    object: &'static str,
}

impl Waiter {
    /// Waits for this socket; `object` says in errors what for.
    pub(crate) fn new(
        socket: &impl AsFd,
        object: &'static str,
    ) -> Result<(Self, StopHandle), Error> {
        let failed = |call| {
            move |error: std::io::Error| Error::Open {
                protocol: object,
                call,
                errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
            }
        };
        let socket = socket.as_fd().try_clone_to_owned().map_err(failed("dup"))?;
        let (stop, writer) = std::io::pipe().map_err(failed("pipe"))?;
        let writer = Arc::new(Mutex::new(Some(writer)));
        Ok((Self { socket, stop, object }, StopHandle { writer }))
    }

    /// Waits until `read` finds something that counts, the timeout ends (`None` is never), or a handle stops it: then `false`.
    pub(crate) fn wait_until(
        &self,
        timeout: Option<Duration>,
        mut read: impl FnMut() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let remaining = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if self.wait(remaining)? == Ready::Stopped {
                return Ok(false);
            }
            if read()? || remaining.is_some_and(|remaining| remaining.is_zero()) {
                return Ok(true);
            }
        }
    }

    /// Blocks until there is something to read, a handle stops it, or the timeout ends, `None` being never.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Ready, Error> {
        // Rounded up, so that a wait does not spin through its last millisecond.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            let whole = timeout.saturating_add(Duration::from_nanos(999_999));
            PollTimeout::try_from(whole).unwrap_or(PollTimeout::MAX)
        });
        let mut polled = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, timeout) {
            // A signal: the caller looks at the time and waits again.
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Receive { object: self.object.to_owned(), errno }),
        }
        let stopped = polled[1].revents().is_some_and(|events| !events.is_empty());
        Ok(if stopped { Ready::Stopped } else { Ready::MayRead })
    }
}
