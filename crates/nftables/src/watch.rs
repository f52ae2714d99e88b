//! Watches the table for changes by others, and ignores all other changes of the ruleset.
//!
//! A thread waits for the kernel's notices and requests a check when one is about the table and not from our own socket.
//! A check reads the notices too, so that it knows of every earlier change, whether the thread has run or not.

use std::sync::{Arc, Mutex, Weak};

use kube_proxy_core::{CheckWaker, IpFamily};
use kube_proxy_netlink::nf_tables::{Monitor, Notice};
use kube_proxy_netlink::wait::StopHandle;
use kube_proxy_netlink::{Error, Family};

use crate::element::SetId;
use crate::layout::{TABLE, set_name};
use crate::listen::{self, Listener, lock};

/// What the kernel notified since the last check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Notification {
    /// No change by others.
    None,
    /// Notices were lost: a change by others is possible.
    Lost,
    /// A change by others.
    Changed,
}

/// The watch over the table of one family. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Mutex<Shared>>,
    group: WatchGroup,
    _stop: StopHandle,
}

/// The watches of all backends in one network namespace.
///
/// The kernel sends each element of a transaction to every listener, of whichever family, which takes it ten times as long as the
/// transaction itself. So while one backend of a group writes a large transaction, no watch of the group listens.
#[derive(Clone, Debug, Default)]
pub struct WatchGroup(Arc<Mutex<Vec<Weak<Mutex<Shared>>>>>);

impl WatchGroup {
    fn add(&self, watch: &Arc<Mutex<Shared>>) {
        lock(&self.0).push(Arc::downgrade(watch));
    }

    fn members(&self) -> Vec<Arc<Mutex<Shared>>> {
        let mut members = lock(&self.0);
        members.retain(|watch| watch.strong_count() > 0);
        members.iter().filter_map(Weak::upgrade).collect()
    }
}

#[derive(Debug)]
struct Shared {
    monitor: Monitor,
    filter: NotificationFilter,
    waker: CheckWaker,
    /// A check was requested and has not come yet.
    requested: bool,
    /// Number of guards that pause the watch.
    pauses: usize,
}

/// Reduces notices to one notification.
#[derive(Debug)]
struct NotificationFilter {
    own: SelfPort,
    seen: Notification,
    /// The kernel sends nothing any more.
    broken: bool,
}

/// The family, and the netlink port from which our own changes come.
#[derive(Clone, Copy, Debug)]
struct SelfPort {
    family: u8,
    port: u32,
}

impl Watch {
    /// Watches in the network namespace of this thread; our own changes come from the netlink port `port`.
    pub(crate) fn start(
        family: IpFamily,
        port: u32,
        waker: CheckWaker,
        group: &WatchGroup,
    ) -> Result<Self, Error> {
        let (monitor, waiter, stop) = Monitor::open()?;
        let number = match family {
            IpFamily::V4 => Family::V4.number(),
            IpFamily::V6 => Family::V6.number(),
        };
        let filter = NotificationFilter::new(SelfPort { family: number, port });
        let shared = Shared { monitor, filter, waker, requested: false, pauses: 0 };
        let shared = Arc::new(Mutex::new(shared));
        group.add(&shared);
        listen::start(format!("watch-{family}"), waiter, Arc::clone(&shared))?;
        Ok(Self { shared, group: group.clone(), _stop: stop })
    }

    /// The notification since the last call; `None` if the kernel sends nothing any more.
    pub(crate) fn take(&self) -> Option<Notification> {
        let mut shared = lock(&self.shared);
        shared.read();
        shared.requested = false;
        let seen = std::mem::replace(&mut shared.filter.seen, Notification::None);
        (!shared.filter.broken).then_some(seen)
    }

    /// Pauses all watches of the group until [`PauseGuard::end`].
    pub(crate) fn pause(&self) -> PauseGuard {
        let paused = self.group.members();
        for shared in &paused {
            lock(shared).pause();
        }
        PauseGuard { paused }
    }
}

/// Watches that do not listen.
#[derive(Debug)]
pub(crate) struct PauseGuard {
    paused: Vec<Arc<Mutex<Shared>>>,
}

impl PauseGuard {
    /// Listens again, and requests checks unless the ruleset is unchanged but for our own transaction.
    pub(crate) fn end(self, unchanged: impl FnOnce() -> bool) {
        for shared in &self.paused {
            lock(shared).resume();
        }
        if !unchanged() {
            for shared in &self.paused {
                lock(shared).lose();
            }
        }
    }
}

impl Shared {
    fn pause(&mut self) {
        self.pauses += 1;
        if self.pauses == 1
            && let Err(error) = self.monitor.pause()
        {
            tracing::debug!(%error, "cannot pause the watch of the table for a large transaction");
        }
    }

    fn resume(&mut self) {
        self.pauses -= 1;
        if self.pauses == 0
            && let Err(error) = self.monitor.resume()
        {
            self.filter.give_up(&error);
        }
    }

    fn lose(&mut self) {
        self.filter.lose();
        self.request_check();
    }

    fn read(&mut self) {
        let Self { monitor, filter, .. } = self;
        if !filter.broken {
            let result = monitor.notices(|notice| filter.take(&notice));
            filter.end(result);
        }
    }

    fn request_check(&mut self) {
        if self.filter.seen > Notification::None && !self.requested {
            self.requested = true;
            self.waker.wake();
        }
    }
}

impl NotificationFilter {
    fn new(own: SelfPort) -> Self {
        Self { own, seen: Notification::None, broken: false }
    }

    fn take(&mut self, notice: &Notice<'_>) {
        if self.own.is_touched_by(notice) {
            self.seen = Notification::Changed;
        }
    }

    /// `result` is how reading all pending notices ended.
    fn end(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => {}
            // A message that cannot be read is as good as lost.
            Err(Error::Lost { .. } | Error::Malformed { .. }) => self.lose(),
            Err(error) => self.give_up(&error),
        }
    }

    fn lose(&mut self) {
        self.seen = self.seen.max(Notification::Lost);
    }

    fn give_up(&mut self, error: &Error) {
        self.broken = true;
        tracing::warn!(
            %error,
            "the watch of the table has ended; changes by others are found every sync period only"
        );
    }
}

impl SelfPort {
    /// Whether this is a change of the table by others. Ending a client's session early does no damage.
    fn is_touched_by(self, notice: &Notice<'_>) -> bool {
        notice.table == TABLE
            && notice.family == self.family
            && notice.port != self.port
            && !notice.elements_gone_from.as_deref().is_some_and(is_of_sessions)
    }
}

fn is_of_sessions(set: &str) -> bool {
    SetId::ALL.into_iter().any(|id| id.holds_sessions() && set_name(id) == set)
}

impl Listener for Shared {
    fn receive(&mut self) -> bool {
        self.read();
        self.request_check();
        !self.filter.broken
    }

    fn give_up(&mut self, error: &Error) {
        self.filter.give_up(error);
    }
}

#[cfg(test)]
mod tests;
