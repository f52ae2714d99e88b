//! Hears of what others do to the table, at once, and says nothing about all else.
//!
//! A thread waits for the kernel's notices and asks for a look when one is about the table and not from our own socket.
//! Who looks takes the notices too: what happened before a look is known to it, whether the thread has run or not.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, Weak};

use kube_proxy_core::{IpFamily, Waker};
use kube_proxy_netlink::nf_tables::{Monitor, Notice};
use kube_proxy_netlink::wait::StopHandle;
use kube_proxy_netlink::{Error, Family};

use crate::element::SetId;
use crate::layout::{TABLE, set_name};
use crate::listen::{self, Listener, lock};

/// What is known of the table since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Heard {
    /// Nobody else touched it.
    Nothing,
    /// Notices are missing: somebody may have.
    NotAll,
    /// Somebody did.
    Damage,
}

/// The watch over the table of one family. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Mutex<Shared>>,
    net: u64,
    _stop: StopHandle,
}

#[derive(Debug)]
struct Shared {
    monitor: Monitor,
    ear: Ear,
    waker: Waker,
    /// The look that was asked for has not come yet.
    asked: bool,
    /// How many ask for quiet.
    pauses: usize,
}

/// What was heard so far.
#[derive(Debug)]
struct Ear {
    own: Own,
    heard: Heard,
    /// The kernel no longer tells anything.
    broken: bool,
}

/// What concerns us, and what we do ourselves.
#[derive(Clone, Copy, Debug)]
struct Own {
    family: u8,
    port: u32,
}

impl Watch {
    /// Watches in the network namespace of this thread; `port` is the number of the socket from which our own changes come.
    pub(crate) fn start(family: IpFamily, port: u32, waker: Waker) -> Result<Self, Error> {
        let (monitor, waiter, stop) = Monitor::open()?;
        let number = match family {
            IpFamily::V4 => Family::V4.number(),
            IpFamily::V6 => Family::V6.number(),
        };
        let ear = Ear::new(Own { family: number, port });
        let shared = Arc::new(Mutex::new(Shared { monitor, ear, waker, asked: false, pauses: 0 }));
        let net = network_namespace();
        lock(&WATCHES).push((net, Arc::downgrade(&shared)));
        listen::start(format!("watch-{family}"), waiter, Arc::clone(&shared))?;
        Ok(Self { shared, net, _stop: stop })
    }

    /// What was heard since the last time; `None` if the kernel no longer tells.
    pub(crate) fn take(&self) -> Option<Heard> {
        let mut shared = lock(&self.shared);
        shared.read();
        shared.asked = false;
        let heard = std::mem::replace(&mut shared.ear.heard, Heard::Nothing);
        (!shared.ear.broken).then_some(heard)
    }

    /// Nobody of this process listens until [`Quiet::end`], so that the kernel need not tell each element of a large transaction:
    /// that takes it ten times as long as the transaction itself.
    pub(crate) fn pause(&self) -> Quiet {
        let all = all_of(self.net);
        for shared in &all {
            lock(shared).pause();
        }
        Quiet { all }
    }
}

/// While it is there, nobody of this process listens.
#[derive(Debug)]
pub(crate) struct Quiet {
    all: Vec<Arc<Mutex<Shared>>>,
}

impl Quiet {
    /// Listens again, and asks for looks unless the ruleset is still as it was left.
    pub(crate) fn end(self, still_as_left: impl FnOnce() -> bool) {
        for shared in &self.all {
            lock(shared).resume();
        }
        if !still_as_left() {
            for shared in &self.all {
                lock(shared).miss();
            }
        }
    }
}

/// The watches of this process with the network namespaces that they are in: those of both families, as a rule.
static WATCHES: Mutex<Vec<(u64, Weak<Mutex<Shared>>)>> = Mutex::new(Vec::new());

fn all_of(net: u64) -> Vec<Arc<Mutex<Shared>>> {
    let mut watches = lock(&WATCHES);
    watches.retain(|(_, watch)| watch.strong_count() > 0);
    let here = watches.iter().filter(|(its_net, _)| *its_net == net);
    here.filter_map(|(_, watch)| watch.upgrade()).collect()
}

/// The number of this thread's network namespace.
fn network_namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino())
}

impl Shared {
    fn pause(&mut self) {
        self.pauses += 1;
        if self.pauses == 1
            && let Err(error) = self.monitor.pause()
        {
            tracing::debug!("listening on while a large transaction is written: {error}");
        }
    }

    fn resume(&mut self) {
        self.pauses -= 1;
        if self.pauses == 0
            && let Err(error) = self.monitor.resume()
        {
            self.ear.give_up(&error);
        }
    }

    fn miss(&mut self) {
        self.ear.miss();
        self.ask();
    }

    /// Takes in what the kernel has told.
    fn read(&mut self) {
        let Self { monitor, ear, .. } = self;
        if !ear.broken {
            let result = monitor.notices(|notice| ear.hear(&notice));
            ear.end(result);
        }
    }

    fn ask(&mut self) {
        if self.ear.heard > Heard::Nothing && !self.asked {
            self.asked = true;
            self.waker.wake();
        }
    }
}

impl Ear {
    fn new(own: Own) -> Self {
        Self { own, heard: Heard::Nothing, broken: false }
    }

    fn hear(&mut self, notice: &Notice<'_>) {
        if self.own.is_touched_by(notice) {
            self.heard = Heard::Damage;
        }
    }

    /// After all notices that there were.
    fn end(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => {}
            // The buffer overflowed; or a message made no sense, which comes to the same.
            Err(Error::Lost { .. } | Error::Malformed { .. }) => self.miss(),
            Err(error) => self.give_up(&error),
        }
    }

    fn miss(&mut self) {
        self.heard = self.heard.max(Heard::NotAll);
    }

    fn give_up(&mut self, error: &Error) {
        self.broken = true;
        tracing::warn!(
            "changes of the nftables ruleset by others are only noticed every sync period from now on: {error}"
        );
    }
}

impl Own {
    /// Whether somebody else touched the table. Whoever ends a session early does no damage.
    fn is_touched_by(self, notice: &Notice<'_>) -> bool {
        notice.table == TABLE
            && notice.family == self.family
            && notice.port != self.port
            && !notice.elements_gone_from.is_some_and(is_of_sessions)
    }
}

fn is_of_sessions(set: &str) -> bool {
    SetId::ALL.into_iter().any(|id| id.holds_sessions() && set_name(id) == set)
}

impl Listener for Shared {
    fn hear(&mut self) -> bool {
        self.read();
        self.ask();
        !self.ear.broken
    }

    fn give_up(&mut self, error: &Error) {
        self.ear.give_up(error);
    }
}

#[cfg(test)]
mod tests;
