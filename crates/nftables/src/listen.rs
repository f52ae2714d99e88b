//! Threads that wait for the kernel's notices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use kube_proxy_netlink::wait::{Ready, Waiter};
use kube_proxy_netlink::{Errno, Error};

/// A listener on a thread of its own, shared with other threads.
pub(crate) trait Listener: Send + 'static {
    /// Reads everything that is pending; `false` ends the thread, because nothing more will come.
    fn receive(&mut self) -> bool;

    /// Waiting failed; the thread ends.
    fn give_up(&mut self, error: &Error);
}

/// Starts the thread, which ends when the waiter is stopped.
pub(crate) fn start<T: Listener>(
    name: String,
    waiter: Waiter,
    listener: Arc<Mutex<T>>,
) -> Result<(), Error> {
    let run = move || {
        loop {
            match waiter.wait(None) {
                Ok(Ready::Stopped) => return,
                Ok(Ready::MayRead) => {
                    if !lock(&listener).receive() {
                        return;
                    }
                }
                Err(error) => return lock(&listener).give_up(&error),
            }
        }
    };
    thread::Builder::new().name(name).spawn(run).map(drop).map_err(|error| Error::Open {
        protocol: "netlink",
        call: "start a thread to listen",
        errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
    })
}

/// Locks also after a panic: notices are processed one by one, so the state is consistent.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
