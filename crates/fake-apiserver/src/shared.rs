//! The state that the server thread and the handle share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch::{Receiver, Sender};

use super::count::Costs;
use super::faults::FaultState;
use super::options::Options;
use super::requests::RequestLog;
use super::resource::{RESOURCES, TypeId};
use super::store::Store;

/// Everything that a request reads and a test changes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    store: Mutex<Store>,
    faults: Mutex<FaultState>,
    log: Mutex<RequestLog>,
    open_watches: Mutex<[usize; RESOURCES.len()]>,
    wake: Sender<u64>,
    pub(super) costs: Arc<Costs>,
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        Self {
            store: Mutex::new(Store::new(options.history_window)),
            options,
            faults: Mutex::default(),
            log: Mutex::default(),
            open_watches: Mutex::default(),
            wake: Sender::new(0),
            costs: Arc::default(),
        }
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, FaultState> {
        lock(&self.faults)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, RequestLog> {
        lock(&self.log)
    }

    /// Lets all watches look at the store and the faults again.
    pub(super) fn wake(&self) {
        self.wake.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn subscribe(&self) -> Receiver<u64> {
        self.wake.subscribe()
    }

    pub(super) fn watch_opened(&self, kind: TypeId) {
        lock(&self.open_watches)[kind.index()] += 1;
    }

    pub(super) fn watch_closed(&self, kind: TypeId) {
        lock(&self.open_watches)[kind.index()] -= 1;
    }

    pub(super) fn open_watches(&self, kind: TypeId) -> usize {
        lock(&self.open_watches)[kind.index()]
    }
}

/// A thread that panicked while holding the lock was a test's; the state is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
