//! What wakes the backend: the time of a look at what drains, and addresses of the node that come or go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use kube_proxy_core::CheckWaker;
use kube_proxy_netlink::route::{AddressChange, AddressMonitor, Wake};
use kube_proxy_netlink::wait::StopHandle;

/// Wakes at a time that is told.
#[derive(Debug)]
pub(crate) struct Alarm {
    sender: Sender<Option<Instant>>,
}

impl Alarm {
    /// Starts the thread, which ends with this value.
    pub(crate) fn start(waker: CheckWaker) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Option<Instant>>();
        thread::Builder::new().name("ipvs-drain".to_owned()).spawn(move || {
            let mut due: Option<Instant> = None;
            loop {
                let told = match due {
                    None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(at) => receiver.recv_timeout(at.saturating_duration_since(Instant::now())),
                };
                match told {
                    Ok(next) => due = next,
                    Err(RecvTimeoutError::Timeout) => {
                        due = None;
                        waker.wake();
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { sender })
    }

    /// Sets the time, in place of an earlier one.
    pub(crate) fn set(&self, due: Option<Instant>) {
        // Without the thread no backend is woken, and the periodic look finds what is due.
        let _ = self.sender.send(due);
    }
}

/// Wakes when addresses change on another interface than ours.
#[derive(Debug)]
pub(crate) struct AddressWatch {
    changed: Arc<AtomicBool>,
    own: Arc<AtomicU32>,
    _stop: StopHandle,
}

impl AddressWatch {
    /// Starts the thread, which ends with this value.
    pub(crate) fn start(waker: CheckWaker) -> Result<Self, String> {
        let (mut monitor, stop) = AddressMonitor::open().map_err(|error| error.to_string())?;
        let (changed, own) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (flag, index) = (changed.clone(), own.clone());
        let run = move || {
            loop {
                match monitor.wait(None) {
                    Ok(Wake::Changed(news)) => {
                        let own = index.load(Ordering::Relaxed);
                        if news.iter().any(|change| concerns_node(change, own)) {
                            flag.store(true, Ordering::Relaxed);
                            waker.wake();
                        }
                    }
                    Ok(Wake::TimedOut) => {}
                    Ok(Wake::Stopped) => return,
                    Err(error) => {
                        tracing::warn!(
                            %error,
                            "the watch of the node's addresses has ended; they are checked every sync period only"
                        );
                        return;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("ipvs-addresses".to_owned()).spawn(run);
        thread.map_err(|error| error.to_string())?;
        Ok(Self { changed, own, _stop: stop })
    }

    /// The interface whose changes are our own doing.
    pub(crate) fn ignore(&self, index: u32) {
        self.own.store(index, Ordering::Relaxed);
    }

    /// Whether something changed since the last call.
    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }
}

fn concerns_node(change: &AddressChange, own: u32) -> bool {
    match change {
        AddressChange::Present(address) | AddressChange::Gone(address) => address.interface != own,
        AddressChange::Missed => true,
    }
}
