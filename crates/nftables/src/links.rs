//! Watches for interfaces that are added or removed.

use std::sync::{Arc, Mutex};

use kube_proxy_core::{CheckWaker, IpFamily};
use kube_proxy_netlink::Error;
use kube_proxy_netlink::route::LinkMonitor;
use kube_proxy_netlink::wait::StopHandle;

use crate::listen::{self, Listener, lock};

/// The watch over the interfaces. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    shared: Arc<Mutex<Shared>>,
    _stop: StopHandle,
}

#[derive(Debug)]
struct Shared {
    monitor: LinkMonitor,
    changed: bool,
    waker: CheckWaker,
    /// The kernel sends nothing any more.
    broken: bool,
}

impl LinkWatch {
    /// Watches in the network namespace of this thread.
    pub(crate) fn start(family: IpFamily, waker: CheckWaker) -> Result<Self, Error> {
        let (monitor, waiter, stop) = LinkMonitor::open()?;
        let shared = Shared { monitor, changed: false, waker, broken: false };
        let shared = Arc::new(Mutex::new(shared));
        listen::start(format!("links-{family}"), waiter, Arc::clone(&shared))?;
        Ok(Self { shared, _stop: stop })
    }

    /// Whether interfaces may have changed since the last call.
    pub(crate) fn take(&self) -> bool {
        let mut shared = lock(&self.shared);
        shared.read();
        std::mem::take(&mut shared.changed) || shared.broken
    }
}

impl Shared {
    fn read(&mut self) {
        if self.broken {
            return;
        }
        match self.monitor.changed() {
            Ok(changed) => self.changed |= changed,
            Err(error) => self.give_up(&error),
        }
    }
}

impl Listener for Shared {
    fn receive(&mut self) -> bool {
        let before = self.changed;
        self.read();
        if self.changed && !before {
            self.waker.wake();
        }
        !self.broken
    }

    fn give_up(&mut self, error: &Error) {
        self.broken = true;
        tracing::warn!(
            %error,
            "the watch of interfaces has ended; new ones join the fast path every sync period only"
        );
    }
}
